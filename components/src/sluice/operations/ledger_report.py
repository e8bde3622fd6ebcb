"""What a verification of the ledger found, for people, for scripts and for the exit code."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.markup import escape

from sluice.errors import BadArtifact

_FIX = "compare with another clone of the repository, and restore the branch from the one that verifies"


@dataclass(frozen=True)
class Problem:
    """What is wrong, and where: a record's path, a commit, or the release file."""

    where: str
    rule: str


@dataclass(frozen=True)
class LedgerReport:
    """
    What ``verify`` found.

    Attributes:
        commit: the tip that was verified.
        records: how many there are.
        unchained: those at the beginning that were written before there was a chain; git alone vouches for them.
        head: digest of the last record, ``None`` where there is none.
        by_hand: commits without a decision that changed the release file or the holds.
        problems: the surest first.
    """

    environment: str
    commit: str
    records: int
    unchained: int
    head: str | None
    by_hand: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def is_intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def document(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"intact": self.is_intact} | asdict(self)

    def lines(self) -> list[str]:
        """For people, with rich's markup."""
        word = "[green]intact[/green]" if self.is_intact else "[red]broken[/red]"
        rows = [f"ledger of {self.environment}: {word}, {self.records} records at commit {self.commit[:12]}"]
        if self.head:
            rows.append(f"  head {self.head}")
        if self.unchained:
            rows.append(f"  the first {self.unchained} were written before the chain; only git vouches for their bytes")
        rows += [f"  commit {commit[:12]} changed the release by hand" for commit in self.by_hand]
        return rows + [f"  [red]{escape(problem.where)}[/red]: {escape(problem.rule)}" for problem in self.problems]

    def require_intact(self) -> None:
        """
        Raises:
            BadArtifact: something is wrong; names the first problem and says how many there are.
        """
        if self.problems:
            first, count = self.problems[0], len(self.problems)
            more = f" (the first of {count} problems)" if count > 1 else ""
            raise BadArtifact(first.where, first.rule + more, _FIX)
