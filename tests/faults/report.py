"""The suite's outcome as a page, and as a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tests.faults.registry import SEED, Row, Tally

HEADINGS = ("fault", "trials", "fired", "survived", "wrong promotions", "lost or doubled", "inconclusive")


@dataclass(frozen=True)
class Outcome:
    """
    What was found.

    Attributes:
        tallies: rows with their figures, in the order of the table.
        caught: guard → the row that went red without it, ``None`` where none did.
    """

    full: bool
    tallies: tuple[tuple[Row, Tally], ...]
    caught: Mapping[str, str | None]

    @property
    def is_green(self) -> bool:
        """Whether every row is, and every guard is missed when it is gone."""
        return all(tally.is_green for _, tally in self.tallies) and None not in self.caught.values()

    @property
    def points(self) -> int:
        """Distinct labelled points at which SIGKILL struck."""
        return len(frozenset().union(*(tally.points for _, tally in self.tallies)))

    def problems(self) -> list[str]:
        """One line for each row that is red, and each guard that nobody missed."""
        found = []
        for row, tally in self.tallies:
            if not tally.is_green:
                void = f"{tally.trials - tally.fired} trials are void" if tally.fired < tally.trials else ""
                found.append(f"{row.name}: {'; '.join(filter(None, (void, *tally.said[:3]))) or 'red'}")
        return found + [
            f"without {guard!r} every row stayed green" for guard, row in self.caught.items() if row is None
        ]


def grid_of(outcome: Outcome) -> Table:
    """For a terminal."""
    grid = Table("fault", "trials", "fired", "survived", "wrong", "lost", "open", box=SIMPLE_HEAD)
    grid.columns[0].no_wrap = True
    for row, tally in outcome.tallies:
        grid.add_row(*_cells(row, tally), style=None if tally.is_green else "red")
    return grid


def _cells(row: Row, tally: Tally) -> tuple[str, ...]:
    figures = (tally.trials, tally.fired, tally.survived, tally.wrong, tally.lost, tally.inconclusive)
    return (row.name, *(f"{figure:,}" for figure in figures))


def page_of(outcome: Outcome) -> str:
    """The whole page as Markdown; equal figures give equal text."""
    tallies = [tally for _, tally in outcome.tallies]
    total = [sum(getattr(one, key) for one in tallies) for key in ("trials", "fired", "survived", "wrong", "lost")]
    form = "in full (`make reliability FULL=1`)" if outcome.full else "in the short form (`make reliability`)"
    text = _HEAD.format(
        form=form,
        seed=SEED,
        trials=f"{total[0]:,}",
        fired=f"{total[1]:,}",
        survived=f"{total[2]:,}",
        wrong=total[3],
        lost=total[4],
        points=outcome.points,
        guards=len(outcome.caught),
    )
    rows = [(*_cells(row, tally), row.holds) for row, tally in outcome.tallies]
    text += _table((*HEADINGS, "what surviving means"), rows, right=range(1, 7))
    text += _METHOD
    return text + _MUTATIONS + _table(("guard taken out", "row that goes red"), _caught(outcome), right=())


def _caught(outcome: Outcome) -> list[tuple[str, str]]:
    return [(guard, row or "**none**") for guard, row in outcome.caught.items()]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] | range) -> str:
    ruler = ["---:" if place in right else "---" for place in range(len(headings))]
    lines = [" | ".join(cells) for cells in (headings, ruler, *rows)]
    return "".join(f"| {line} |\n" for line in lines)


_HEAD = """# What faults do to a release

Every row breaks something on purpose and counts what came of it. Made {form}; seed {seed}.

**{trials} trials, {fired} fired, {survived} survived; {wrong} wrong promotions, {lost} decisions lost or doubled.**
SIGKILL struck at {points} distinct labelled points. {guards} guards were taken out, each in turn.

    make reliability            # the short form, minutes: what CI runs
    make reliability FULL=1     # many seeds, every labelled point, 16 writers
    .venv/bin/python -m tests.faults --row "git: acknowledgement lost"     # one row

- **Fired**: the injector proved that the fault was there (a process that ended with SIGKILL, a call that was answered
  with a failure, rows that are not what they were). A trial without that proof is void, and that is red too.
- **Wrong promotion**: a step forward by a candidate that is bad, or on evidence from which nothing can be known.
- **Lost or doubled**: a decision that is not in the ledger after recovery, or is there twice.
- **Inconclusive**: the rollout ran into its deadline without an answer. That is no failure; never ending would be.

"""
_METHOD = """
How the rows are made:

- *decisions* plays the shipped policy in the simulator's worlds, looked at every hour.
- *metrics* plays rollouts by the prediction log, by evidence documents, and by a scripted Prometheus on loopback over
  the servers' own counters. The source breaks when the rollout reaches a phase (bootstrap, shadow, both canary steps,
  confirm) and stays broken; with every other seed the candidate turns bad at that moment. A rollout must end by the
  deadlines of its stages.
- *SIGKILL* and *git* play a history with a first model, a promotion, a rollback, holds and refusals against a real
  repository. The points are the entries and exits of the functions that an undisturbed run passes, found by watching
  it, so no product code knows of them. Afterwards the branch's tip must be the same commit: that covers release files,
  records, ids, messages and dates. A full disk is a limit on the size of every file.
- *upgrade* reads repositories that older versions wrote, with a rollout in its canary; *downgrade* lets today's code
  read what a newer version may write.

"""
_MUTATIONS = """## Does the suite notice?

Each guard of the product is taken out of a copy of its source, and rows are asked until one goes red.

"""
