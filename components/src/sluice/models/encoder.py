"""
From named feature values to the numbers that a model takes: fitted once on the train split, shipped in the bundle.

A numeric feature becomes its standardized value (after a signed logarithm where its tails are heavy), a
piecewise-linear code over its quantiles (Gorishniy, Rubachev, Babenko 2022, "On Embeddings for Numerical Features in
Tabular Deep Learning", section 3.2.1) and, where train has gaps, a missing flag. A string becomes a one-hot code.

Trees take numbers as they are, with NaN where one is missing: a split asks for order alone, and learns where missing
values go. Strings are one-hot for them too: integer codes would put categories into an order that means nothing, and
leave no place for one that train never saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from sluice.arrays import Floats, Floats32
from sluice.data.statistics import frequencies
from sluice.documents.model import FiniteDocument
from sluice.errors import BadInput
from sluice.features.manifest import Feature, FeatureManifest

Columns = Mapping[str, Sequence[Any]] | pl.DataFrame

_CLIP = 5.0
_BINS = 8
_DISTINCT = 24
_CATEGORIES = 256
_RARE = 1e-3
_HEAVY = 6.0
_BLOCK = 4096
_NOISE = 2.0**-23
"""Part of a value by which its copy in float32 may be another: fractions that vary by no more are one."""
_ROUNDING = 2.0**-50
"""Part of a value by which the same sum may come out as another in float64: knots so close are one."""
_LEAST = 1e-300
"""Divisor whose inverse is finite."""
_SQUARES_OVERFLOW = 1e150
_LARGEST = float(np.finfo(np.float32).max)


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


FeatureCode = NumericCode | RawCode | CategoryCode


class _OneHot(NamedTuple):
    """Where the columns of a category lie."""

    name: str
    first: int
    places: dict[Any, int]
    """Column by category, counted from the first."""
    other: int
    """Column of everything else, or -1."""


@dataclass(frozen=True, eq=False)
class _Plan:
    """The numeric codes as arrays: ``code = clip((x[source] - offset) * scale, low, high)``."""

    names: tuple[str, ...]
    logs: npt.NDArray[np.intp]
    fill: Floats
    source: npt.NDArray[np.intp]
    offset: Floats
    scale: Floats
    low: Floats
    high: Floats
    flags: npt.NDArray[np.intp]
    raw: tuple[str, ...]
    categories: tuple[_OneHot, ...]


class Encoder(FiniteDocument):
    """
    The fitted code of every feature, in the manifest's order.

    Columns of the result: all standardized values, all bins, all flags, all raw values, then the one-hot codes.
    """

    columns: tuple[Annotated[FeatureCode, Field(discriminator="kind")], ...] = Field(min_length=1)

    @cached_property
    def width(self) -> int:
        """Columns of the result."""
        return sum(column.width for column in self.columns)

    @property
    def dense(self) -> bool:
        """Whether every column has a number in every row: what a network needs."""
        return not self._plan.raw

    @property
    def one_hot(self) -> Mapping[str, slice]:
        """Columns of the result by name of a string."""
        widths = {column.name: column.width for column in self.columns}
        return {place.name: slice(place.first, place.first + widths[place.name]) for place in self._plan.categories}

    @cached_property
    def plain(self) -> npt.NDArray[np.intp]:
        """Columns without the bins, shape (k,): what a linear model usually gets."""
        plan = self._plan
        bins = len(plan.source) - len(plan.names)
        return np.concatenate([np.arange(len(plan.names)), np.arange(len(plan.names) + bins, self.width)])

    @cached_property
    def _plan(self) -> _Plan:
        return _plan(self.columns)

    def encode(self, columns: Columns) -> Floats32:
        """
        Encode rows given as columns; names that the encoder does not know are ignored, ``None`` and NaN are missing.

        Returns:
            float32, shape (rows, width).

        Raises:
            BadInput: a feature is absent, not a number where one is due, or columns differ in length.
        """
        plan = self._plan
        numbers = _numbers(columns, (*plan.names, *plan.raw))
        rows = len(numbers) if plan.names or plan.raw else len(columns[plan.categories[0].name])
        out = np.zeros((rows, self.width), np.float32)
        for start in range(0, rows, _BLOCK):
            _encode_numbers(plan, numbers[start : start + _BLOCK, : len(plan.names)], out[start : start + _BLOCK])
        if plan.raw:
            first = len(plan.source) + len(plan.flags)
            out[:, first : first + len(plan.raw)] = np.clip(numbers[:, len(plan.names) :], -_LARGEST, _LARGEST)
        for name, first, places, other in plan.categories:
            positions = _places(columns, name, places, other)
            if len(positions) != rows:
                raise BadInput(
                    f"feature {name!r}", f"has {len(positions)} values, others have {rows}", "send equal lengths"
                )
            known = positions >= 0
            out[np.flatnonzero(known), first + positions[known]] = 1.0
        return out


def fit_encoder(train: pl.DataFrame, manifest: FeatureManifest) -> Encoder:
    """
    Learn the code of each of the manifest's features from the rows of ``train``.

    Raises:
        BadInput: no rows, or a feature has no column, or its column's type does not fit the manifest.
    """
    if train.is_empty():
        raise BadInput("split 'train'", "has no rows", "widen the train window")
    return Encoder(columns=tuple(_fit_column(train, feature) for feature in manifest.features))


def fit_raw_encoder(train: pl.DataFrame, manifest: FeatureManifest) -> Encoder:
    """
    The code that trees take: of ``train`` it learns the categories of strings alone.

    Raises:
        BadInput: as of ``fit_encoder``.
    """
    columns = fit_encoder(train, manifest).columns
    return Encoder(columns=tuple(each if each.kind == "category" else RawCode(name=each.name) for each in columns))


def _fit_column(train: pl.DataFrame, feature: Feature) -> NumericCode | CategoryCode:
    if feature.name not in train.columns:
        raise BadInput(f"column {feature.name!r}", "is in the manifest but not in the frame", "build the frame again")
    values = train[feature.name]
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
    values = _signed_log(present) if log else present
    fill = float(np.median(values))
    if np.ptp(values) <= max(noise * np.abs(values).max(), _LEAST):
        return NumericCode(name=name, log=log, fill=fill, mean=fill, deviation=1.0, knots=(), flag=flag)
    mean, deviation = float(values.mean()), float(values.std())
    if deviation < _LEAST:  # squares of small numbers are 0
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
    least = max(_ROUNDING * float(np.abs(edges).max()), _LEAST)
    apart: list[float] = []
    for edge in edges.tolist():
        if not apart or edge - apart[-1] > least:
            apart.append(edge)
    return tuple(apart) if len(apart) > 2 else ()


def _signed_log(values: Floats) -> Floats:
    signed: Floats = np.sign(values) * np.log1p(np.abs(values))
    return signed


def _plan(columns: Sequence[FeatureCode]) -> _Plan:
    numeric = [column for column in columns if isinstance(column, NumericCode)]
    raw = tuple(column.name for column in columns if isinstance(column, RawCode))
    bins = [
        (index, low, 1.0 / max(high - low, _LEAST))
        for index, column in enumerate(numeric)
        for low, high in zip(column.knots, column.knots[1:], strict=False)
    ]
    affine = [(index, column.mean, 1.0 / max(column.deviation, _LEAST)) for index, column in enumerate(numeric)] + bins
    flags = [index for index, column in enumerate(numeric) if column.flag]
    return _Plan(
        names=tuple(column.name for column in numeric),
        logs=np.array([index for index, column in enumerate(numeric) if column.log], np.intp),
        fill=np.array([column.fill for column in numeric], np.float64),
        source=np.array([row[0] for row in affine], np.intp),
        offset=np.array([row[1] for row in affine], np.float64),
        scale=np.array([row[2] for row in affine], np.float64),
        low=np.array([-_CLIP] * len(numeric) + [0.0] * len(bins), np.float64),
        high=np.array([_CLIP] * len(numeric) + [1.0] * len(bins), np.float64),
        flags=np.array(flags, np.intp),
        raw=raw,
        categories=_category_places(columns, len(affine) + len(flags) + len(raw)),
    )


def _category_places(columns: Sequence[FeatureCode], first: int) -> tuple[_OneHot, ...]:
    categories = []
    for column in columns:
        if isinstance(column, CategoryCode):
            places: dict[Any, int] = {value: place for place, value in enumerate(column.categories)}
            categories.append(_OneHot(column.name, first, places, len(column.categories) if column.other else -1))
            first += column.width
    return tuple(categories)


def _numbers(columns: Columns, names: Sequence[str]) -> Floats:
    """The numeric features as they came, float64, shape (rows, len(names)); missing is NaN."""
    if not names:
        return np.empty((0, 0))
    try:
        if isinstance(columns, pl.DataFrame):
            frame = columns.select(pl.col(name).cast(pl.Float64) for name in names)
            return frame.to_numpy().reshape(columns.height, len(names))
        return np.array([columns[name] for name in names], np.float64).T
    except (KeyError, pl.exceptions.ColumnNotFoundError):
        raise _absent(columns, names) from None
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise BadInput("features", f"hold a value that is not a number ({error})", "send numbers or null") from error


def _encode_numbers(plan: _Plan, raw: Floats, out: Floats32) -> None:
    if not plan.names:
        return
    values = raw.copy()
    if len(plan.logs):
        values[:, plan.logs] = _signed_log(values[:, plan.logs])
    missing = np.isnan(values)
    values = np.where(missing, plan.fill, values)
    codes = values[:, plan.source]
    with np.errstate(over="ignore"):  # beyond all numbers is beyond the clip too
        codes -= plan.offset
        codes *= plan.scale
    np.maximum(codes, plan.low, out=codes)
    np.minimum(codes, plan.high, out=codes)
    out[:, : codes.shape[1]] = codes
    out[:, codes.shape[1] : codes.shape[1] + len(plan.flags)] = missing[:, plan.flags]


def _places(columns: Columns, name: str, places: dict[Any, int], other: int) -> npt.NDArray[np.intp]:
    if name not in columns:
        raise _absent(columns, (name,))
    values = columns[name].to_list() if isinstance(columns, pl.DataFrame) else columns[name]
    return np.array([places.get(value, other) for value in values], np.intp)


def _absent(columns: Columns, names: Sequence[str]) -> BadInput:
    have = set(columns.columns) if isinstance(columns, pl.DataFrame) else set(columns)
    first = next(name for name in names if name not in have)
    return BadInput(
        f"feature {first!r}", "is missing from the input", "send every feature of the manifest, null if unknown"
    )
