"""The same comparison in every slice: a candidate that is broken for one shop only is broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from sluice.documents.evidence import Moments, Share, SliceEvidence, Stratum
from sluice.evidence.moments import moments_by
from sluice.evidence.rows import failed, slice_column
from sluice.tasks.task import Slice

_Losses = Mapping[tuple[str, ...], Moments]


def slice_evidence(
    slices: Sequence[Slice],
    live: tuple[pl.DataFrame, pl.DataFrame],
    cohort: tuple[pl.DataFrame, pl.DataFrame],
    pairs: pl.DataFrame,
) -> dict[str, SliceEvidence]:
    """
    Evidence by ``name=value``, in order of the slices and of their values.

    Args:
        live: candidate's and stable's rows of the stage.
        cohort: those whose labels are compared.
        pairs: requests that both answered, with ``difference`` of the losses; in shadow.
    """
    found: dict[str, SliceEvidence] = {}
    for each in slices:
        column = slice_column(each)
        shares = [_failures(rows, column) for rows in live]
        strata = _strata_by(*(moments_by(rows, [column, "window"], "loss") for rows in cohort))
        paired = moments_by(pairs, [column], "difference")
        for value in sorted({*shares[0], *shares[1]}):
            found[f"{each.name}={value}"] = SliceEvidence(
                candidate=shares[0].get(value),
                stable=shares[1].get(value),
                strata=tuple(strata.get(value, ())),
                pairs=paired.get((value,)),
            )
    return found


def _failures(rows: pl.DataFrame, column: str) -> dict[str, Share]:
    counted = rows.drop_nulls(column).group_by(column).agg(n=pl.len(), hits=failed().sum())
    return {value: Share(n=n, hits=hits) for value, n, hits in counted.iter_rows()}


def _strata_by(candidate: _Losses, stable: _Losses) -> dict[str, list[Stratum]]:
    """Strata by value, those in which both arms have two losses."""
    found: dict[str, list[Stratum]] = {}
    for key in sorted(candidate.keys() & stable.keys()):
        if min(candidate[key].n, stable[key].n) > 1:
            value, window = key
            stratum = Stratum(window=window, candidate=candidate[key], stable=stable[key])
            found.setdefault(value, []).append(stratum)
    return found
