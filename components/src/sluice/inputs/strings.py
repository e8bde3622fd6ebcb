"""Columns of short strings: a category, a key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import polars as pl

from sluice.inputs.kind import ColumnType, InputKind, NotOfKindError
from sluice.inputs.request_limits import LONGEST_TEXT

NUL = "\0"
"""Ends a string wherever C reads it (a database, a file's name), so that two keys would be one."""


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
        return f"a text of at most {LONGEST_TEXT} characters, none of them NUL"

    @property
    def zero(self) -> str:
        """As of ``InputKind``."""
        return ""

    def read(self, value: Any) -> Any:
        """As of ``InputKind``."""
        if type(value) is str and len(value) <= LONGEST_TEXT and NUL not in value:
            return value
        raise NotOfKindError

    def takes_all(self, values: Sequence[Any]) -> bool:
        """As of ``InputKind``."""
        if not {str}.issuperset(map(type, values)):
            return False
        return max(map(len, values)) <= LONGEST_TEXT and NUL not in "".join(values)

    def refused(self, column: pl.Series) -> tuple[pl.Series, str]:
        """As of ``InputKind``."""
        if len(odd := column.filter(column.str.contains(NUL, literal=True))):
            return odd, "has a NUL"
        return column.filter(column.str.len_chars() > LONGEST_TEXT), f"has more than {LONGEST_TEXT} characters"
