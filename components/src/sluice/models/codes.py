"""The code of each feature: what is kept of it in a bundle, and how it is learned from the rows of split train."""

from __future__ import annotations

from typing import Literal, cast

import numpy as np
import polars as pl
from pydantic import Field

from sluice.arrays import Floats
from sluice.data.statistics import frequencies
from sluice.documents.model import FiniteDocument
from sluice.errors import BadInput
from sluice.features.manifest import Feature
from sluice.inputs.registry import AnyInputCode

_BINS = 8
_DISTINCT = 24
_CATEGORIES = 256
_RARE = 1e-3
_HEAVY = 6.0
_NOISE = 2.0**-23
"""Part of a value by which its copy in float32 may be another: fractions that vary by no more are one."""
_ROUNDING = 2.0**-50
"""Part of a value by which the same sum may come out as another in float64: knots so close are one."""
LEAST = 1e-300
"""Divisor whose inverse is finite."""
_SQUARES_OVERFLOW = 1e150


class NumericCode(FiniteDocument):
    """
    One number in, ``len(knots) - 1`` bins, one standardized value and perhaps a flag out.

    Attributes:
        log: take ``sign(x) log(1 + |x|)`` first; all numbers below are on that scale.
        fill: stands in for a missing value (the median of train).
        knots: edges of the piecewise-linear code, rising.
        flag: whether a column says that the value is missing.
    """

    kind: Literal["numeric"] = "numeric"
    name: str
    log: bool
    fill: float
    mean: float
    deviation: float = Field(gt=0)
    knots: tuple[float, ...]
    flag: bool

    @property
    def width(self) -> int:
        """Columns that it takes."""
        return 1 + max(len(self.knots) - 1, 0) + int(self.flag)


class CategoryCode(FiniteDocument):
    """
    One string in, one column a category out; with ``other``, one more for rare, unseen and missing values.

    Without ``other`` (train had none) an unseen value is all zeros: an untrained column would add noise.
    """

    kind: Literal["category"] = "category"
    name: str
    categories: tuple[str, ...]
    other: bool

    @property
    def width(self) -> int:
        """Columns that it takes."""
        return len(self.categories) + int(self.other)


class RawCode(FiniteDocument):
    """One number in, the same out as float32, NaN where it is missing; beyond float32 it is the largest one."""

    kind: Literal["raw"] = "raw"
    name: str

    @property
    def width(self) -> int:
        """Columns that it takes."""
        return 1


FeatureCode = NumericCode | RawCode | CategoryCode | AnyInputCode


def input_code(feature: Feature) -> AnyInputCode | None:
    """The code of an image or a text, which is not learned; none of a column of a table."""
    return cast(AnyInputCode | None, feature.kind.code(feature.name))


def fit_column(train: pl.DataFrame, feature: Feature) -> FeatureCode:
    """
    The code of a feature, learned from the rows of ``train``.

    Raises:
        BadInput: it has no column, or one of a type that does not fit the manifest.
    """
    if feature.name not in train.columns:
        raise BadInput(f"column {feature.name!r}", "is in the manifest but not in the frame", "build the frame again")
    values = train[feature.name]
    if code := input_code(feature):
        if values.dtype != feature.kind.column_type:
            rule = f"is {values.dtype}, the manifest says {feature.kind.column_type}"
            raise BadInput(f"column {feature.name!r}", rule, "build the frame again")
        return code
    if feature.dtype == "string":
        if values.dtype not in (pl.String, pl.Categorical, pl.Null):
            raise BadInput(
                f"column {feature.name!r}", f"is {values.dtype}, the manifest says string", "mend the feature"
            )
        return _fit_category(feature.name, values.cast(pl.String))
    if not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null)):
        raise BadInput(f"column {feature.name!r}", f"is {values.dtype}, the manifest says a number", "mend the feature")
    noise = _ROUNDING if values.dtype.is_integer() else _NOISE
    return _fit_numeric(feature.name, values.cast(pl.Float64).to_numpy(), noise)


def _fit_category(name: str, values: pl.Series) -> CategoryCode:
    frequent = frequencies(values.drop_nulls()).filter(pl.col("count") >= max(2, _RARE * len(values))).head(_CATEGORIES)
    other = int(frequent["count"].sum()) < len(values)
    return CategoryCode(name=name, categories=tuple(sorted(frequent["value"].to_list())), other=other)


def _fit_numeric(name: str, raw: Floats, noise: float) -> NumericCode:
    present = raw[np.isfinite(raw)]
    flag = bool(np.isnan(raw).any())
    if not len(present):
        return NumericCode(name=name, log=False, fill=0.0, mean=0.0, deviation=1.0, knots=(), flag=flag)
    log = bool(np.abs(present).max() > _SQUARES_OVERFLOW) or _heavy(present)
    values = signed_log(present) if log else present
    fill = float(np.median(values))
    if np.ptp(values) <= max(noise * np.abs(values).max(), LEAST):
        return NumericCode(name=name, log=log, fill=fill, mean=fill, deviation=1.0, knots=(), flag=flag)
    mean, deviation = float(values.mean()), float(values.std())
    if deviation < LEAST:  # squares of small numbers are 0
        deviation = float(np.ptp(values))
    return NumericCode(name=name, log=log, fill=fill, mean=mean, deviation=deviation, knots=_knots(values), flag=flag)


def _heavy(values: Floats) -> bool:
    """Whether a far tail lies beyond ``_HEAVY`` interquartile ranges from the median."""
    low, first, middle, third, high = np.quantile(values, [0.005, 0.25, 0.5, 0.75, 0.995])
    return bool(max(high - middle, middle - low) > _HEAVY * (third - first) / 2 and high - low > 10)


def _knots(values: Floats) -> tuple[float, ...]:
    """Every distinct value when there are few, else quantiles; repeated edges once. Fewer than three say nothing."""
    distinct = np.unique(values)
    edges = distinct if len(distinct) <= _DISTINCT else np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)))
    least = max(_ROUNDING * float(np.abs(edges).max()), LEAST)
    apart: list[float] = []
    for edge in edges.tolist():
        if not apart or edge - apart[-1] > least:
            apart.append(edge)
    return tuple(apart) if len(apart) > 2 else ()


def signed_log(values: Floats) -> Floats:
    """``sign(x) log(1 + |x|)``."""
    signed: Floats = np.sign(values) * np.log1p(np.abs(values))
    return signed
