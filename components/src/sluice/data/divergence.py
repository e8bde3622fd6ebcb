"""How far the values of a feature lie from a baseline: Jensen-Shannon divergence between histograms, in bits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from sluice.data.statistics import frequencies
from sluice.documents.model import FrozenDocument
from sluice.errors import BadInput

_MAX_CATEGORIES = 64
_NOISE = 1e-6
"""Part of a value, or of the gap between two, by which a value may lie beside an edge: a copy in float32 does."""
_NEAR_ZERO = 1e-9
"""The same where the baseline is 0 alone and gives no measure."""


class FeatureProfile(FrozenDocument):
    """
    The baseline histogram of one feature.

    Numeric: ``edges`` are values of the baseline at equally spaced ranks, so that the bins hold about the same mass;
    bin i is ``[edges[i], edges[i+1])`` and the last holds the maximum alone, so that a few distinct values have a bin
    each. What lies beside an edge by no more than noise is on it. ``shares`` (edges + 2) has these bins between two
    outer ones, below and above every baseline value.
    Categorical: ``shares`` (categories + 1) follows ``categories``, with one bin more for all others.
    Shares are of the non-null values and sum to 1, or are all 0 where there is none.
    """

    kind: Literal["numeric", "categorical"]
    null_rate: float = Field(ge=0, le=1)
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    shares: tuple[float, ...]
    n: int = Field(ge=1)


def profile_of(values: pl.Series, bins: int = 20) -> FeatureProfile:
    """
    The profile of a feature's values: numbers in about ``bins`` bins, strings and booleans by category.

    NaN counts as null. Strings keep their 64 most frequent values.

    Raises:
        BadInput: no values, or a type without a profile (times, lists).
    """
    _require_values(values)
    present = _present(values)
    null_rate = 1 - len(present) / len(values)
    if _kind(values) == "categorical":
        categories = _categories(present)
        shares = _shares(_categorical_counts(present, categories))
        return FeatureProfile(
            kind="categorical", null_rate=null_rate, categories=categories, shares=shares, n=len(values)
        )
    edges = _edges(present.to_numpy(), bins)
    counts = _numeric_counts(present.to_numpy(), edges)
    return FeatureProfile(kind="numeric", null_rate=null_rate, edges=edges, shares=_shares(counts), n=len(values))


def profiles_of(frame: pl.DataFrame, names: Iterable[str], bins: int = 20) -> dict[str, FeatureProfile]:
    """The profile of each named column."""
    return {name: profile_of(frame.get_column(name), bins) for name in names}


def masses(profile: FeatureProfile, values: pl.Series) -> tuple[float, ...]:
    """
    Shares of ``values`` in the profile's bins, the nulls first: sums to 1.

    Raises:
        BadInput: no values, or values of the other kind.
    """
    _require_values(values)
    present = _present(values)
    if len(present) and _kind(values) != profile.kind:
        raise BadInput(f"feature {values.name!r}", f"is {values.dtype}, its baseline is {profile.kind}", "cast it")
    if profile.kind == "categorical":
        counts = _categorical_counts(present, profile.categories)
    else:
        counts = _numeric_counts(present.cast(pl.Float64).to_numpy(), profile.edges)
    return (1 - len(present) / len(values), *(counts / len(values)).tolist())


def baseline_masses(profile: FeatureProfile) -> tuple[float, ...]:
    """The profile's own shares in the same bins as ``masses``, the nulls first."""
    return (profile.null_rate, *((1 - profile.null_rate) * np.asarray(profile.shares)).tolist())


def divergence(profile: FeatureProfile, values: pl.Series) -> float:
    """
    Jensen-Shannon divergence (base 2) of ``values`` against the baseline: 0 where the shares agree, 1 where they
    have no bin in common. Nulls are a bin of their own, so are values below, above or outside the baseline.

    With n values and k bins, chance alone gives about (k - 1) / (8 n ln 2) above what the distributions differ by.

    Raises:
        BadInput: no values, or values of the other kind.
    """
    return jensen_shannon(np.asarray(baseline_masses(profile)), np.asarray(masses(profile, values)))


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """JSD(p, q) = KL(p, m)/2 + KL(q, m)/2 with m = (p + q)/2, logarithms base 2 (Lin 1991); in [0, 1]."""
    middle = (p + q) / 2
    both = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return float(min(max(both, 0.0), 1.0))


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> float:
    positive = p > 0
    return float(np.sum(p[positive] * np.log2(p[positive] / q[positive])))


def _require_values(values: pl.Series) -> None:
    if len(values) == 0:
        raise BadInput(f"feature {values.name!r}", "has no values to compare", "give a span with rows")


def _kind(values: pl.Series) -> Literal["numeric", "categorical"]:
    dtype = values.dtype
    if dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum):
        return "categorical"
    if dtype.is_numeric() or dtype == pl.Null:
        return "numeric"
    raise BadInput(f"feature {values.name!r}", f"of type {dtype} has no profile", "leave it out of the comparison")


def _present(values: pl.Series) -> pl.Series:
    """Non-null values, as String or Float64."""
    if _kind(values) == "categorical":
        return values.drop_nulls().cast(pl.String)
    return values.cast(pl.Float64).drop_nulls().drop_nans()


def _categories(present: pl.Series) -> tuple[str, ...]:
    return tuple(frequencies(present)["value"].head(_MAX_CATEGORIES))


def _categorical_counts(present: pl.Series, categories: tuple[str, ...]) -> np.ndarray:
    counts: dict[str, int] = dict(frequencies(present).iter_rows())
    known = [counts.get(category, 0) for category in categories]
    return np.array([*known, len(present) - sum(known)], dtype=np.float64)


def _edges(present: np.ndarray, bins: int) -> tuple[float, ...]:
    finite = present[np.isfinite(present)]
    if finite.size == 0:
        return ()
    distinct = np.unique(finite)
    if distinct.size > bins:
        distinct = np.unique(np.quantile(finite, np.linspace(0, 1, bins + 1), method="inverted_cdf"))
    return tuple(distinct.tolist())


def _numeric_counts(present: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """Counts below every edge, in the bin that each edge begins, and above the last."""
    if not edges:
        return np.array([0.0, float(present.size)])
    places = np.asarray(edges)
    noise = _noise(places)
    place = np.searchsorted(places - noise, present, side="right") + (present > places[-1] + noise[-1])
    return np.bincount(place, minlength=len(edges) + 2).astype(np.float64)


def _noise(edges: np.ndarray) -> np.ndarray:
    """How far from each edge a value is still on it: less than half way to the next."""
    largest = np.finfo(np.float64).max
    if edges.size == 1:
        return np.abs(edges) * _NOISE if edges[0] else np.array([_NEAR_ZERO])
    with np.errstate(over="ignore"):
        gaps = np.minimum(np.diff(edges), largest)
    nearest = np.minimum(np.append(gaps, largest), np.insert(gaps, 0, largest))
    noise: np.ndarray = np.minimum(_NOISE * np.maximum(np.abs(edges), nearest), nearest / 4)
    return noise


def _shares(counts: np.ndarray) -> tuple[float, ...]:
    total = counts.sum()
    return tuple((counts / total if total else counts).tolist())
