"""The rows of the fault table: what is broken on purpose, how often, and what must hold all the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

SEED = 20131103
"""Of everything that is drawn by chance."""


class Trial(NamedTuple):
    """What one trial showed."""

    fired: bool
    """The injector's own proof that the fault was there; a trial without it says nothing."""
    survived: bool
    wrong: int = 0
    """Wrong promotions: steps forward that the truth, or evidence that cannot be read, forbids."""
    lost: int = 0
    """Decisions that are missing in the ledger, or there twice."""
    inconclusive: bool = False
    """The rollout ended by its deadline without an answer."""
    said: str = ""
    """What broke; empty where nothing did."""
    seconds: float = 0.0
    """What the row measures, where it measures a time."""
    point: str = ""
    """Where the row's fault struck, where it has labelled points."""


@dataclass(frozen=True)
class Row:
    """
    One fault.

    Attributes:
        cases: the arguments of its trials, in the short form or in full.
        trial: makes one trial in an empty directory of its own.
        holds: what surviving means, as the table's reader is told.
    """

    name: str
    group: str
    holds: str
    cases: Callable[[bool], Sequence[tuple[Any, ...]]]
    trial: Callable[..., Trial]

    def run(self, directory: Path, arguments: tuple[Any, ...]) -> Trial:
        """One trial; an exception that nobody expected is a fault that was not survived."""
        try:
            return self.trial(directory, *arguments)
        except Exception as error:  # noqa: BLE001  whatever it is, the table must show it
            return Trial(fired=True, survived=False, said=f"{type(error).__name__}: {error}"[:300])


class Tally(NamedTuple):
    """The figures of one row."""

    trials: int
    fired: int
    survived: int
    wrong: int
    lost: int
    inconclusive: int
    said: tuple[str, ...]
    seconds: tuple[float, ...]
    points: frozenset[str]

    @property
    def is_green(self) -> bool:
        """Every trial fired and was survived, nothing was promoted wrongly, no decision was lost or doubled."""
        whole = self.trials and self.fired == self.survived == self.trials
        return bool(whole) and not self.wrong and not self.lost


def tally_of(trials: Sequence[Trial]) -> Tally:
    """The sums of a row's trials."""
    return Tally(
        trials=len(trials),
        fired=sum(one.fired for one in trials),
        survived=sum(one.survived for one in trials),
        wrong=sum(one.wrong for one in trials),
        lost=sum(one.lost for one in trials),
        inconclusive=sum(one.inconclusive for one in trials),
        said=tuple(dict.fromkeys(one.said for one in trials if one.said)),
        seconds=tuple(one.seconds for one in trials if one.seconds),
        points=frozenset(one.point for one in trials if one.point and one.fired),
    )


def seeds(short: int, full: int) -> Callable[[bool], list[tuple[int]]]:
    """A row's cases: one number each, counted from 0."""
    return lambda everything: [(index,) for index in range(full if everything else short)]


def all_rows() -> dict[str, Row]:
    """Every row by name, in the order of the table."""
    from tests.faults import clocks, crashes, decisions, effects, metrics, races, repository, serving, upgrades

    groups = (decisions, serving, metrics, effects, crashes, races, repository, clocks, upgrades)
    rows = [row for group in groups for row in group.ROWS]
    found = {row.name: row for row in rows}
    if len(found) != len(rows):
        raise ValueError("two rows of one name")
    return found
