"""Every commit that leads to another, out of one ``git log``: its trailers, and what it changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sluice.git.clone import Clone

_LINE = "%H%x09%(trailers:only,unfold,separator=%x09)"
_PARENTS_FIRST = ("--reverse", "--topo-order")


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
        trailers: by key in small letters; the values of one that comes twice have a space between.
        changes: against its parent; of a merge only what differs from all its parents.
    """

    id: str
    trailers: Mapping[str, str]
    changes: tuple[Change, ...] = ()

    def words(self, key: str) -> tuple[str, ...]:
        """Of all trailers with this key; git makes no difference between small and capital letters in it."""
        return tuple(self.trailers.get(key.lower(), "").split())

    def last_word(self, key: str) -> str:
        """The same for keys that come once; empty where there is none."""
        return self.trailers.get(key.lower(), "").rpartition(" ")[2]


def log_lines(clone: Clone, reach: str) -> list[bytes]:
    """
    A line a commit in ``reach``, parents before children: its id and its trailers (``Key: value``), with tabs between.

    Raises:
        GitFailed: a commit is missing or broken.
    """
    return clone.run("log", *_PARENTS_FIRST, f"--format={_LINE}", reach).splitlines()


def parse_line(line: str) -> Commit:
    """The commit of such a line."""
    name, *rows = line.split("\t")
    trailers: dict[str, str] = {}
    for row in rows:
        key, _, value = row.partition(": ")
        key = key.lower()
        trailers[key] = f"{trailers[key]} {value}" if key in trailers else value
    return Commit(name, trailers)


def read_commits(clone: Clone, tip: str) -> tuple[Commit, ...]:
    """
    All commits that lead to ``tip`` with what they changed, parents before children.

    Raises:
        GitFailed: an object is missing or broken.
    """
    options = (*_PARENTS_FIRST, "--raw", "--no-abbrev", "--no-renames", "--root", "-c", f"--format=%x00{_LINE}%x00")
    text = clone.run("-c", "core.quotePath=false", "log", *options, tip).decode(errors="replace")
    fields = text.split("\0")[1:]  # no commit message and no path can hold NUL
    return tuple(_commit(line, raw) for line, raw in zip(fields[::2], fields[1::2], strict=True))


def _commit(line: str, raw: str) -> Commit:
    commit = parse_line(line)
    changes = tuple(_change(row) for row in raw.splitlines() if row.startswith(":"))
    return Commit(commit.id, commit.trailers, changes)


def _change(row: str) -> Change:
    """``:<mode> <mode> <blob> <blob> <status>TAB<path>``; of a merge one colon, mode and blob more for each parent."""
    head, _, path = row.partition("\t")
    fields = head.split()
    return Change(status=fields[-1][0], path=path, blob=fields[-2])
