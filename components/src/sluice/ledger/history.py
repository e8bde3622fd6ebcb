"""Every commit of the GitOps branch: what it changed, and what it says that it decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sluice.git.clone import Clone

# no commit message and no path can hold NUL
_FORMAT = (
    "%x00%H%x00%(trailers:key=Sluice-Decision,valueonly,separator=%x20)"
    "%x00%(trailers:key=Sluice-Record,valueonly,separator=%x20)%x00"
)
_FIELDS = 4


@dataclass(frozen=True)
class Change:
    """One file that a commit changed: ``status`` is A (added), M, D or T, and ``blob`` the object id after it."""

    status: str
    path: str
    blob: str


@dataclass(frozen=True)
class Commit:
    """
    One commit.

    Attributes:
        decisions: ids in its ``Sluice-Decision`` trailers.
        records: digests in its ``Sluice-Record`` trailers.
        changes: against its parent; of a merge only what differs from all its parents.
    """

    id: str
    decisions: tuple[str, ...]
    records: tuple[str, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class History:
    """
    The branch of one environment.

    Attributes:
        overlay: the environment's folder.
        commits: parents before children; the last one is the tip.
        records: path → bytes at the tip, in the order of their numbers.
    """

    overlay: str
    commits: tuple[Commit, ...]
    records: Mapping[str, bytes]


def read_commits(clone: Clone, tip: str) -> tuple[Commit, ...]:
    """
    All commits that lead to ``tip``, parents before children.

    Raises:
        GitFailed: an object is missing or broken.
    """
    options = ("--reverse", "--topo-order", "--raw", "--no-abbrev", "--no-renames", "--root", "-c")
    text = clone.run("-c", "core.quotePath=false", "log", *options, f"--format={_FORMAT}", tip).decode(errors="replace")
    fields = text.split("\0")[1:]
    return tuple(_commit(fields[place : place + _FIELDS]) for place in range(0, len(fields), _FIELDS))


def _commit(fields: list[str]) -> Commit:
    name, decisions, records, raw = fields
    changes = tuple(_change(line) for line in raw.splitlines() if line.startswith(":"))
    return Commit(name, tuple(decisions.split()), tuple(records.split()), changes)


def _change(line: str) -> Change:
    """``:<mode> <mode> <blob> <blob> <status>TAB<path>``; of a merge one colon, mode and blob more for each parent."""
    head, _, path = line.partition("\t")
    fields = head.split()
    return Change(status=fields[-1][0], path=path, blob=fields[-2])
