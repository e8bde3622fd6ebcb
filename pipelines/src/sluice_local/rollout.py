"""Walk a rollout through event time: a window of traffic, a look, at most one commit; until it ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import polars as pl

from sluice.content import write_bytes
from sluice.documents.event_time import iso, moment_of
from sluice.documents.evidence import Cells, Evidence
from sluice.documents.state import Applied, ReleaseState
from sluice.documents.verdict import Decision, Reason, Verdict
from sluice.errors import BadInput
from sluice.evidence.history import with_history
from sluice.evidence.prediction_source import PredictionSource, WindowLog
from sluice.evidence.recheck import recheck_cells
from sluice.evidence.source import EvidenceSource
from sluice.features.parity import FeatureHistory
from sluice.gitops.writer import Snapshot
from sluice.models.bundle import BundleManifest, load_bundle
from sluice.predictions.windows import list_windows
from sluice.rollout.advance import Advice, advance, look
from sluice.rollout.drain import remove_server
from sluice_local.world import LocalWorld

LOOKS = "looks.jsonl"


def walk_rollout(world: LocalWorld, record: Path, *, interrupt: bool) -> None:
    """
    Go on with the rollout that Git says is going on, to its end, and take the server that it leaves over away; does
    nothing where neither is there.

    Started again after a kill, it first looks again at the last whole window: if the decision on it was committed
    before the kill, Git has moved on and the look is about the next stage; if not, it decides the same now.
    """
    snapshot = world.gitops.snapshot()
    if snapshot.state.rollout:
        _walk(_Walk(world, record, interrupt=interrupt), snapshot)
    if world.gitops.snapshot().state.leftover:
        _take_server_away(world)


def _walk(walk: _Walk, snapshot: Snapshot) -> None:
    world = walk.world
    moment = walk.position(snapshot.state)
    world.events.emit("step", name="start serving")
    world.publisher.reset(moment)
    if moment > moment_of(snapshot.state.since or ""):
        snapshot = walk.look(world.reconciler.sync(), moment)
    while snapshot.state.rollout is not None:
        applied = world.reconciler.sync()
        end = moment + timedelta(hours=snapshot.policy.online.look_every_hours)
        if end > world.task.splits.end:
            rule = "ran out of recorded traffic"
            raise BadInput(f"rollout {snapshot.state.rollout}", rule, "shorten the policy's stages")
        walk.send(snapshot.state, moment, end)
        moment = end
        snapshot = walk.look(applied, moment)


def _take_server_away(world: LocalWorld) -> None:
    """One commit, at the event time of the rollout's end, when what serves is as that said."""
    applied = world.reconciler.sync()
    world.gitops.commit(lambda fresh: remove_server(fresh, applied, fresh.state.since or ""))
    world.reconciler.sync()


@dataclass
class _Walk:
    """One rollout on its way."""

    world: LocalWorld
    record: Path
    interrupt: bool

    @property
    def _predictions(self) -> Path:
        return self.world.workspace.predictions / self.world.story.environment

    @cached_property
    def _source(self) -> EvidenceSource:
        task, workspace = self.world.task, self.world.workspace

        @cache
        def manifest(digest: str) -> BundleManifest:
            return load_bundle(workspace.bundle(digest), digest).manifest

        def recheck(rows: pl.DataFrame, manifest: BundleManifest) -> Cells:
            return recheck_cells(rows, manifest, FeatureHistory.of_store(task, workspace.features))

        return PredictionSource(WindowLog(self._predictions, task), task, manifest, recheck)

    @cached_property
    def _run(self) -> Mapping[str, Any]:
        candidate = self.world.gitops.snapshot().state.candidate
        decisions = [decision for decision in self.world.gitops.decisions() if decision.candidate == candidate]
        return decisions[-1].run if decisions else {}

    def position(self, state: ReleaseState) -> datetime:
        """Where event time stands: the end of the last whole window, or the start of the stage."""
        since = moment_of(state.since or "")
        ends = [window.end for window in list_windows(self._predictions) if window.start >= since]
        return max([since, *ends])

    def send(self, state: ReleaseState, start: datetime, end: datetime) -> None:
        """Send the window's requests, unless its file is there already."""
        window = (iso(start), iso(end))

        def progress(requests_done: int, total: int) -> None:
            self.world.events.emit(
                "traffic",
                done=requests_done,
                total=total,
                stage=state.stage,
                weight=state.candidate_weight,
                now=window[1],
                window=window,
                interrupt=self.interrupt,
            )

        self.world.traffic.progress = progress
        self.world.traffic.window(start, end, state)

    def look(self, applied: Applied, moment: datetime) -> Snapshot:
        """
        Judge all that is known at ``moment``, write the look down, commit what it decides; returns the new state.

        Nothing is judged when a person ended the rollout meanwhile.
        """
        now = iso(moment)
        snapshot = self.world.gitops.snapshot()
        if snapshot.state.rollout is None:
            return snapshot
        evidence = self._source.read(snapshot.state, snapshot.policy, applied, moment)
        if proposal := self.world.gitops.proposal_of(snapshot.state):
            evidence = with_history(evidence, proposal.evidence)
        advice = advance(snapshot.state, evidence, snapshot.policy, now)
        self._write_down(snapshot.state, evidence, advice, now)

        def decide(fresh: Snapshot) -> Decision | None:
            return look(fresh, evidence, now, self._run)

        self.world.gitops.commit(decide)
        return self.world.gitops.snapshot()

    def _write_down(self, state: ReleaseState, evidence: Evidence, advice: Advice, now: str) -> None:
        entry = {
            "now": now,
            "stage": state.stage,
            "weight": state.candidate_weight,
            "action": advice.action,
            "verdict": advice.verdict.value,
            "n": evidence.candidate.n if evidence.candidate else 0,
            "reasons": [reason.model_dump(mode="json") for reason in advice.reasons],
        }
        path = self.record / LOOKS
        earlier = [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
        looks = [*(one for one in earlier if one["now"] != now), entry]
        write_bytes(path, b"".join(json.dumps(one, sort_keys=True).encode() + b"\n" for one in looks))
        why = _verdict_lines(advice.reasons, advice.verdict)
        summary = {key: entry[key] for key in ("now", "stage", "weight", "action", "verdict")}
        self.world.events.emit("look", **summary, why=why)


def _verdict_lines(reasons: tuple[Reason, ...], verdict: Verdict) -> str:
    if verdict is Verdict.PASS:
        return ""
    return next((f"{reason.rule}: {reason.text}" for reason in reasons if reason.verdict is verdict), "")
