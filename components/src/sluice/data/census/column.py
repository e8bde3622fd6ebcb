"""What is counted of one column: presence and valency at each level, and its numbers or texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import polars as pl

from sluice.data.census.exact_sum import exact_moments, exact_sum
from sluice.data.census.number_table import NumberTable
from sluice.data.census.text_table import TextTable
from sluice.data.census.valency import Innermost, Valency
from sluice.errors import BadInput

NOT_TEXT = "__BYTES_VALUE__"
"""What stands for bytes that are no UTF-8, as in TFDV."""
_WIDENED = {("INT", "FLOAT"): "FLOAT", ("FLOAT", "INT"): "FLOAT"}


@dataclass
class NumberMoments:
    """Exact sums of finite numbers and of their squares, once plain and once weighted."""

    total: Fraction = Fraction(0)
    squares: Fraction = Fraction(0)
    weight: int = 0
    """In units of ``exact_sum``."""
    weighted_total: Fraction = Fraction(0)
    weighted_squares: Fraction = Fraction(0)

    def add(self, values: np.ndarray, weights: np.ndarray | None) -> None:
        """Add finite numbers (float64, (n,)) and their weights."""
        total, squares = exact_moments(values)
        self.total, self.squares = self.total + total, self.squares + squares
        if weights is not None:
            total, squares = exact_moments(values, weights)
            self.weight += exact_sum(weights)
            self.weighted_total, self.weighted_squares = self.weighted_total + total, self.weighted_squares + squares

    def merge(self, other: NumberMoments) -> None:
        """Add what the other has added too."""
        for name in ("total", "squares", "weight", "weighted_total", "weighted_squares"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class SpecialNumbers:
    """What is a number and has no place among them; NaN, both infinities and null are four things."""

    nan: int = 0
    positive_infinity: int = 0
    negative_infinity: int = 0
    undefined: int = 0
    """Nulls inside lists."""
    zeros: int = 0
    nan_weight: float = 0.0
    positive_weight: float = 0.0
    negative_weight: float = 0.0

    def merge(self, other: SpecialNumbers) -> None:
        """Count what the other has counted too."""
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)


@dataclass
class TextLengths:
    """Lengths of texts or bytes, in bytes."""

    total: int = 0
    shortest: int | None = None
    longest: int | None = None
    not_utf8: int = 0

    def add(self, lengths: pl.Series) -> None:
        """Add the lengths (integers, no nulls) of some values."""
        if lengths.is_empty():
            return
        self.total += int(lengths.cast(pl.Int64).sum())
        self._bound(int(lengths.min()), int(lengths.max()))  # type: ignore[arg-type]  # numbers, as it is not empty

    def merge(self, other: TextLengths) -> None:
        """Count what the other has counted too."""
        self.total += other.total
        self.not_utf8 += other.not_utf8
        if other.shortest is not None and other.longest is not None:
            self._bound(other.shortest, other.longest)

    def _bound(self, shortest: int, longest: int) -> None:
        self.shortest = shortest if self.shortest is None else min(self.shortest, shortest)
        self.longest = longest if self.longest is None else max(self.longest, longest)


@dataclass
class ColumnCensus:
    """One column, or one field of a structure in it. ``kind`` is TFDV's type, ``None`` while all values are null."""

    path: tuple[str, ...]
    kind: str | None = None
    levels: list[Valency] = field(default_factory=list)
    innermost: Innermost = field(default_factory=Innermost)
    numbers: NumberTable = field(default_factory=NumberTable)
    moments: NumberMoments = field(default_factory=NumberMoments)
    special: SpecialNumbers = field(default_factory=SpecialNumbers)
    texts: TextTable = field(default_factory=TextTable)
    lengths: TextLengths = field(default_factory=TextLengths)
    note: str = ""
    """What the type of the column was, where numbers stand for something else: the unit and zone of times."""

    def add(self, column: pl.Series, weights: np.ndarray | None) -> tuple[pl.Series, np.ndarray | None]:
        """
        Count a batch of the column.

        Args:
            column: values, lists of them, or lists of lists.
            weights: float64 of shape (n,), or ``None``.

        Returns:
            the values at the innermost level with their weights: a structure's fields are counted from there.

        Raises:
            BadInput: the column has another type, or another nesting, than in batches before.
        """
        self._take_kind(*kind_of(leaf_type(column.dtype), column.name), name=column.name)
        values, weights = self._descend(column, weights)
        undefined = values.null_count()
        self.special.undefined += undefined
        if undefined:
            there = values.is_not_null().to_numpy()
            values, weights = values.drop_nulls(), None if weights is None else weights[there]
        if self.kind in ("INT", "FLOAT"):
            self._add_numbers(as_numbers(values), weights)
        elif self.kind == "STRING":
            self._add_texts(values, weights)
        return values, weights

    def merge(self, other: ColumnCensus) -> None:
        """Count what the other has counted too; raises as ``add`` does."""
        self._take_kind(other.kind, other.note, name=".".join(self.path))
        if other.levels:
            self._require_levels(len(other.levels))
        for mine, theirs in zip(self.levels, other.levels, strict=False):
            mine.merge(theirs)
        self.innermost.lengths.merge(other.innermost.lengths)
        self.numbers.merge(other.numbers)
        self.moments.merge(other.moments)
        self.special.merge(other.special)
        self.texts.merge(other.texts)
        self.lengths.merge(other.lengths)

    def _take_kind(self, kind: str | None, note: str, *, name: str) -> None:
        if kind is None or self.kind == kind:
            both = kind
        elif self.kind is None:
            both, self.note = kind, note
        else:
            both = _WIDENED.get((self.kind, kind))
        if kind is not None and (both is None or self.note != note):
            rule = f"is {self.kind}{_noted(self.note)} in one part and {kind}{_noted(note)} in another"
            raise BadInput(f"column {name!r}", rule, "give all parts one type, for example by a schema")
        self.kind = both or self.kind

    def _require_levels(self, depth: int) -> None:
        if not self.levels:
            self.levels = [Valency() for _ in range(depth)]
        if len(self.levels) != depth:
            rule = f"is nested {len(self.levels)} deep in one part and {depth} deep in another"
            raise BadInput(f"column {'.'.join(self.path)!r}", rule, "give all parts one type")

    def _descend(self, column: pl.Series, weights: np.ndarray | None) -> tuple[pl.Series, np.ndarray | None]:
        """Count presence and valency level by level, down to the values."""
        depth = max(1, nesting(column.dtype))
        if leaf_type(column.dtype) == pl.Null:
            return column.clear(), weights
        self._require_levels(depth)
        rows = np.arange(len(column))
        top = rows[column.is_not_null().to_numpy()]
        for level in range(depth):
            present = column.is_not_null().to_numpy()
            column = column.drop_nulls()
            weights, rows = None if weights is None else weights[present], rows[present]
            if not nesting(column.dtype):
                self.levels[level].add(np.ones(len(column), np.int64), weights)
                break
            column = column.arr.to_list() if isinstance(column.dtype, pl.Array) else column
            lengths = column.list.len().to_numpy().astype(np.int64)
            self.levels[level].add(lengths, weights)
            column = column.filter(lengths > 0).explode()
            weights, rows = None if weights is None else np.repeat(weights, lengths), np.repeat(rows, lengths)
            if level and level == depth - 1:
                matches = np.bincount(rows, minlength=int(top.max(initial=-1)) + 1)
                self.innermost.add(matches[top])
        return column, weights

    def _add_numbers(self, values: np.ndarray, weights: np.ndarray | None) -> None:
        special, finite = self.special, np.isfinite(values)
        special.zeros += int((values == 0).sum())
        if not finite.all():
            for name, weight, matches in (
                ("nan", "nan_weight", np.isnan(values)),
                ("positive_infinity", "positive_weight", values == np.inf),
                ("negative_infinity", "negative_weight", values == -np.inf),
            ):
                setattr(special, name, getattr(special, name) + int(matches.sum()))
                more = float(matches.sum() if weights is None else weights[matches].sum())
                setattr(special, weight, getattr(special, weight) + more)
            values, weights = values[finite], None if weights is None else weights[finite]
        self.numbers.add(values, weights)
        self.moments.add(values, weights)

    def _add_texts(self, values: pl.Series, weights: np.ndarray | None) -> None:
        if values.dtype == pl.Binary:
            self.lengths.add(values.bin.size())
            texts = _as_text(values)
            self.lengths.not_utf8 += texts.null_count()
            values = texts.fill_null(NOT_TEXT)
        else:
            values = values.cast(pl.String)
            self.lengths.add(values.str.len_bytes())
        self.texts.add(values, weights)


