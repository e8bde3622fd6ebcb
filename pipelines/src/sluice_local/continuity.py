"""Was anything lost or done twice? Counted in what is there: the windows of traffic and the decisions in Git."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from sluice.documents.verdict import Decision
from sluice.predictions.windows import list_windows, read_window
from sluice.workspace import Workspace


@dataclass(frozen=True)
class Continuity:
    """
    Counts over a whole history.

    Attributes:
        answers: predictions in the log.
        answers_twice: of them, those whose request and route are there once more.
        gaps: windows that do not begin where the one before them ended.
        decisions: decision records.
        decisions_twice: of them, those whose id is there once more.
    """

    answers: int
    answers_twice: int
    gaps: int
    decisions: int
    decisions_twice: int

    @property
    def whole(self) -> bool:
        """Nothing is missing and nothing is there twice."""
        return not (self.answers_twice or self.gaps or self.decisions_twice)


def continuity(workspace: Workspace, environment: str, decisions: Sequence[Decision]) -> Continuity:
    """Count an environment's prediction log and its decisions."""
    windows = list_windows(workspace.predictions / environment)
    rows = pl.concat([read_window(window).select("request_id", "route") for window in windows]) if windows else None
    distinct = {decision.id for decision in decisions}
    return Continuity(
        answers=rows.height if rows is not None else 0,
        answers_twice=rows.height - rows.n_unique() if rows is not None else 0,
        gaps=sum(before.end != after.start for before, after in itertools.pairwise(windows)),
        decisions=len(decisions),
        decisions_twice=len(decisions) - len(distinct),
    )
