"""Statistics of a table in the making: batches are added, parts are merged, and nothing depends on how it was cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from sluice.data.census.column import ColumnCensus
from sluice.data.census.exact_sum import exact_sum
from sluice.errors import BadInput

WHOLE = "All Examples"
"""Name of the slice that is the whole table, as in TFDV."""
MOST_SLICES = 1000
_HEAVIEST = 1e30


@dataclass
class CensusSlice:
    """Some rows of the table: how many, and their columns by path."""

    rows: int = 0
    weight: int = 0
    """In units of ``exact_sum``."""
    columns: dict[tuple[str, ...], ColumnCensus] = field(default_factory=dict)

    def add(self, frame: pl.DataFrame, weights: np.ndarray | None) -> None:
        """Count a batch of rows; ``weights`` is float64, one a row."""
        self.rows += frame.height
        if weights is not None:
            self.weight += exact_sum(weights)
        for column in frame.iter_columns():
            self._add(column, (column.name,), weights)

    def merge(self, other: CensusSlice) -> None:
        """Count what the other has counted too."""
        self.rows += other.rows
        self.weight += other.weight
        for path, column in other.columns.items():
            self.columns.setdefault(path, ColumnCensus(path)).merge(column)

    def _add(self, column: pl.Series, path: tuple[str, ...], weights: np.ndarray | None) -> None:
        census = self.columns.setdefault(path, ColumnCensus(path))
        values, weights = census.add(column, weights)
        if isinstance(values.dtype, pl.Struct):
            for each in values.struct.unnest().iter_columns() if len(values) else ():
                self._add(each, (*path, each.name), weights)


@dataclass
class Census:
    """
    Statistics of a table in the making.

    Args:
        weight: column whose values weigh the rows; null weighs nothing.
        slices: columns whose values name slices; each is counted beside the whole.
    """

    weight: str | None = None
    slices: tuple[str, ...] = ()
    parts: dict[str, CensusSlice] = field(default_factory=lambda: {WHOLE: CensusSlice()})
    """By name: the whole, then ``<column>_<value>``."""

    def add(self, frame: pl.DataFrame) -> None:
        """
        Count a batch of rows.

        Raises:
            BadInput: the weight or a slice's column is missing or of a wrong type, a weight is negative or not
                finite, there are more than 1000 slices, or a column's type is another than before.
        """
        weights = self._weights(frame)
        self.parts[WHOLE].add(frame, weights)
        for name in self.slices:
            self._require(frame, name)
            rows = frame.with_row_index("sluice.row").group_by(name, maintain_order=True).agg("sluice.row")
            for value, members in rows.filter(pl.col(name).is_not_null()).iter_rows():
                places = np.asarray(members, dtype=np.int64)
                self._part(f"{name}_{value}").add(frame[places], None if weights is None else weights[places])

    def merge(self, other: Census) -> None:
        """
        Count what the other has counted too.

        Raises:
            BadInput: it was weighted or sliced otherwise, or a column has another type there.
        """
        if (self.weight, self.slices) != (other.weight, other.slices):
            rule = f"are weighted by {other.weight} and sliced by {list(other.slices)}, not as the others are"
            raise BadInput("statistics to merge", rule, "count all parts with the same options")
        for name, part in other.parts.items():
            self._part(name).merge(part)

    def _part(self, name: str) -> CensusSlice:
        if name not in self.parts and len(self.parts) > MOST_SLICES:
            raise BadInput(
                f"slices of {list(self.slices)}", f"are more than {MOST_SLICES}", "slice by a coarser column"
            )
        return self.parts.setdefault(name, CensusSlice())

    def _weights(self, frame: pl.DataFrame) -> np.ndarray | None:
        if self.weight is None:
            return None
        self._require(frame, self.weight)
        column = frame[self.weight]
        if not (column.dtype.is_numeric() or column.dtype == pl.Null):
            raise BadInput(f"weight {self.weight!r}", f"has type {column.dtype}", "name a column of numbers")
        weights: np.ndarray = column.cast(pl.Float64).fill_null(0.0).to_numpy()
        if not ((weights >= 0) & (weights <= _HEAVIEST)).all():
            rule = f"is negative, NaN or above {_HEAVIEST:g} in a row"
            raise BadInput(f"weight {self.weight!r}", rule, "mend it in the source")
        return weights

    @staticmethod
    def _require(frame: pl.DataFrame, name: str) -> None:
        if name not in frame.columns:
            raise BadInput(f"column {name!r}", "is not in the table", f"choose from {sorted(frame.columns)[:20]}")


def census_of(batches: Iterable[pl.DataFrame], weight: str | None = None, slices: Sequence[str] = ()) -> Census:
    """Count all batches; raises as ``Census.add`` does."""
    census = Census(weight, tuple(slices))
    for frame in batches:
        census.add(frame)
    return census
