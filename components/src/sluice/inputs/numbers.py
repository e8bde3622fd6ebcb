"""Columns of numbers: one number a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import polars as pl

from sluice.inputs.kind import FLOAT_DATATYPES, INT_DATATYPES, ColumnType, InputKind, NotOfKindError
from sluice.inputs.request_limits import LARGEST_FLOAT, LARGEST_INT


class FloatColumn(InputKind):
    """A finite number of 32 bits."""

    kind: Literal["float"] = "float"

    @property
    def column_type(self) -> ColumnType:
        """As of ``InputKind``."""
        return pl.Float64

    @property
    def expected(self) -> str:
        """As of ``InputKind``."""
        return "a finite number"

    @property
    def datatypes(self) -> frozenset[str]:
        """As of ``InputKind``."""
        return FLOAT_DATATYPES | INT_DATATYPES

    @property
    def datatype(self) -> str:
        """As of ``InputKind``."""
        return "FP64"

    @property
    def zero(self) -> float:
        """As of ``InputKind``."""
        return 0.0

    def read(self, value: Any) -> Any:
        """As of ``InputKind``."""
        kind = type(value)
        if (kind is float or kind is int) and abs(value) <= LARGEST_FLOAT:  # NaN is not
            return value
        raise NotOfKindError

    def takes_all(self, values: Sequence[Any]) -> bool:
        """As of ``InputKind``."""
        if not {float, int}.issuperset(map(type, values)):
            return False
        # A NaN would hide from min and max, and not from a sum.
        return max(values) <= LARGEST_FLOAT and min(values) >= -LARGEST_FLOAT and math.isfinite(sum(values))

    def refused(self, column: pl.Series) -> tuple[pl.Series, str]:
        """As of ``InputKind``."""
        return column.filter(~(column.abs() <= LARGEST_FLOAT)), "is not a finite number of 32 bits"


class IntColumn(InputKind):
    """A whole number of 64 bits."""

    kind: Literal["int"] = "int"

    @property
    def column_type(self) -> ColumnType:
        """As of ``InputKind``."""
        return pl.Int64

    @property
    def expected(self) -> str:
        """As of ``InputKind``."""
        return "an integer of 64 bits"

    @property
    def datatypes(self) -> frozenset[str]:
        """As of ``InputKind``."""
        return INT_DATATYPES

    @property
    def datatype(self) -> str:
        """As of ``InputKind``."""
        return "INT64"

    @property
    def zero(self) -> int:
        """As of ``InputKind``."""
        return 0

    def read(self, value: Any) -> Any:
        """As of ``InputKind``."""
        kind = type(value)
        whole = kind is int or (kind is float and value.is_integer())
        if whole and -LARGEST_INT <= value <= LARGEST_INT:
            return value
        raise NotOfKindError

    def takes_all(self, values: Sequence[Any]) -> bool:
        """As of ``InputKind``."""
        return {int}.issuperset(map(type, values)) and min(values) >= -LARGEST_INT and max(values) <= LARGEST_INT

    def refused(self, column: pl.Series) -> tuple[pl.Series, str]:
        """As of ``InputKind``."""
        return column.filter(column < -LARGEST_INT), "is below all integers"
