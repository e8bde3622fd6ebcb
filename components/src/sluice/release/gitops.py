"""
Git as the state machine: one decision is one commit on the environment's repository.

    snapshot ─► decide ─► commit object ─► push (compare-and-swap) ─┬─ accepted: Written
        ▲                                                           └─ rejected: somebody else was first
        └───────────────────── decide again on the fresh base ──────────┘

The push is the only moment at which anything changes, and it changes everything at once: release file, holds and
decision record. Killed before it, nothing happened; killed after it, all of it did.
"""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sluice.content import digest_of_bytes
from sluice.errors import BadArtifact, BadInput, Busy
from sluice.gates.verdict import Decision
from sluice.release.break_glass import Glass, decision_of, effective
from sluice.release.clone import HistoryRewrittenError
from sluice.release.git import GitFailed, create_bare
from sluice.release.history import History, read_commits
from sluice.release.message import commit_message
from sluice.release.record import decode_record
from sluice.release.record_files import changed_files, list_records, next_record
from sluice.release.repository import Repository, UnreachableError
from sluice.release.snapshot import (
    OVERLAYS,
    Snapshot,
    overlay_of,
    parse_snapshot,
    parse_state,
    paths_of,
    present,
    seed_files,
)
from sluice.release.state import ReleaseState
from sluice.release.trail import Step, Trail, read_records, read_trail
from sluice.release.turn import in_turn

__all__ = ["GitOps", "Snapshot", "UnreachableError", "Written"]

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
ATTEMPTS = 40
"""Lost races before the writer gives up."""


@dataclass(frozen=True)
class Written:
    """A decision and the commit that holds it."""

    commit: str
    decision: Decision


