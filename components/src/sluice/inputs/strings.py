"""Columns of short strings: a category, a key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import polars as pl

from sluice.inputs.kind import ColumnType, InputKind, NotOfKindError
from sluice.inputs.request_limits import LONGEST_TEXT


class StringInput(InputKind):
    """Whatever is sent as a string."""

    @property
    def column_type(self) -> ColumnType:
        """As of ``InputKind``."""
        return pl.String

    @property
    def datatypes(self) -> frozenset[str]:
        """As of ``InputKind``."""
        return frozenset({self.datatype})

    @property
    def datatype(self) -> str:
        """As of ``InputKind``."""
        return "BYTES"


class StringColumn(StringInput):
    """A string that stands for itself; what is read for its words is a ``TextInput``."""

    kind: Literal["string"] = "string"

    @property
    def expected(self) -> str:
        """As of ``InputKind``."""
        return f"a text of at most {LONGEST_TEXT} characters"

    @property
    def zero(self) -> str:
        """As of ``InputKind``."""
        return ""

    def read(self, value: Any) -> Any:
        """As of ``InputKind``."""
        if type(value) is str and len(value) <= LONGEST_TEXT:
            return value
        raise NotOfKindError

    def takes_all(self, values: Sequence[Any]) -> bool:
        """As of ``InputKind``."""
        return {str}.issuperset(map(type, values)) and max(map(len, values)) <= LONGEST_TEXT

    def refused(self, column: pl.Series) -> tuple[pl.Series, str]:
        """As of ``InputKind``."""
        return column.filter(column.str.len_chars() > LONGEST_TEXT), f"has more than {LONGEST_TEXT} characters"