def _as_text(values: pl.Series) -> pl.Series:
    """Bytes as text, null where they are no UTF-8."""
    try:
        return values.cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series(values.name, list(map(_decoded, values)), dtype=pl.String)


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _noted(note: str) -> str:
    return f" ({note})" if note else ""


def nesting(dtype: pl.DataType) -> int:
    """How many lists lie around a type's values."""
    deep = 0
    while isinstance(dtype, pl.List | pl.Array):
        dtype, deep = dtype.inner, deep + 1  # type: ignore[assignment]  # an instance, in a frame's schema
    return deep


def leaf_type(dtype: pl.DataType) -> pl.DataType:
    """The type inside all lists."""
    while isinstance(dtype, pl.List | pl.Array):
        dtype = dtype.inner  # type: ignore[assignment]  # an instance, in a frame's schema
    return dtype


def kind_of(dtype: pl.DataType, name: str) -> tuple[str | None, str]:
    """
    TFDV's type of a column's values, and a note where numbers stand for times.

    Raises:
        BadInput: values of that type cannot be counted.
    """
    if isinstance(dtype, pl.Datetime):
        return "INT", f"microseconds since 1970, {dtype.time_zone or 'no zone'}"
    if dtype.is_temporal():
        return "INT", {"Date": "days since 1970", "Time": "microseconds of the day"}.get(str(dtype), "microseconds")
    for kind, belongs in (
        (None, dtype == pl.Null),
        ("STRUCT", isinstance(dtype, pl.Struct)),
        ("INT", dtype.is_integer() or dtype == pl.Boolean),
        ("FLOAT", dtype.is_float() or dtype.is_decimal()),
        ("STRING", dtype in (pl.String, pl.Binary, pl.Categorical, pl.Enum)),
    ):
        if belongs:
            return kind, ""
    raise BadInput(f"column {name!r}", f"has type {dtype}, which cannot be counted", "cast it, or leave it out")


def as_numbers(values: pl.Series) -> np.ndarray:
    """Values (no nulls) as float64: times in microseconds or days, booleans as 0 and 1."""
    dtype = values.dtype
    if isinstance(dtype, pl.Datetime):
        values = values.dt.cast_time_unit("us")
    elif isinstance(dtype, pl.Duration):
        values = values.dt.total_microseconds()
    numbers: np.ndarray = (values if dtype.is_decimal() else values.to_physical()).cast(pl.Float64).to_numpy()
    return numbers / 1000 if dtype == pl.Time else numbers
