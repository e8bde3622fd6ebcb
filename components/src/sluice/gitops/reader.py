"""What one environment's release is, was, and why: everything that is read and nothing that is written."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Decision
from sluice.errors import BadArtifact, BadInput
from sluice.git.clone import HistoryRewrittenError
from sluice.git.command import GitFailed
from sluice.git.repository import Repository
from sluice.ledger.record import decode_record
from sluice.ledger.record_files import LedgerHistory, list_records, read_history, records_at
from sluice.ledger.trail import Step, Trail, read_records, read_trail
from sluice.release.snapshot import OVERLAYS, Snapshot, inputs_of, overlay_of, parse_snapshot, parse_state, present

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")


class ReleaseReader(Repository):
    """
    Args:
        environment: which overlay.
        remote, clone, patience_s: as of ``Repository``.

    Raises:
        BadInput: the environment's name is none.
    """

    def __init__(
        self, remote: Path | str, environment: str, clone: Path | None = None, patience_s: float | None = None
    ) -> None:
        super().__init__(remote, clone, patience_s)
        if not _NAME.fullmatch(environment):
            raise BadInput(f"environment {environment!r}", "is not a name", "use small letters, digits and hyphens")
        self.environment = environment
        self._last: Snapshot | None = None
        self._needs_policy = True

    @contextlib.contextmanager
    def without_policy(self) -> Iterator[None]:
        """Snapshots that are read in the block have an ``UnreadablePolicy`` where the policy cannot be read."""
        before, self._needs_policy, self._last = self._needs_policy, False, None
        try:
            yield
        finally:
            self._needs_policy, self._last = before, None

    def snapshot(self, commit: str | None = None) -> Snapshot:
        """
        The state and the policy at a commit that was read before (default: the newest).

        Raises:
            BadInput: the repository cannot be read, or its policy is wrong.
            BadArtifact: the release file or the holds were edited into nonsense, or the history was rewritten.
        """
        if commit is None:
            return self.newest(self._snapshot)
        with self.clone.lock():
            return self._snapshot(commit)

    def last_known(self, *, ask: bool = False) -> Snapshot:
        """
        The newest state and policy that were seen here; the repository is not asked, or (``ask``) need not answer.

        Raises:
            BadInput: nothing was seen here.
        """
        with self.clone.lock() if ask else self.clone.without_lock():
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

    def decisions(self) -> list[Decision]:
        """All decisions of this environment, oldest first."""
        return [decode_record(text, path).decision for path, text in self.records()]

    def records(self) -> list[tuple[str, bytes]]:
        """Path and bytes of every decision record, oldest first, unparsed."""
        return self.newest(lambda tip: records_at(self.clone, tip, self.environment))

    def latest(self, commit: str) -> list[Decision]:
        """The newest decision of each stage and action at a commit that was read before, oldest first."""
        with self.clone.lock():
            listed = list_records(self.clone, commit, self.environment)
            newest = {path.rpartition("/")[2].partition("-")[2]: path for path in listed}
            paths = sorted(newest.values(), key=list(listed).index)
            texts = self.clone.read([listed[path] for path in paths])
        return [decode_record(present(text, path), path).decision for path, text in zip(paths, texts, strict=True)]

    def trail(self, commit: str | None = None) -> Trail:
        """What the commits up to one that was read before (default: the newest) say of their decisions; no record."""
        if commit is None:
            return self.newest(lambda tip: read_trail(self.clone, tip))
        with self.clone.lock():
            return read_trail(self.clone, commit)

    def records_of(self, steps: Sequence[Step]) -> list[tuple[Step, str, Decision]]:
        """
        Path and decision of each step of this environment's trail; a step that brought no record is left out.

        Raises:
            BadArtifact: a record is not one.
        """
        with self.clone.lock():
            records = read_records(self.clone, [step.commit for step in steps], overlay_of(self.environment))
        recorded = [(step, *records[step.commit]) for step in steps if step.commit in records]
        return [(step, path, decode_record(text, path).decision) for step, path, text in recorded]

    def proposal_of(self, state: ReleaseState, commit: str | None = None) -> Decision | None:
        """
        The decision that began a rollout, at a commit that was read before (default: the newest); ``None`` without one.

        Raises:
            BadArtifact: a record of this candidate is not one.
        """
        for step in self.trail(commit).about(self.environment, state.candidate) if state.rollout else ():
            for _, _, decision in self.records_of([step]):
                if decision.stage == "offline" and decision.after.get("rollout") == state.rollout:
                    return decision
        return None

    def history(self) -> LedgerHistory:
        """
        Every commit of the branch, and every record.

        Raises:
            BadInput: the repository cannot be read.
            BadArtifact: one of its objects is missing or broken.
        """
        try:
            return self.newest(lambda tip: read_history(self.clone, tip, self.environment))
        except GitFailed as failed:
            rule = f"has broken objects ({failed.reason})"
            raise BadArtifact(self.remote, rule, "`git fsck` names them; restore it from a clone") from failed

    def state(self, commit: str) -> ReleaseState:
        """
        The state at a commit that was read before.

        Raises:
            BadArtifact: the release file or the holds were edited into nonsense.
        """
        with self.clone.lock():
            return parse_state(self.environment, lambda path: self.clone.read([f"{commit}:{path}"])[0])

    def file(self, path: str, commit: str | None = None) -> bytes | None:
        """A file's bytes at a commit (default: the newest), or ``None``."""
        with self.clone.lock():
            return self.clone.read([f"{commit or self.fetch()}:{path}"])[0]

    def export(self, directory: Path, commit: str | None = None) -> str:
        """Lay the tree of a commit (default: the newest) into an empty directory; returns the commit."""
        with self.clone.lock():
            commit = commit or self.fetch()
            directory.mkdir(parents=True, exist_ok=True)
            self.clone.check_out(commit, directory.absolute())
            return commit

    def _snapshot(self, commit: str) -> Snapshot:
        if self._last is None or self._last.commit != commit:
            paths = inputs_of(self.environment)
            files = dict(zip(paths, self.clone.read([f"{commit}:{path}" for path in paths]), strict=True))
            if not any(files.values()):
                thing = f"environment {self.environment!r}"
                raise BadInput(thing, "is not in the GitOps repository", self._known_ones(commit))
            self._last = parse_snapshot(self.environment, commit, files, needs_policy=self._needs_policy)
        return self._last

    def _known_ones(self, commit: str) -> str:
        return f"name one of: {', '.join(name.rstrip('/') for name in self.clone.entries(f'{commit}:{OVERLAYS}'))}"
