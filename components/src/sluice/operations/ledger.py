"""
Whether the ledger is what was written: every record there, unchanged, in its place, and in its own commit.

What pins a record's bytes: the record after it names their digest, and so does the commit that brought it
(``Sluice-Record``). Changing one record unseen therefore takes rewriting every later record and commit. Even that shows
where the repository was seen before (the newest commit seen is kept beside the clone); elsewhere, keep the head that a
``verify`` printed and ask for it next time.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluice.content import digest_of_bytes
from sluice.documents.state import ReleaseState, state_of
from sluice.documents.trailers import DECISION, RECORD
from sluice.errors import BadArtifact
from sluice.git.log import Commit
from sluice.gitops.writer import GitOps
from sluice.ledger.record import Record, decode_record, number_of, record_path
from sluice.ledger.record_files import LedgerHistory
from sluice.operations.ledger_report import LedgerReport, Problem
from sluice.release.file import render_holds, renderings

_RELEASE, _HOLDS = "release/kustomization.yaml", "release/holds.yaml"
_NO_COMMIT = Commit("", {})


@dataclass(frozen=True)
class _Entry:
    """A record with its bytes and the commits that touched its file; ``record`` is ``None`` where it is unreadable."""

    path: str
    text: bytes
    digest: str
    record: Record | None
    added: int | None
    """Place of the commit that added it."""
    touched: tuple[Commit, ...]
    """Commits that changed or removed it later, or added it again."""

    def state(self, side: str) -> dict[str, Any]:
        return dict(getattr(self.record.decision, side)) if self.record else {}


def verify(gitops: GitOps, expect: str | None = None) -> LedgerReport:
    """
    Walk the whole branch, in a fresh copy: a cache may still hold what the repository has lost.

    Args:
        expect: digest of a record that must be in the chain, for example the head of an earlier report.

    Raises:
        BadInput: there is no such repository.
        BadArtifact: git itself cannot read all of it.
    """
    with tempfile.TemporaryDirectory(prefix="sluice-ledger-") as directory:
        copy = GitOps(gitops.remote, gitops.environment, clone=Path(directory) / "clone")
        history = copy.history()
        entries = _entries(history)
        problems = [*_problems(history, entries), *_at_the_tip(copy, history, entries)]
    last_seen = gitops.newest_seen()
    if last_seen and all(commit.id != last_seen for commit in history.commits):
        problems.append(Problem(f"commit {last_seen}", "was seen here and is gone; the history was rewritten or cut"))
    if expect and all(entry.digest != expect for entry in entries):
        problems.append(Problem(expect, "is not the digest of any record here; the history was rewritten or cut"))
    return LedgerReport(
        environment=gitops.environment,
        commit=history.commits[-1].id,
        records=len(entries),
        unchained=sum(entry.record is not None and not entry.record.is_chained for entry in entries),
        head=entries[-1].digest if entries else None,
        by_hand=tuple(commit.id for commit in _by_hand(history, history.commits)),
        problems=tuple(problems),
    )


def examine(history: LedgerHistory) -> Iterator[Problem]:
    """What is wrong with the records of a history, the surest first; the release at its tip is not looked at."""
    return _problems(history, _entries(history))


def _problems(history: LedgerHistory, entries: Sequence[_Entry]) -> Iterator[Problem]:
    for entry in entries:
        yield from _readable(entry)
    for entry in entries:
        yield from _bytes_are_those_committed(history, entry)
    yield from _chained(entries)
    for place, entry in enumerate(entries, start=1):
        yield from _in_place(history, place, entry)
        yield from _one_commit(history, entry)
    yield from _unique(history, entries)
    for former, latter in itertools.pairwise(entries):
        yield from _linked(history, former, latter)


def _entries(history: LedgerHistory) -> list[_Entry]:
    added: dict[str, int] = {}
    touched: dict[str, list[Commit]] = {}
    for place, commit in enumerate(history.commits):
        for change in commit.changes:
            if change.status == "A" and change.path not in added:
                added[change.path] = place
            else:
                touched.setdefault(change.path, []).append(commit)
    entries = []
    for path, text in history.records.items():
        later = tuple(touched.get(path, ()))
        entries.append(_Entry(path, text, digest_of_bytes(text), _decoded(text, path), added.get(path), later))
    return entries


def _decoded(text: bytes, path: str) -> Record | None:
    try:
        return decode_record(text, path)
    except BadArtifact:
        return None


def _readable(entry: _Entry) -> Iterator[Problem]:
    try:
        record = decode_record(entry.text, entry.path) if entry.record is None else entry.record
        state_of(record.decision.before, f"{entry.path}: before")
        state_of(record.decision.after, f"{entry.path}: after")
    except BadArtifact as error:
        yield Problem(error.thing, error.rule)


def _bytes_are_those_committed(history: LedgerHistory, entry: _Entry) -> Iterator[Problem]:
    commit = _commit_of(history, entry)
    digests = commit.words(RECORD)
    if entry.touched:
        yield Problem(entry.path, f"was changed again by commit {entry.touched[0].id[:12]}; a record never changes")
    if commit is _NO_COMMIT:
        yield Problem(entry.path, "was added by no commit but a merge")
    elif entry.record is None or entry.record.is_chained or digests:
        if not digests:
            yield Problem(entry.path, f"is not named by its commit {commit.id[:12]} (no {RECORD})")
        elif digests != (entry.digest,):
            name = _short(digests[0])
            rule = f"has changed: its bytes are {_short(entry.digest)}, commit {commit.id[:12]} names {name}"
            yield Problem(entry.path, rule)


def _chained(entries: Sequence[_Entry]) -> Iterator[Problem]:
    former: _Entry | None = None
    for entry in entries:
        record = entry.record
        if record and record.is_chained:
            digest = former.digest if former else None
            if record.previous != digest:
                where = former.path if former else entry.path
                rule = f"is {_short(digest)}, but {entry.path} was written after {_short(record.previous)}"
                yield Problem(where, rule)
        elif record and former and former.record and former.record.is_chained:
            yield Problem(entry.path, "is of the form before the chain, and follows a record of the chain")
        former = entry


def _in_place(history: LedgerHistory, place: int, entry: _Entry) -> Iterator[Problem]:
    if number_of(entry.path) != place:
        yield Problem(entry.path, f"is number {place} of the records here; one is missing or doubled")
    if entry.record is None:
        return
    number, decision = entry.record.number, entry.record.decision
    path = record_path(history.overlay, number_of(entry.path) or 0, decision)
    if entry.path != path and (number is not None or Path(entry.path).name != Path(path).name):
        yield Problem(entry.path, f"holds a decision that belongs into {path}")
    if number is not None and number != number_of(entry.path):
        yield Problem(entry.path, f"says that it is number {number}")


def _one_commit(history: LedgerHistory, entry: _Entry) -> Iterator[Problem]:
    """The record came with one commit that names it, and that wrote the release that it decided and nothing else."""
    commit = _commit_of(history, entry)
    if entry.record is None or commit is _NO_COMMIT:
        return
    decisions = commit.words(DECISION)
    if decisions != (entry.record.decision.id,):
        names = ", ".join(decisions) or "no decision"
        yield Problem(entry.path, f"holds {entry.record.decision.id}, its commit {commit.id[:12]} names {names}")
    files = {f"{history.overlay}/{name}": data for name, data in _files_of(entry).items()}
    blobs = {change.path: change.blob for change in commit.changes if change.path != entry.path}
    for path in sorted({*files, *blobs}):
        if path not in blobs:
            yield Problem(entry.path, f"decided a change of {path} that commit {commit.id[:12]} did not make")
        elif path not in files:
            yield Problem(entry.path, f"came with a change of {path} that it does not decide (commit {commit.id[:12]})")
        elif blobs[path] not in [_blob(data, blobs[path]) for data in files[path]]:
            yield Problem(entry.path, f"says another state than commit {commit.id[:12]} wrote into {path}")


def _files_of(entry: _Entry) -> dict[str, tuple[bytes, ...]]:
    """The files of a decision, each as any version wrote it."""
    before, after = _state(entry, "before"), _state(entry, "after")
    if before is None or after is None:
        return {}
    files: dict[str, tuple[bytes, ...]] = {}
    if before.model_copy(update={"holds": ()}) != after.model_copy(update={"holds": ()}):
        files[_RELEASE] = renderings(after)
    if before.holds != after.holds:
        files[_HOLDS] = (render_holds(after.holds),)
    return files


def _state(entry: _Entry, side: str) -> ReleaseState | None:
    try:
        return state_of(entry.state(side), entry.path)
    except BadArtifact:
        return None


def _unique(history: LedgerHistory, entries: Sequence[_Entry]) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    for entry in entries:
        if entry.record:
            first = owners.setdefault(entry.record.decision.id, entry.path)
            if first != entry.path:
                yield Problem(entry.path, f"holds {entry.record.decision.id}, as {first} does")
    commits: dict[str, Commit] = {}
    for commit in history.commits:
        decisions = commit.words(DECISION)
        for decision in decisions:
            if decision in commits:
                rule = f"names {decision}, which came with commit {commits[decision].id[:12]} already"
                yield Problem(f"commit {commit.id[:12]}", rule)
            commits[decision] = commit
        if decisions and not any(_is_record(change.path) for change in commit.changes):
            yield Problem(f"commit {commit.id[:12]}", f"names {decisions[0]} and brings no record")
    paths = {entry.path for entry in entries}
    gone = {
        c.path: commit for commit in history.commits for c in commit.changes if c.status == "D" and _is_record(c.path)
    }
    for path, commit in gone.items():
        if path.startswith(f"{history.overlay}/") and path not in paths:
            yield Problem(path, f"was removed by commit {commit.id[:12]}")


def _is_record(path: str) -> bool:
    return "/decisions/" in path and number_of(path) is not None


def _linked(history: LedgerHistory, former: _Entry, latter: _Entry) -> Iterator[Problem]:
    if former.record is None or latter.record is None:
        return
    start, end = former.added or 0, latter.added or 0
    if end <= start:
        yield Problem(latter.path, f"was committed before {former.path}, which it follows")
    elif former.state("after") != latter.state("before"):
        between = [*_by_hand(history, history.commits[start + 1 : end])]
        edits = [change.blob for commit in between for change in commit.changes if change.path.endswith(_RELEASE)]
        before = _state(latter, "before")
        if not between:
            yield Problem(latter.path, f"starts from another state than {former.path} ended with")
        elif edits and before and edits[-1] not in [_blob(data, edits[-1]) for data in renderings(before)]:
            yield Problem(latter.path, f"starts from another state than commit {between[-1].id[:12]} left by hand")


def _by_hand(history: LedgerHistory, commits: Sequence[Commit]) -> Iterator[Commit]:
    """Commits without a decision that changed the release; the one that first brings the files is the seed."""
    paths = {f"{history.overlay}/{_RELEASE}", f"{history.overlay}/{_HOLDS}"}
    for commit in commits:
        if not commit.words(DECISION) and any(c.path in paths and c.status != "A" for c in commit.changes):
            yield commit


def _at_the_tip(gitops: GitOps, history: LedgerHistory, entries: Sequence[_Entry]) -> Iterator[Problem]:
    where = f"{history.overlay}/{_RELEASE}"
    try:
        state = gitops.state(history.commits[-1].id)
    except BadArtifact as error:
        yield Problem(error.thing, error.rule)
        return
    if entries and entries[-1].record and entries[-1].state("after") != state.model_dump(mode="json"):
        yield Problem(where, f"is not the state that the last record, {entries[-1].path}, decided")


def _commit_of(history: LedgerHistory, entry: _Entry) -> Commit:
    return _NO_COMMIT if entry.added is None else history.commits[entry.added]


def _blob(data: bytes, like: str) -> str:
    """Git's object id of a file's bytes, by the hash that ``like`` was made with."""
    algorithm = "sha1" if len(like) == 40 else "sha256"
    return hashlib.new(algorithm, b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _short(digest: str | None) -> str:
    return digest[:19] if digest else "no record"
