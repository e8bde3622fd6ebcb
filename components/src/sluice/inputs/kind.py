"""What a kind of input has to say: what is one, how it is sent, kept, described, and made into numbers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import polars as pl

from sluice.arrays import Floats, Floats32
from sluice.content import digest_of_bytes
from sluice.documents.model import FiniteDocument, FrozenDocument

ColumnType = pl.DataType | type[pl.DataType]
INT_DATATYPES = frozenset(f"{sign}INT{bits}" for bits in (8, 16, 32, 64) for sign in ("", "U"))
FLOAT_DATATYPES = frozenset({"FP16", "FP32", "FP64"})
"""V2's names of numbers."""


class NotOfKindError(ValueError):
    """A value of a request that is none of an input's; says why in a clause, or nothing where ``expected`` says it."""


class InputCode(FiniteDocument, ABC):
    """
    How an input that is more than one number becomes columns of a model's input. Fitted or not, it is in the bundle.

    Attributes:
        kind: of the input.
        name: of the input.
    """

    kind: str
    name: str

    @property
    @abstractmethod
    def row_shape(self) -> tuple[int, ...]:
        """Of one row's code, before it is laid out flat."""

    @property
    def width(self) -> int:
        """Columns that it takes."""
        return math.prod(self.row_shape)

    @abstractmethod
    def encode(self, values: Sequence[Any] | pl.Series) -> Floats32:
        """
        Values of a request, or of a frame's column: float32, shape (n, width).

        Raises:
            ValueError, TypeError: one of them is none of the input's.
        """


class InputKind(FrozenDocument, ABC):
    """
    One kind of input, with its settings as fields.

    Attributes:
        kind: its name in documents.
    """

    kind: str
    may_be_null: ClassVar[bool] = True
    """Whether models know what to make of a missing value."""
    by_digest: ClassVar[bool] = False
    """Whether a log keeps it once, by its digest: what is too long to be written beside each prediction."""

    @property
    @abstractmethod
    def column_type(self) -> ColumnType:
        """Of its column in spans and frames."""

    @property
    @abstractmethod
    def expected(self) -> str:
        """What a request has to send, for people: ``a finite number``."""

    @property
    @abstractmethod
    def datatypes(self) -> frozenset[str]:
        """V2's datatypes in which it may be sent."""

    @property
    @abstractmethod
    def datatype(self) -> str:
        """The one in which it is best sent."""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Of one value, after the rows; empty for what is one number or text."""
        return ()

    @property
    @abstractmethod
    def zero(self) -> Any:
        """A value that is one, in JSON, to warm a server up with."""

    @property
    def description(self) -> Any:
        """What a server says of it: its name, or a document where there is more to say."""
        return self.kind if not type(self).model_fields.keys() - {"kind"} else self.model_dump(mode="json")

    @abstractmethod
    def read(self, value: Any) -> Any:
        """
        A value of a request, as it is from then on; what was read already is returned as it is.

        Raises:
            NotOfKindError: it is none.
        """

    def takes_all(self, values: Sequence[Any]) -> bool:
        """
        Whether ``read`` takes each of several values and leaves it as it is, found at a glance; ``False`` says nothing.
        """
        del values
        return False

    @abstractmethod
    def refused(self, column: pl.Series) -> tuple[pl.Series, str]:
        """Of a span's column (``column_type``), without nulls: what a server would refuse, and what that is."""

    def code(self, name: str) -> InputCode | None:
        """How a model takes it, where that is not learned as that of a column of a table is."""
        del name
        return None

    def content(self, value: Any) -> bytes:
        """The value in bytes, where it is kept ``by_digest``: equal values, equal bytes."""
        raise NotImplementedError(self.kind)

    def from_content(self, content: bytes) -> Any:
        """
        The value that ``content`` made the bytes of.

        Raises:
            ValueError: it made none of these.
        """
        raise NotImplementedError(self.kind)

    def summary(self, values: Sequence[Any] | pl.Series) -> Mapping[str, Floats]:
        """By name, numbers that say what the values are like, each of shape (n,): what drift is measured by."""
        del values
        return {}

    def described(self, column: pl.Series) -> list[pl.Series]:
        """What of a column is profiled and compared: itself, or a column ``<name>.<number>`` each of its summary."""
        numbers = self.summary(column)
        return [pl.Series(f"{column.name}.{name}", each) for name, each in numbers.items()] or [column]

    def logged(self, name: str, value: Any) -> dict[str, Any]:
        """What a log writes of a value: itself, or its digest and, as ``<name>.<number>``, its summary."""
        if not self.by_digest or value is None:
            return {name: value}
        numbers = self.summary([value])
        return {name: self.digest(value)} | {f"{name}.{key}": float(each[0]) for key, each in numbers.items()}

    def digest(self, value: Any) -> str:
        """Of a value's content: ``sha256:<hex>``."""
        return digest_of_bytes(self.content(value))

    @property
    def logged_type(self) -> ColumnType:
        """Of what a log writes under the input's own name."""
        return pl.String if self.by_digest else self.column_type
