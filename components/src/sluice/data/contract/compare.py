"""Two tables column by column: every score that there is for its type, the largest divergence first."""

from __future__ import annotations

from typing import Any

import numpy as np

from sluice.data.census.census import WHOLE, Census
from sluice.data.census.column import ColumnCensus
from sluice.data.census.distances import (
    NumberCounts,
    chi_square,
    kolmogorov_smirnov,
    population_stability,
    population_stability_of_texts,
    wasserstein,
)
from sluice.data.contract.comparison_checks import COMPARATORS, score
from sluice.data.contract.view import DatasetView, FeatureView
from sluice.documents.model import FrozenDocument


class ColumnScores(FrozenDocument):
    """One column of two tables. A score that its type has not, or that needs the tables themselves, is ``None``."""

    path: tuple[str, ...]
    kind: str
    kind_there: str | None
    """Of the other table; ``None`` where it has no such column."""
    infinity_norm: float | None = None
    normalized_abs_difference: float | None = None
    jensen_shannon_divergence: float | None = None
    kolmogorov_smirnov: float | None = None
    wasserstein: float | None = None
    population_stability: float | None = None
    chi_square: float | None = None
    chi_square_p_value: float | None = None

    @property
    def name(self) -> str:
        """The path as it is written."""
        return ".".join(self.path)


def compared_columns(
    baseline: DatasetView, fresh: DatasetView, tables: tuple[Census, Census] | None = None
) -> tuple[ColumnScores, ...]:
    """
    Scores of each column that either has.

    Args:
        baseline: statistics of the table that is compared with.
        fresh: statistics of the one that is looked at.
        tables: what was counted of both, for the distances that statistics do not tell.
    """
    there = {view.path: view for view in baseline.features()}
    here = {view.path: view for view in fresh.features()}
    rows = []
    for path in sorted({*there, *here}):
        one, other = here.get(path), there.get(path)
        if one is None or other is None:
            lone = one or other
            kind = lone.kind if lone is not None else ""
            rows.append(
                ColumnScores(path=path, kind=kind if one else "(missing)", kind_there=other.kind if other else None)
            )
            continue
        scores = _tfdv(one, other)
        if tables is not None:
            columns = [table.parts[WHOLE].columns[path] for table in tables]
            scores |= _distances(columns[0], columns[1])
        rows.append(ColumnScores(path=path, kind=one.kind, kind_there=other.kind, **scores))
    return tuple(sorted(rows, key=lambda row: (-(row.jensen_shannon_divergence or 0.0), row.path)))


def _tfdv(one: FeatureView, other: FeatureView) -> dict[str, Any]:
    """TFDV's comparators; those of counts say nothing of numbers, for which TFDV says 0."""
    scores: dict[str, Any] = {}
    for comparator in COMPARATORS:
        if comparator == "jensen_shannon_divergence" or (one.kind == other.kind == "STRING"):
            result = score(comparator, one, other)
            scores[comparator] = None if result is None else result.size
    return scores


def _distances(baseline: ColumnCensus, fresh: ColumnCensus) -> dict[str, Any]:
    if baseline.kind == fresh.kind == "STRING" and baseline.texts.exact and fresh.texts.exact:
        counts = [dict(column.texts.counts.select("value", "count").iter_rows()) for column in (baseline, fresh)]
        if not all(counts):
            return {}
        test = chi_square(counts[0], counts[1])
        return {
            "population_stability": population_stability_of_texts(counts[0], counts[1]),
            "chi_square": test.statistic,
            "chi_square_p_value": test.p_value,
        }
    sides = [NumberCounts(column.numbers.numbers(), column.numbers.counts) for column in (baseline, fresh)]
    if any(side.numbers.size == 0 for side in sides) or not {baseline.kind, fresh.kind} <= {"INT", "FLOAT"}:
        return {}
    sides = [NumberCounts(side.numbers, side.counts.astype(np.float64)) for side in sides]
    return {
        "kolmogorov_smirnov": kolmogorov_smirnov(sides[0], sides[1]),
        "wasserstein": wasserstein(sides[0], sides[1]),
        "population_stability": population_stability(sides[0], sides[1]),
    }
