"""What a decision is as files: the record that it adds, and the release file and holds that it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sluice.documents.state import state_of
from sluice.documents.verdict import Decision
from sluice.git.clone import Clone
from sluice.git.log import Commit, read_commits
from sluice.ledger.record import encode_record, number_of, record_path
from sluice.release.file import render_holds, render_release
from sluice.release.snapshot import STRATEGY_MANIFESTS, Snapshot, overlay_of, paths_of, present


@dataclass(frozen=True)
class LedgerHistory:
    """
    The branch, and the ledger of one environment in it.

    Attributes:
        overlay: the environment's folder.
        commits: parents before children; the last one is the tip.
        records: path → bytes at the tip, in the order of their numbers.
    """

    overlay: str
    commits: tuple[Commit, ...]
    records: Mapping[str, bytes]


def read_history(clone: Clone, tip: str, environment: str) -> LedgerHistory:
    """
    All of it, up to ``tip``.

    Raises:
        GitFailed: an object is missing or broken.
    """
    return LedgerHistory(overlay_of(environment), read_commits(clone, tip), dict(records_at(clone, tip, environment)))


def records_at(clone: Clone, commit: str, environment: str) -> list[tuple[str, bytes]]:
    """Path and bytes of every record at a commit, oldest first."""
    listed = list_records(clone, commit, environment)
    return [(path, present(blob, path)) for path, blob in zip(listed, clone.read(list(listed.values())), strict=True)]


def list_records(clone: Clone, commit: str, environment: str) -> dict[str, str]:
    """Path → blob of every record at a commit, by number: git's own order puts 10000 before 9999."""
    folder = f"{overlay_of(environment)}/decisions"
    return _listed(clone, f"{commit}:{folder}", f"{folder}/")


def next_record(clone: Clone, tip: str, decision: Decision) -> tuple[str, bytes]:
    """
    Path and bytes of the record that follows the last one of the decision's environment at ``tip``.

    One more than the highest number: a record that somebody removed leaves a gap, not a number to write over.
    """
    listed = _newest(clone, tip, decision.environment)
    last = next(reversed(listed), None)
    previous = present(clone.read([listed[last]])[0], last) if last else None
    number = (number_of(last) or 0) + 1 if last else 1
    return record_path(overlay_of(decision.environment), number, decision), encode_record(number, previous, decision)


def changed_files(clone: Clone, snapshot: Snapshot, decision: Decision) -> dict[str, bytes]:
    """Path → bytes of the release file and the holds, as far as the decision changes them."""
    if decision.before != snapshot.state.model_dump(mode="json"):
        raise ValueError(f"{decision.id} was not decided on the state of {snapshot.commit}")
    files: dict[str, bytes] = {}
    after = state_of(decision.after, f"{decision.id}: after")
    release, holds, _ = paths_of(decision.environment)
    if after.model_copy(update={"holds": ()}) != snapshot.state.model_copy(update={"holds": ()}):
        folders = {name.rstrip("/") for name in clone.entries(f"{snapshot.commit}:{STRATEGY_MANIFESTS}")}
        files[release] = render_release(after, folders)
    if after.holds != snapshot.state.holds:
        files[holds] = render_holds(after.holds)
    return files


def _newest(clone: Clone, tip: str, environment: str) -> dict[str, str]:
    """The records of the newest folder; all of them where there are others than folders of a hundred."""
    folder = f"{overlay_of(environment)}/decisions"
    entries = clone.entries(f"{tip}:{folder}")
    if not entries or not all(name.endswith("/") and name[:-1].isdigit() for name in entries):
        return list_records(clone, tip, environment)
    newest = max(entries, key=lambda name: int(name[:-1]))
    return _listed(clone, entries[newest], f"{folder}/{newest}")


def _listed(clone: Clone, tree: str, folder: str) -> dict[str, str]:
    blobs: dict[str, str] = {}
    for name, entry in clone.entries(tree).items():
        blobs |= _listed(clone, entry, folder + name) if name.endswith("/") else {folder + name: entry}
    numbers = {path: number for path in blobs if (number := number_of(path)) is not None}
    return {path: blobs[path] for path in sorted(numbers, key=lambda path: (numbers[path], path))}
