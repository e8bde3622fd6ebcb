"""
What the table of a view must be, wherever it is written or read; a span is held to the same (``sluice.data.ingest``).

A join of the past and an online store take the same value from such a table, whichever order its rows are in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from sluice.data.span import type_name
from sluice.documents.event_time import iso
from sluice.errors import BadInput
from sluice.features.plan import StoredView

MOMENT = "event_timestamp"
_INTS = (pl.Int64, pl.Int32, pl.Int16, pl.Int8, pl.UInt32, pl.UInt16, pl.UInt8)
_TYPES: Mapping[str, tuple[type[pl.DataType], ...]] = {
    "float": (pl.Float64, pl.Float32, *_INTS),
    "int": _INTS,
    "string": (pl.String,),
}
"""Column types that hold a feature, the widest first; each goes into it without loss of what it says."""
_STAMP = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class TableContract:
    """
    The table of one view.

    Attributes:
        table: how messages call it.
        fix: what to do about a table that breaks the contract.
    """

    view: StoredView
    table: str
    fix: str

    @property
    def columns(self) -> list[str]:
        """Keys, features, ``event_timestamp``: what the view reads of the table."""
        return columns_of(self.view)

    def require_types(self, schema: Mapping[str, pl.DataType]) -> None:
        """Raises ``BadInput`` for a column that is missing or of another type."""
        types = dict.fromkeys(self.view.keys, _TYPES["string"])
        types |= {feature.name: _TYPES[feature.dtype] for feature in self.view.features}
        for name in self.columns:
            if name not in schema:
                raise BadInput(self.table, f"has no column {name!r}", self.fix)
            allowed = types.get(name, (_STAMP,))
            if schema[name] not in allowed:
                rule = f"has type {type_name(schema[name])}, not {type_name(_instance(allowed[0]))}"
                raise BadInput(f"column {name!r} of {self.table}", rule, self.fix)

    @property
    def identity(self) -> list[str]:
        """What no two rows may share: a key at a time."""
        return [*self.view.keys, MOMENT]

    def require_rows(self, n: int) -> None:
        """Raises ``BadInput`` for a table without any."""
        if not n:
            raise BadInput(self.table, "has no rows", self.fix)

    def distinct(self, rows: pl.DataFrame) -> pl.DataFrame:
        """
        The rows, checked, without those that equal another in every column that the view reads.

        Raises:
            BadInput: they break the contract.
        """
        self.require_types(rows.schema)
        if self.repeats(rows):
            rows = rows.unique(self.columns, maintain_order=True)
        self._require_identity(rows)
        self._require_finite(rows)
        return rows

    def repeats(self, rows: pl.DataFrame) -> bool:
        """Whether two of the rows share a key and a time."""
        return bool(rows.select(self.identity).is_duplicated().any())

    def _require_identity(self, rows: pl.DataFrame) -> None:
        for name in self.identity:
            if nulls := rows[name].null_count():
                raise BadInput(self.table, f"has no {name!r} in {nulls} of {rows.height} rows", self.fix)
        repeated = rows.select(self.identity).filter(rows.select(self.identity).is_duplicated())
        if not repeated.is_empty():
            first = repeated.sort(self.identity).row(0, named=True)
            key = ", ".join(f"{name} {first[name]!r:.60}" for name in self.view.keys)
            raise BadInput(self.table, f"gives two different rows with {key} at {iso(first[MOMENT])}", self.fix)

    def _require_finite(self, rows: pl.DataFrame) -> None:
        for feature in self.view.features:
            column = rows[feature.name]  # NaN is missing, like null
            if column.dtype.is_float() and (n := int(column.is_infinite().sum())):
                rule = f"is infinite in {n} of {rows.height} rows"
                raise BadInput(f"column {feature.name!r} of {self.table}", rule, self.fix)


def columns_of(view: StoredView) -> list[str]:
    """Columns of a view's table in the order that ``publish.messages`` wants them."""
    return [*view.keys, *(feature.name for feature in view.features), MOMENT]


def _instance(dtype: type[pl.DataType] | pl.DataType) -> pl.DataType:
    return dtype() if isinstance(dtype, type) else dtype
