"""
What the commits of the GitOps branch say about decisions, read once and kept beside the clone's objects.

A line a commit, oldest first, as of ``log_lines``. Commits from before ``Sluice-Stable-After`` get what they lack from
their records. The file is a cache of the clone: it only grows at its end, and is made anew when its last line is not
whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sluice.documents import trailers
from sluice.errors import BadArtifact
from sluice.git.clone import Clone
from sluice.git.command import GitFailed
from sluice.git.log import log_lines, parse_line
from sluice.ledger.record import number_of, plain_decision

_DECISION, _AFTER = (f"\t{trailers.trailer(key, '')}".encode() for key in (trailers.DECISION, trailers.AFTER))
_SIDES = (trailers.CANDIDATE, trailers.STABLE, trailers.BEFORE, trailers.AFTER)


@dataclass(frozen=True)
class Step:
    """One decision, as its commit tells it."""

    commit: str
    environment: str
    decision: str
    candidate: str | None
    stable: str | None
    """The stable model that the decision names."""
    before: str | None
    after: str | None
    """The stable model on both sides of it."""

    @property
    def replaced(self) -> str | None:
        """The digest that lost its place as stable."""
        return self.before if self.before != self.after else None

    @property
    def digests(self) -> set[str]:
        """Every digest that it names."""
        return {digest for digest in (self.candidate, self.stable, self.before, self.after) if digest}


class Trail:
    """The decisions of all environments up to one commit."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def about(self, environment: str, digest: str | None) -> Iterator[Step]:
        """The environment's decisions on a candidate, newest first."""
        return self.steps(environment, trailers.trailer(trailers.CANDIDATE, digest))

    def matching(self, environment: str, beginning: str) -> Iterator[Step]:
        """The environment's decisions whose id begins so, newest first."""
        return self.steps(environment, trailers.trailer(trailers.DECISION, beginning))

    def steps(self, environment: str, needle: str = "") -> Iterator[Step]:
        """The environment's decisions whose line holds ``needle``, newest first."""
        pattern, end = needle.encode(), len(self._text)
        while pattern and (place := self._text.rfind(pattern, 0, end)) >= 0:
            start = self._text.rfind(b"\n", 0, place) + 1
            yield from _steps(self._text[start : self._text.index(b"\n", place)], environment)
            end = start
        if not pattern:
            for line in reversed(self._text.splitlines()):
                yield from _steps(line, environment)

    def commit_of(self, decision: str) -> str | None:
        """The first commit that brought a decision."""
        place = self._text.find(_DECISION + decision.encode())
        while place >= 0:
            start, end = self._text.rfind(b"\n", 0, place) + 1, self._text.index(b"\n", place)
            if decision.encode() in self._text[place + len(_DECISION) : end].split(b"\t")[0].split():
                return self._text[start:place].split(b"\t")[0].decode()
            place = self._text.find(_DECISION + decision.encode(), end)
        return None


def _steps(line: bytes, environment: str) -> Iterator[Step]:
    commit = parse_line(line.decode(errors="replace"))
    decision = commit.last_word(trailers.DECISION)
    if decision and commit.last_word(trailers.ENVIRONMENT) in ("", environment):
        sides = (commit.last_word(key) for key in _SIDES)
        yield Step(
            commit.id, environment, decision, *(None if side in ("", trailers.NOTHING) else side for side in sides)
        )


def read_trail(clone: Clone, tip: str) -> Trail:
    """
    The trail up to ``tip``, the clone's newest commit; reads only the commits that it has not read before.

    Raises:
        GitFailed: a commit is missing or broken.
    """
    known = clone.trail.read_bytes() if clone.trail.exists() else b""
    last = known[known.rfind(b"\n", 0, -1) + 1 :].split(b"\t")[0].strip().decode(errors="replace")
    if last == tip and known.endswith(b"\n"):
        return Trail(known)
    fresh = None
    if known.endswith(b"\n"):
        with contextlib.suppress(GitFailed):  # the last line is nonsense: all of it is read again
            fresh = log_lines(clone, f"{last}..{tip}")
    if fresh is None:
        known, fresh = b"", log_lines(clone, tip)
    added = _completed(clone, fresh)
    if clone.is_held:
        with clone.trail.open("ab" if known else "wb") as stream:
            stream.write(added)
    return Trail(known + added)


def _completed(clone: Clone, lines: Sequence[bytes]) -> bytes:
    old = [line.split(b"\t")[0].decode() for line in lines if _DECISION in line and _AFTER not in line]
    records = read_records(clone, old)
    return b"".join(_complete(line, records.get(line.split(b"\t")[0].decode())) + b"\n" for line in lines)


def _complete(line: bytes, record: tuple[str, bytes] | None) -> bytes:
    """The line of a commit from before, out of its record; as it is without a readable one."""
    if record is None:
        return line
    try:
        rows = trailers.trailers_of(plain_decision(record[1], record[0]))
    except BadArtifact:
        return line
    return b"\t".join([line.split(b"\t")[0], *(trailers.trailer(key, value).encode() for key, value in rows.items())])


def read_records(clone: Clone, commits: Sequence[str], overlay: str = "") -> dict[str, tuple[str, bytes]]:
    """Commit → path and bytes of the record that it added (below ``overlay``), where it added one."""
    if not commits:
        return {}
    options = ("--stdin", "--root", "-r", "-m", "--first-parent", "--diff-filter=A", "--name-only", "--no-renames")
    text = clone.run(
        "-c", "core.quotePath=false", "diff-tree", *options, data="".join(f"{commit}\n" for commit in commits).encode()
    )
    known, paths, commit = set(commits), dict[str, str](), ""
    for line in text.decode(errors="replace").splitlines():
        if line in known:
            commit = line
        elif "/decisions/" in line and number_of(line) is not None and line.startswith(overlay):
            paths[commit] = line
    texts = clone.read([f"{commit}:{path}" for commit, path in paths.items()])
    paired = zip(paths.items(), texts, strict=True)
    return {commit: (path, text) for (commit, path), text in paired if text is not None}
