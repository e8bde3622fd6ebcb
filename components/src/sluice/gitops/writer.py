"""
Git as the state machine: one decision is one commit on the environment's repository.

    snapshot ─► decide ─► commit object ─► push (compare-and-swap) ─┬─ accepted: CommittedDecision
        ▲                                                           └─ rejected: somebody else was first
        └───────────────────── decide again on the fresh base ──────────┘

The push is the only moment at which anything changes, and it changes everything at once: release file, holds and
decision record. Killed before it, nothing happened; killed after it, all of it did.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sluice.content import digest_of_bytes
from sluice.documents.verdict import Decision
from sluice.errors import BadArtifact, Busy
from sluice.git.command import GitFailed, create_bare
from sluice.git.pace import Pace
from sluice.git.repository import UnreachableError
from sluice.git.turn import in_turn
from sluice.gitops.break_glass import Glass, decision_of, effective
from sluice.gitops.reader import ReleaseReader
from sluice.ledger.record import decode_record
from sluice.ledger.record_files import changed_files, next_record
from sluice.ledger.trail import read_records, read_trail
from sluice.release.snapshot import (
    Snapshot,
    parse_state,
    seed_files,
)
from sluice.rollout.message import commit_message

__all__ = ["CommittedDecision", "GitOps", "Snapshot", "UnreachableError"]

LONGEST_SECONDS = 300.0
"""In which every race was lost, before the writer gives up; however many races these were."""


@dataclass(frozen=True)
class CommittedDecision:
    """A decision and the commit that holds it."""

    commit: str
    decision: Decision


class GitOps(ReleaseReader):
    """
    Reads and writes the release of one environment; break-glass records lie beside the clone.

    Args:
        remote: path or URL of the repository that Argo CD (or its stand-in) follows.
        environment: which overlay.
        clone: where the private bare copy lives; by default beside a local remote.
        seed: of the waiting times between lost races.
        patience_s: as of ``Clone``: for when the state here matters more than the newest one.
    """

    def __init__(
        self,
        remote: Path | str,
        environment: str,
        *,
        clone: Path | None = None,
        seed: int = 0,
        patience_s: float | None = None,
    ) -> None:
        super().__init__(remote, environment, clone, patience_s)
        self._pace = Pace(seed)
        self.glass = Glass(self.clone.directory.with_name("break-glass") / f"{environment}.json")

    def seed(self, checkout: Path, now: str = "2013-01-01T00:00:00Z") -> str:
        """
        The first commit, where there is none: manifests and kustomization of a checkout. Returns the newest one.

        Raises:
            BadInput, BadArtifact: the checkout lacks a file of this environment, or one of them is wrong.
        """
        create_bare(Path(self.remote))
        with self.clone.lock():
            try:
                return self.clone.fetch()
            except GitFailed:
                files = seed_files(checkout)
            state = parse_state(self.environment, files.get)
            subject = f"{state.task} {self.environment}: manifests and gate policy, nothing released yet\n"
            self.clone.push(self.clone.commit(None, files, subject, now))
            return self.fetch()

    def serving_snapshot(self) -> Snapshot:
        """
        What has to be brought about. While a break-glass rollback stands: the last state seen, with it done, at once.

        Raises:
            as ``snapshot``, where no break-glass rollback stands.
        """
        record = self.glass.pending_record()
        if record is None:
            return self.snapshot()
        with self.without_policy():
            known = self.last_known()
        return replace(known, state=effective(known.state, record))

    def commit(self, decide: Callable[[Snapshot], Decision | None]) -> CommittedDecision | None:
        """
        Let ``decide`` look at the newest state and write what it decides; ``None`` from it writes nothing.

        After a lost race it is asked again, about the fresh state. A decision whose id is already in the history is
        returned as it stands there. Its ``after`` becomes the release file; a record changes nothing else. A
        break-glass rollback that stands is written first.

        Raises:
            BadInput: the repository cannot be read or written.
            BadArtifact: the release file or the holds were edited into nonsense, or the history was rewritten.
            Busy: other writers won every race for ``LONGEST_SECONDS``.
        """
        with in_turn(self.remote), self.clone.one_reader():
            return self._raced(decide, self.reconcile)

    def record(self, decide: Callable[[Snapshot], Decision]) -> Decision:
        """As ``commit`` where something is always decided; returns the decision as it is in the history."""
        commit = self.commit(decide)
        if commit is None:
            raise AssertionError("a decision is always recorded")
        return commit.decision

    def reconcile(self) -> CommittedDecision | None:
        """
        Write the break-glass rollback that stands, if one does: one commit, however often this is called or killed.

        Raises: as ``commit``.
        """
        if self.glass.pending_record() is None:
            return None
        with self.glass.lock(wait=True):
            record = self.glass.pending_record()
            if record is None:
                return None
            with self.without_policy():
                commit = self._raced(lambda snapshot: decision_of(record, snapshot), lambda: None)
            self.glass.remove()
            return commit

    def _raced(
        self, decide: Callable[[Snapshot], Decision | None], before: Callable[[], object]
    ) -> CommittedDecision | None:
        end, pause, lost = time.monotonic() + LONGEST_SECONDS, self._pace.first(), ""
        while True:
            time.sleep(pause)
            start = time.monotonic()
            before()
            snapshot = self.snapshot()
            written = self._found(snapshot.commit, lost)
            if written is None:
                decision = decide(snapshot)
                written, lost = (self._write(snapshot, decision), decision.id) if decision else (None, "")
            if written or not lost:
                self._pace.won()
                return written
            if time.monotonic() > end:
                rule = f"other writers were first for {LONGEST_SECONDS:g} s"
                raise Busy(self.remote, rule, "try again when they are done")
            pause = self._pace.lost(time.monotonic() - start)

    def _found(self, tip: str, decision_id: str) -> CommittedDecision | None:
        """The decision whose race was lost, where another writer made the same."""
        if not decision_id:
            return None
        with self.clone.lock():
            return self._known(tip, decision_id)

    def _write(self, snapshot: Snapshot, decision: Decision) -> CommittedDecision | None:
        with self.clone.lock():
            try:
                if known := self._known(snapshot.commit, decision.id):
                    return known
                path, record = next_record(self.clone, snapshot.commit, decision)
                files = {path: record} | changed_files(self.clone, snapshot, decision)
                message = commit_message(decision, digest_of_bytes(record))
                commit = self.clone.commit(snapshot.commit, files, message, decision.now)
                if (record_here := self.glass.pending_record()) and record_here.id != decision.id:
                    return None  # the glass was broken meanwhile: that goes first
                landed = self.clone.push(commit)
            except GitFailed as failed:
                if not self.clone.is_whole():
                    self.replaced()
                    return None
                # the answer may have been lost after the push landed: the history knows
                if known := self._known(self.fetch(), decision.id):
                    return known
                raise self.unreachable("written", failed) from failed
            return CommittedDecision(commit, decision) if landed else None

    def _known(self, tip: str, decision_id: str) -> CommittedDecision | None:
        commit = read_trail(self.clone, tip).commit_of(decision_id)
        if commit is None:
            return None
        records = read_records(self.clone, [commit])
        if commit not in records:
            rule = f"names {decision_id} and brings no record"
            raise BadArtifact(f"commit {commit[:12]}", rule, "see `sluice ledger verify`")
        path, text = records[commit]
        return CommittedDecision(commit, decode_record(text, path).decision)