class GitOps(Repository):
    """
    Reads and writes the release of one environment.

    Args:
        remote: path or URL of the repository that Argo CD (or its stand-in) follows.
        environment: which overlay.
        clone: where the private bare copy lives; by default beside a local remote. Break-glass records lie beside it.
        seed: of the waiting times after a lost race.
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
        super().__init__(remote, clone, patience_s)
        if not _NAME.fullmatch(environment):
            raise BadInput(f"environment {environment!r}", "is not a name", "use small letters, digits and hyphens")
        self.environment = environment
        self._jitter = random.Random(seed)  # noqa: S311  spreads retries, no secret
        self._last: Snapshot | None = None
        self.glass = Glass(self.clone.directory.with_name("break-glass") / f"{environment}.json")

    @property
    def _overlay(self) -> str:
        return overlay_of(self.environment)

    def seed(self, checkout: Path, now: str = "2013-01-01T00:00:00Z") -> str:
        """
        The first commit, where there is none: manifests and kustomization of a checkout. Returns the newest one.

        Raises:
            BadInput, BadArtifact: the checkout lacks a file of this environment, or one of them is wrong.
        """
        create_bare(Path(self.remote))
        with self.clone.held():
            try:
                return self.clone.fetch()
            except GitFailed:
                files = seed_files(checkout)
            state = parse_state(self.environment, files.get)
            subject = f"{state.task} {self.environment}: manifests and gate policy, nothing released yet\n"
            self.clone.push(self.clone.commit(None, files, subject, now))
            return self.clone.fetch()

    def snapshot(self) -> Snapshot:
        """
        The state and the policy at the newest commit.

        Raises:
            BadInput: the repository cannot be read, or its policy is wrong.
            BadArtifact: the release file or the holds were edited into nonsense, or the history was rewritten.
        """
        return self.newest(self._snapshot)

    def last_known(self, *, ask: bool = False) -> Snapshot:
        """
        The newest state and policy that were seen here; the repository is not asked, or (``ask``) need not answer.

        Raises:
            BadInput: nothing was seen here.
        """
        with self.clone.held() if ask else self.clone.unheld():
            try:
                with contextlib.suppress(GitFailed, HistoryRewrittenError):
                    return self._snapshot(self.clone.fetch())
                commit = self.clone.last_known()
            except GitFailed:
                commit = None
            if commit is None:
                rule = f"has no copy of {self.remote}, and that cannot be read"
                raise BadInput(str(self.clone.directory), rule, "restore the repository")
            return self._snapshot(commit)

    def served(self) -> Snapshot:
        """
        What has to be brought about. While a break-glass rollback stands: the last state seen, with it done, at once.

        Raises:
            as ``snapshot``, where no break-glass rollback stands.
        """
        record = self.glass.standing()
        if record is None:
            return self.snapshot()
        known = self.last_known()
        return replace(known, state=effective(known.state, record))

    def commit(self, decide: Callable[[Snapshot], Decision | None]) -> Written | None:
        """
        Let ``decide`` look at the newest state and write what it decides; ``None`` from it writes nothing.

        After a lost race it is asked again, about the fresh state. A decision whose id is already in the history is
        returned as it stands there. Its ``after`` becomes the release file; a record changes nothing else. A
        break-glass rollback that stands is written first.

        Raises:
            BadInput: the repository cannot be read or written.
            BadArtifact: the release file or the holds were edited into nonsense, or the history was rewritten.
            Busy: other writers won every race.
        """
        with in_turn(self.remote):
            return self._raced(decide, self.reconcile)

    def reconcile(self) -> Written | None:
        """
        Write the break-glass rollback that stands, if one does: one commit, however often this is called or killed.

        Raises: as ``commit``.
        """
        if self.glass.standing() is None:
            return None
        with self.glass.held(wait=True):
            record = self.glass.standing()
            if record is None:
                return None
            written = self._raced(lambda snapshot: decision_of(record, snapshot), lambda: None)
            self.glass.remove()
            return written

    def _raced(self, decide: Callable[[Snapshot], Decision | None], before: Callable[[], object]) -> Written | None:
        for attempt in range(ATTEMPTS):
            started = time.monotonic()
            before()
            snapshot = self.snapshot()
            decision = decide(snapshot)
            if decision is None:
                return None
            if written := self._write(snapshot, decision):
                return written
            # who has lost often waits least, so that nobody loses for ever
            spent = time.monotonic() - started
            time.sleep(self._jitter.uniform(0, min(1.0, spent * max(1, 8 - attempt))))
        raise Busy(self.remote, f"other writers were first {ATTEMPTS} times", "try again when they are done")

    def decisions(self) -> list[Decision]:
        """All decisions of this environment, oldest first."""
        return [decode_record(text, path).decision for path, text in self.records()]

    def records(self) -> list[tuple[str, bytes]]:
        """Path and bytes of every decision record, oldest first, unparsed."""
        return self.newest(self._records)

    def latest(self, commit: str) -> list[Decision]:
        """The newest decision of each stage and action at a commit that was read before, oldest first."""
        with self.clone.held():
            listed = list_records(self.clone, commit, self.environment)
            newest = {path.rpartition("/")[2].partition("-")[2]: path for path in listed}
            paths = sorted(newest.values(), key=list(listed).index)
            texts = self.clone.read([listed[path] for path in paths])
        return [decode_record(present(text, path), path).decision for path, text in zip(paths, texts, strict=True)]

    def trail(self, commit: str | None = None) -> Trail:
        """What the commits up to one that was read before (default: the newest) say of their decisions; no record."""
        if commit is None:
            return self.newest(lambda tip: read_trail(self.clone, tip))
        with self.clone.held():
            return read_trail(self.clone, commit)

    def records_of(self, steps: Sequence[Step]) -> list[tuple[Step, str, Decision]]:
        """
        Path and decision of each step of this environment's trail; a step that brought no record is left out.

        Raises:
            BadArtifact: a record is not one.
        """
        with self.clone.held():
            found = read_records(self.clone, [step.commit for step in steps], self._overlay)
        told = [(step, *found[step.commit]) for step in steps if step.commit in found]
        return [(step, path, decode_record(text, path).decision) for step, path, text in told]

    def history(self) -> History:
        """
        Every commit of the branch, and every record.

        Raises:
            BadInput: the repository cannot be read.
            BadArtifact: one of its objects is missing or broken.
        """

        def read(tip: str) -> History:
            return History(self._overlay, read_commits(self.clone, tip), dict(self._records(tip)))

        try:
            return self.newest(read)
        except GitFailed as failed:
            rule = f"has broken objects ({failed.said})"
            raise BadArtifact(self.remote, rule, "`git fsck` names them; restore it from a clone") from failed

    def state(self, commit: str) -> ReleaseState:
        """
        The state at a commit that was read before.

        Raises:
            BadArtifact: the release file or the holds were edited into nonsense.
        """
        with self.clone.held():
            return parse_state(self.environment, lambda path: self.clone.read([f"{commit}:{path}"])[0])

    def file(self, path: str, commit: str | None = None) -> bytes | None:
        """A file's bytes at a commit (default: the newest), or ``None``."""
        with self.clone.held():
            return self.clone.read([f"{commit or self.fetch()}:{path}"])[0]

    def export(self, directory: Path, commit: str | None = None) -> str:
        """Lay the tree of a commit (default: the newest) into an empty directory; returns the commit."""
        with self.clone.held():
            commit = commit or self.fetch()
            directory.mkdir(parents=True, exist_ok=True)
            self.clone.check_out(commit, directory.absolute())
            return commit

    def _snapshot(self, commit: str) -> Snapshot:
        if self._last is None or self._last.commit != commit:
            paths = paths_of(self.environment)
            found = dict(zip(paths, self.clone.read([f"{commit}:{path}" for path in paths]), strict=True))
            if not any(found.values()):
                thing = f"environment {self.environment!r}"
                raise BadInput(thing, "is not in the GitOps repository", self._known_ones(commit))
            self._last = parse_snapshot(self.environment, commit, found)
        return self._last

    def _known_ones(self, commit: str) -> str:
        return f"name one of: {', '.join(name.rstrip('/') for name in self.clone.entries(f'{commit}:{OVERLAYS}'))}"

    def _records(self, commit: str) -> list[tuple[str, bytes]]:
        paths = list_records(self.clone, commit, self.environment)
        blobs = self.clone.read(list(paths.values()))
        return [(path, present(blob, path)) for path, blob in zip(paths, blobs, strict=True)]

    def _write(self, snapshot: Snapshot, decision: Decision) -> Written | None:
        with self.clone.held():
            try:
                if known := self._known(snapshot.commit, decision.id):
                    return known
                path, record = next_record(self.clone, snapshot.commit, decision)
                files = {path: record} | changed_files(snapshot, decision)
                message = commit_message(decision, digest_of_bytes(record))
                commit = self.clone.commit(snapshot.commit, files, message, decision.now)
                if (record_here := self.glass.standing()) and record_here.id != decision.id:
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
            return Written(commit, decision) if landed else self._known(self.fetch(), decision.id)

    def _known(self, tip: str, decision_id: str) -> Written | None:
        commit = read_trail(self.clone, tip).commit_of(decision_id)
        if commit is None:
            return None
        found = read_records(self.clone, [commit])
        if commit not in found:
            rule = f"names {decision_id} and brings no record"
            raise BadArtifact(f"commit {commit[:12]}", rule, "see `sluice ledger verify`")
        path, text = found[commit]
        return Written(commit, decode_record(text, path).decision)
