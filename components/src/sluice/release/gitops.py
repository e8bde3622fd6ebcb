"""
Git as the state machine: one decision is one commit on the environment's repository.

    snapshot ─► decide ─► commit object ─► push (compare-and-swap) ─┬─ accepted: Written
        ▲                                                           └─ rejected: somebody else was first
        └───────────────────── decide again on the fresh base ──────────┘

The push is the only moment at which anything changes, and it changes everything at once: release file, holds and
decision record. Killed before it, nothing happened; killed after it, all of it did.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sluice.content import digest_of_bytes
from sluice.errors import BadArtifact, BadInput, Busy
from sluice.gates.policy import GatePolicy, parse_policy
from sluice.gates.verdict import Decision
from sluice.release.document import parse_holds, parse_release, render_holds, render_release
from sluice.release.git import Clone, GitFailed, create_bare
from sluice.release.history import History, read_commits
from sluice.release.message import commit_message
from sluice.release.record import decode_record, encode_record, number_of, record_path
from sluice.release.state import ReleaseState, state_of

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
ATTEMPTS = 40
"""Lost races before the writer gives up."""


@dataclass(frozen=True)
class Snapshot:
    """All that a decision starts from, read from one commit."""

    commit: str
    state: ReleaseState
    policy: GatePolicy
    policy_digest: str


@dataclass(frozen=True)
class Written:
    """A decision and the commit that holds it."""

    commit: str
    decision: Decision


class GitOps:
    """
    Reads and writes the release of one environment.

    Args:
        remote: path or URL of the repository that Argo CD (or its stand-in) follows.
        environment: which overlay.
        clone: where the private bare copy lives; by default beside a local remote.
        seed: of the waiting times after a lost race.
    """

    def __init__(self, remote: Path | str, environment: str, *, clone: Path | None = None, seed: int = 0) -> None:
        local = Path(remote).absolute()
        self.remote = str(local) if isinstance(remote, Path) or local.exists() else remote
        if not _NAME.fullmatch(environment):
            raise BadInput(f"environment {environment!r}", "is not a name", "use small letters, digits and hyphens")
        self.environment = environment
        self._clone = Clone(self.remote, clone or local.with_name(f".{local.name}.clone"))
        self._jitter = random.Random(seed)  # noqa: S311  spreads retries, no secret

    @property
    def _overlay(self) -> str:
        return f"manifests/overlays/{self.environment}"

    def seed(self, checkout: Path, now: str = "2013-01-01T00:00:00Z") -> str:
        """
        The first commit: ``manifests/`` and the top-level kustomization of a checkout. Does nothing when there is one.

        Returns:
            the newest commit.

        Raises:
            BadInput, BadArtifact: the checkout lacks a file of this environment, or one of them is wrong.
        """
        create_bare(Path(self.remote))
        with self._clone.held():
            try:
                return self._clone.fetch()
            except GitFailed:
                files = _seed_files(checkout)
            state = self._read_state(files.get)
            subject = f"{state.task} {self.environment}: manifests and gate policy, nothing released yet\n"
            commit = self._clone.commit(self._clone.tree(None, files), None, subject, now)
            self._clone.push(commit)
            return self._fetch()

    def snapshot(self) -> Snapshot:
        """
        The state and the policy at the newest commit.

        Raises:
            BadInput: the repository cannot be read, or its policy is wrong.
            BadArtifact: the release file or the holds were edited into nonsense.
        """
        with self._clone.held():
            return self._snapshot(self._fetch())

    def commit(self, decide: Callable[[Snapshot], Decision | None]) -> Written | None:
        """
        Let ``decide`` look at the newest state and write what it decides; ``None`` from it writes nothing.

        After a lost race it is asked again, about the fresh state. A decision whose id is already in the history is
        returned as it stands there. Its ``after`` becomes the release file; a record changes nothing else.

        Raises:
            BadInput: the repository cannot be read or written.
            Busy: other writers won every race.
        """
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(self._jitter.uniform(0, min(1.0, 0.02 * 2**attempt)))
            snapshot = self.snapshot()
            decision = decide(snapshot)
            if decision is None:
                return None
            if written := self._write(snapshot, decision):
                return written
        raise Busy(self.remote, f"other writers were first {ATTEMPTS} times", "try again when they are done")

    def decisions(self) -> list[Decision]:
        """All decisions of this environment, oldest first."""
        return [decode_record(text, path).decision for path, text in self.records()]

    def records(self) -> list[tuple[str, bytes]]:
        """Path and bytes of every decision record, oldest first, unparsed."""
        with self._clone.held():
            return self._records(self._fetch())

    def commits(self) -> dict[str, str]:
        """Decision id → commit, for the whole history."""
        with self._clone.held():
            return self._commits(self._fetch())

    def history(self) -> History:
        """
        Every commit of the branch, and every record.

        Raises:
            BadInput: the repository cannot be read.
            BadArtifact: one of its objects is missing or broken.
        """
        with self._clone.held():
            tip = self._fetch()
            try:
                return History(self._overlay, read_commits(self._clone, tip), dict(self._records(tip)))
            except GitFailed as failed:
                rule = f"has broken objects ({failed.said})"
                raise BadArtifact(self.remote, rule, "`git fsck` names them; restore it from a clone") from failed

    def state(self, commit: str) -> ReleaseState:
        """
        The state at a commit that was read before.

        Raises:
            BadArtifact: the release file or the holds were edited into nonsense.
        """
        with self._clone.held():
            return self._read_state(lambda path: self._clone.read([f"{commit}:{path}"])[0])

    def file(self, path: str, commit: str | None = None) -> bytes | None:
        """A file's bytes at a commit (default: the newest), or ``None``."""
        with self._clone.held():
            return self._clone.read([f"{commit or self._fetch()}:{path}"])[0]

    def export(self, directory: Path, commit: str | None = None) -> str:
        """Lay the tree of a commit (default: the newest) into an empty directory; returns the commit."""
        with self._clone.held():
            commit = commit or self._fetch()
            directory.mkdir(parents=True, exist_ok=True)
            self._clone.check_out(commit, directory.absolute())
            return commit

    def _fetch(self) -> str:
        try:
            return self._clone.fetch()
        except GitFailed as failed:
            fix = "restore the repository, or begin anew with `sluice run --fresh`"
            raise BadInput(self.remote, f"cannot be read ({failed.said})", fix) from failed

    def _snapshot(self, commit: str) -> Snapshot:
        paths = [self._path(name) for name in ("release/kustomization.yaml", "release/holds.yaml", "gate-policy.yaml")]
        found = dict(zip(paths, self._clone.read([f"{commit}:{path}" for path in paths]), strict=True))
        if not any(found.values()):
            raise BadInput(
                f"environment {self.environment!r}", "is not in the GitOps repository", self._known_ones(commit)
            )
        text = _present(found[paths[2]], paths[2])
        policy = parse_policy(text, paths[2])
        state = self._read_state(found.get)
        if (policy.task, policy.environment) != (state.task, state.environment):
            rule = f"is for {policy.task} {policy.environment}, the release is {state.task} {state.environment}"
            raise BadInput(paths[2], rule, "give the environment its own policy")
        return Snapshot(commit, state, policy, digest_of_bytes(text))

    def _known_ones(self, commit: str) -> str:
        listed = self._clone.run("ls-tree", "--name-only", commit, "manifests/overlays/").decode().split()
        return f"name one of: {', '.join(path.rpartition('/')[2] for path in listed)}"

    def _read_state(self, read: Callable[[str], bytes | None]) -> ReleaseState:
        release, held = self._path("release/kustomization.yaml"), self._path("release/holds.yaml")
        holds = parse_holds(_present(read(held), held), held)
        state = parse_release(_present(read(release), release), release, holds)
        if state.environment != self.environment:
            rule = f"is {state.environment!r} in the overlay of {self.environment!r}"
            raise BadArtifact(f"{release}: environment", rule, "restore the file from its last commit")
        return state

    def _path(self, name: str) -> str:
        return f"{self._overlay}/{name}"

    def _commits(self, tip: str) -> dict[str, str]:
        text = self._clone.run("log", "--format=%H %(trailers:key=Sluice-Decision,valueonly,separator=%x20)", tip)
        pairs = (line.split(" ", 1) for line in text.decode().splitlines())
        return {decision: commit for commit, decision in pairs if decision}

    def _records(self, commit: str) -> list[tuple[str, bytes]]:
        paths = self._listed(commit)
        blobs = self._clone.read(list(paths.values()))
        return [(path, _present(blob, path)) for path, blob in zip(paths, blobs, strict=True)]

    def _listed(self, commit: str) -> dict[str, str]:
        """Path → blob of every record at a commit, by number: git's own order puts 10000 before 9999."""
        listing = self._clone.run("ls-tree", "-r", commit, self._path("decisions/")).decode().splitlines()
        blobs = {row.split("\t")[1]: row.split()[2] for row in listing}
        numbers = {path: number for path in blobs if (number := number_of(path)) is not None}
        return {path: blobs[path] for path in sorted(numbers, key=lambda path: (numbers[path], path))}

    def _write(self, snapshot: Snapshot, decision: Decision) -> Written | None:
        with self._clone.held():
            if known := self._known(snapshot.commit, decision.id):
                return known
            path, record = self._record(snapshot.commit, decision)
            tree = self._clone.tree(snapshot.commit, {path: record} | self._files(snapshot, decision))
            message = commit_message(decision, digest_of_bytes(record))
            commit = self._clone.commit(tree, snapshot.commit, message, decision.now)
            try:
                landed = self._clone.push(commit)
            except GitFailed as failed:
                # the answer may have been lost after the push landed: the history knows
                if known := self._known(self._fetch(), decision.id):
                    return known
                raise BadInput(self.remote, f"cannot be written ({failed.said})", "mend it and run again") from failed
            return Written(commit, decision) if landed else self._known(self._fetch(), decision.id)

    def _known(self, tip: str, decision_id: str) -> Written | None:
        commit = self._commits(tip).get(decision_id)
        if commit is None:
            return None
        marker = json.dumps(decision_id).encode()
        matches = (decode_record(text, path).decision for path, text in self._records(commit) if marker in text)
        return Written(commit, next(decision for decision in matches if decision.id == decision_id))

    def _record(self, tip: str, decision: Decision) -> tuple[str, bytes]:
        """
        Path and bytes of the record that follows the last one at ``tip``.

        One more than the highest number: a record that somebody removed leaves a gap, not a number to write over.
        """
        listed = self._listed(tip)
        last = next(reversed(listed), None)
        previous = _present(self._clone.read([listed[last]])[0], last) if last else None
        number = (number_of(last) or 0) + 1 if last else 1
        return record_path(self._overlay, number, decision), encode_record(number, previous, decision)

    def _files(self, snapshot: Snapshot, decision: Decision) -> dict[str, bytes]:
        if decision.before != snapshot.state.model_dump(mode="json"):
            raise ValueError(f"{decision.id} was not decided on the state of {snapshot.commit}")
        files: dict[str, bytes] = {}
        after = state_of(decision.after, f"{decision.id}: after")
        if after.model_copy(update={"holds": ()}) != snapshot.state.model_copy(update={"holds": ()}):
            files[self._path("release/kustomization.yaml")] = render_release(after)
        if after.holds != snapshot.state.holds:
            files[self._path("release/holds.yaml")] = render_holds(after.holds)
        return files


def _seed_files(checkout: Path) -> dict[str, bytes]:
    paths = [checkout / "kustomization.yaml", *sorted((checkout / "manifests").rglob("*.yaml"))]
    try:
        return {path.relative_to(checkout).as_posix(): path.read_bytes() for path in paths}
    except OSError as error:
        raise BadInput(
            str(error.filename), f"cannot be read ({error.strerror})", "seed from a whole checkout"
        ) from error


def _present(data: bytes | None, path: str) -> bytes:
    if data is None:
        raise BadArtifact(path, "is missing in the GitOps repository", "restore it from an older commit")
    return data
