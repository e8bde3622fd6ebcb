"""
A release history with everything in it, played against a real repository, and restartable like a real controller:
where it stands is read from Git and from the prediction windows alone.

    a  bootstrap ─► stable
    b  shadow ─► canary 20 ─► canary 50 ─► confirm ─► stable
    d  held by a person
    c  breaks in the canary ─► rolled back, held;  proposed again ─► refused
    e  refused offline
    f  shadows ─► a person ends it
    d  hold lifted
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from sluice.content import write_json
from sluice.documents.event_time import iso, moment_of
from sluice.documents.file import read_document
from sluice.documents.state import Applied, ReleaseState
from sluice.documents.verdict import Decision
from sluice.gitops.writer import GitOps, Snapshot
from sluice.operations.operator import add_hold, release_hold, roll_back
from sluice.predictions.log import LogWriter, read_lines, window_frame, window_path, write_window
from sluice.predictions.windows import list_windows
from sluice.rollout.advance import look, propose
from sluice.rollout.drain import remove_server
from tests.faults import sample


def _truth(state: ReleaseState) -> dict[str, sample.Behaviour]:
    """c is fine until users meet it."""
    return {} if state.stage == "shadow" else {sample.digest("c"): sample.BAD}


class World:
    """One environment on disk: repository, prediction log and windows, and what the cluster says that it does."""

    def __init__(self, home: Path, remote: Path | None = None) -> None:
        self.home = home
        self.gitops = GitOps(remote or home / "gitops.git", sample.ENVIRONMENT, clone=home / "clone")
        self.windows, self.log, self.cluster = home / "predictions", home / "log", home / "applied.json"

    def seed(self) -> None:
        """The first commit, unless it is there."""
        self.gitops.seed(sample.write_checkout(self.home / "checkout"))

    def sync(self) -> Applied:
        """Make the cluster what Git says, and read back what it does: here a file, replaced whole."""
        snapshot = self.gitops.snapshot()
        applied = sample.applied_of(snapshot.state).model_copy(update={"commit": snapshot.commit})
        write_json(self.cluster, applied.model_dump(mode="json"))
        return read_document(self.cluster, Applied, "the cluster's answer")

    def state_at(self, moment: datetime) -> ReleaseState:
        """What Git said then; a controller that lags behind another one has later states before it."""
        known = [made.after for made in self.gitops.decisions() if made.now <= iso(moment)]
        return ReleaseState.model_validate(known[-1])

    def send(self, start: datetime) -> None:
        """Serve one window's requests and collect what was logged, unless its file is there."""
        path = window_path(self.windows, start, start + sample.LOOK)
        if path.exists():
            return
        state = self.state_at(start)
        writer = LogWriter(self.log / "server.jsonl")
        writer.write(sample.requests(state, start, 0, _truth(state)))
        writer.close()
        end = iso(start + sample.LOOK)
        lines = [line for line in read_lines(self.log, {}) if iso(start) <= line["event_time"] < end]
        write_window(path, window_frame(lines))

    def position(self, state: ReleaseState) -> datetime:
        """The end of the last window of this rollout, or its beginning."""
        begun = min(moment_of(made.now) for made in self.gitops.decisions() if made.after["rollout"] == state.rollout)
        return max([begun, *(window.end for window in list_windows(self.windows) if window.start >= begun)])

    def look(self, applied: Applied, moment: datetime) -> ReleaseState:
        """Judge what is known and commit what it decides."""
        state = self.gitops.snapshot().state
        if state.rollout is None:
            return state
        rows = sample.rows_of(self.windows, state, moment)
        evidence = sample.evidence_from(rows, state, applied, moment)

        def decide(snapshot: Snapshot) -> Decision | None:
            return look(snapshot, evidence, iso(moment), {"id": "play"})

        self.gitops.commit(decide)
        return self.gitops.snapshot().state

    def walk(self, candidate: str) -> None:
        """Go on with this candidate's rollout, to its end; another one that is going on is another step's."""
        state = self.gitops.snapshot().state
        if state.candidate == candidate:
            self._walk(state)
        self.drain()

    def drain(self) -> None:
        """Take the server of a rollout that is over away, when what serves is read back as its end said."""
        if self.gitops.snapshot().state.leftover:
            applied = self.sync()
            self.gitops.commit(lambda fresh: remove_server(fresh, applied, fresh.state.since or ""))
            self.sync()

    def _walk(self, state: ReleaseState) -> None:
        moment = self.position(state)
        if moment > moment_of(state.since or ""):
            state = self.look(self.sync(), moment)
        while state.rollout is not None:
            applied = self.sync()
            self.send(moment)
            moment += sample.LOOK
            state = self.look(applied, moment)

    def propose(self, name: str, moment: datetime, *, passed: bool = True) -> None:
        """Propose a candidate; the same proposal twice is one decision."""
        reasons = sample.PASSED if passed else sample.FAILED
        run = {"id": f"run-{iso(moment)}"}
        self.gitops.commit(
            lambda snapshot: propose(snapshot, sample.digest(name), reasons, {"auc": 0.8}, run, iso(moment))
        )

    def said(self, reason: str) -> bool:
        """Whether a person's decision with this reason is in the ledger; a person looks before saying it again."""
        return any(made.evidence.get("reason") == reason for made in self.gitops.decisions())


Step = Callable[[World], None]


def _at(hours: float) -> datetime:
    return sample.BEGIN + timedelta(hours=hours)


def _proposed(name: str, hours: float, *, passed: bool = True, then_walk: bool = True) -> Step:
    def step(world: World) -> None:
        world.propose(name, _at(hours), passed=passed)
        if then_walk:
            world.walk(sample.digest(name))

    return step


def _person(reason: str, act: Callable[[GitOps, str], object]) -> Step:
    def step(world: World) -> None:
        if not world.said(reason):
            act(world.gitops, reason)
        world.drain()

    return step


STEPS: tuple[Step, ...] = (
    _proposed("a", 0),
    _proposed("b", 2),
    _person("known to be bad", lambda gitops, why: add_hold(gitops, sample.digest("d"), why, "kim", iso(_at(7.5)))),
    _proposed("c", 8),
    _proposed("c", 21),
    _proposed("e", 22, passed=False),
    _proposed("f", 23, then_walk=False),
    _person("complaints", lambda gitops, why: roll_back(gitops, why, "kim", iso(_at(24)))),
    _person("mended", lambda gitops, why: release_hold(gitops, sample.digest("d"), why, "kim", iso(_at(25)))),
)


def play(home: Path, remote: Path | None = None, steps: Sequence[Step] = STEPS) -> None:
    """Play the history, or some steps of it, from wherever it stands."""
    world = World(home, remote)
    world.seed()
    for step in steps:
        step(world)


if __name__ == "__main__":
    play(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
