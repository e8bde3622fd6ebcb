"""
From named feature values to the numbers that a model takes: fitted once on the train split, shipped in the bundle.

A numeric feature becomes its standardized value (after a signed logarithm where its tails are heavy), a
piecewise-linear code over its quantiles (Gorishniy, Rubachev, Babenko 2022, "On Embeddings for Numerical Features in
Tabular Deep Learning", section 3.2.1) and, where train has gaps, a missing flag. A string becomes a one-hot code.

Trees take numbers as they are, with NaN where one is missing: a split asks for order alone, and learns where missing
values go. Strings are one-hot for them too: integer codes would put categories into an order that means nothing, and
leave no place for one that train never saw.

Images and texts are coded as their kind of input says (``sluice.inputs``), for networks and trees alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from sluice.arrays import Floats, Floats32
from sluice.documents.model import FiniteDocument
from sluice.errors import BadInput, one_line
from sluice.features.manifest import FeatureManifest
from sluice.inputs.kind import InputCode
from sluice.models.codes import LEAST, CategoryCode, FeatureCode, NumericCode, RawCode, fit_column, signed_log

__all__ = [
    "CategoryCode",
    "Columns",
    "Encoder",
    "InputBlock",
    "NumericCode",
    "RawCode",
    "fit_encoder",
    "fit_raw_encoder",
]

Columns = Mapping[str, Sequence[Any]] | pl.DataFrame

_CLIP = 5.0
_BLOCK = 4096
_LARGEST = float(np.finfo(np.float32).max)


class _OneHot(NamedTuple):
    """Where the columns of a category lie."""

    name: str
    first: int
    places: dict[Any, int]
    """Column by category, counted from the first."""
    other: int
    """Column of everything else, or -1."""


class InputBlock(NamedTuple):
    """An image or a text in the encoded row."""

    place: slice
    """Its columns."""
    code: InputCode


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
    blocks: tuple[InputBlock, ...]


class Encoder(FiniteDocument):
    """
    The fitted code of every feature, in the manifest's order.

    Columns of the result: all standardized values, all bins, all flags, all raw values, then the one-hot codes, then
    images and texts.
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

    @property
    def blocks(self) -> tuple[InputBlock, ...]:
        """Images and texts in the order of their columns."""
        return self._plan.blocks

    @property
    def numbers(self) -> int:
        """How many columns, from the first on, are of numeric features."""
        plan = self._plan
        return len(plan.source) + len(plan.flags) + len(plan.raw)

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
        rows = len(numbers) if plan.names or plan.raw else _length(columns, self.columns[0].name)
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
        for block in plan.blocks:
            out[:, block.place] = _encoded(columns, block.code, rows)
        return out


def fit_encoder(train: pl.DataFrame, manifest: FeatureManifest) -> Encoder:
    """
    Learn the code of each of the manifest's features from the rows of ``train``.

    Raises:
        BadInput: no rows, or a feature has no column, or its column's type does not fit the manifest.
    """
    if train.is_empty():
        raise BadInput("split 'train'", "has no rows", "widen the train window")
    return Encoder(columns=tuple(fit_column(train, feature) for feature in manifest.features))


def fit_raw_encoder(train: pl.DataFrame, manifest: FeatureManifest) -> Encoder:
    """
    The code that trees take: of ``train`` it learns the categories of strings alone.

    Raises:
        BadInput: as of ``fit_encoder``.
    """
    columns = fit_encoder(train, manifest).columns
    return Encoder(columns=tuple(RawCode(name=each.name) if each.kind == "numeric" else each for each in columns))


def _plan(columns: Sequence[FeatureCode]) -> _Plan:
    numeric = [column for column in columns if isinstance(column, NumericCode)]
    raw = tuple(column.name for column in columns if isinstance(column, RawCode))
    bins = [
        (index, low, 1.0 / max(high - low, LEAST))
        for index, column in enumerate(numeric)
        for low, high in zip(column.knots, column.knots[1:], strict=False)
    ]
    affine = [(index, column.mean, 1.0 / max(column.deviation, LEAST)) for index, column in enumerate(numeric)] + bins
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
        blocks=_blocks(columns),
    )


def _category_places(columns: Sequence[FeatureCode], first: int) -> tuple[_OneHot, ...]:
    categories = []
    for column in columns:
        if isinstance(column, CategoryCode):
            places: dict[Any, int] = {value: place for place, value in enumerate(column.categories)}
            categories.append(_OneHot(column.name, first, places, len(column.categories) if column.other else -1))
            first += column.width
    return tuple(categories)


def _blocks(columns: Sequence[FeatureCode]) -> tuple[InputBlock, ...]:
    codes = [column for column in columns if isinstance(column, InputCode)]
    first, blocks = sum(column.width for column in columns) - sum(code.width for code in codes), []
    for code in codes:
        blocks.append(InputBlock(slice(first, first + code.width), code))
        first += code.width
    return tuple(blocks)


def _encoded(columns: Columns, code: InputCode, rows: int) -> Floats32:
    if _length(columns, code.name) != rows:
        raise BadInput(f"feature {code.name!r}", f"has other than {rows} values", "send equal lengths")
    try:
        return code.encode(columns[code.name])
    except (TypeError, ValueError, AttributeError) as error:
        rule = f"holds a value that is no {code.kind} of its shape ({one_line(error, 120)})"
        raise BadInput(f"feature {code.name!r}", rule, "send what the manifest says") from error


def _length(columns: Columns, name: str) -> int:
    if name not in columns:
        raise _absent(columns, (name,))
    return len(columns[name])


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
        values[:, plan.logs] = signed_log(values[:, plan.logs])
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
