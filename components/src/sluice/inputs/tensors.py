"""
Tensors: an image, a spectrum, a window of a sensor; numbers of one type in a declared shape and range.

In spans a column of fixed-size Arrow lists, in requests nested lists (V1) or a tensor of shape [n, *shape] (V2). A
model gets every number moved from the declared range to 0 … 1: nothing is learned, so nothing can differ.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field, model_validator

from sluice.arrays import Floats, Floats32
from sluice.inputs.kind import FLOAT_DATATYPES, INT_DATATYPES, ColumnType, InputCode, InputKind, NotOfKindError

MOST_NUMBERS = 1 << 16
"""Of one tensor: a request of 1 MiB has to hold it in JSON."""
_MOST_AXES = 4
_NUMBERS = {int, float}
"""Types of a number of JSON; a bool is none."""
ElementType = Literal["uint8", "int8", "uint16", "int16", "int32", "float32"]
_COLUMNS: Mapping[str, ColumnType] = {
    "uint8": pl.UInt8,
    "int8": pl.Int8,
    "uint16": pl.UInt16,
    "int16": pl.Int16,
    "int32": pl.Int32,
    "float32": pl.Float32,
}
_DATATYPES: Mapping[str, str] = {
    "uint8": "UINT8",
    "int8": "INT8",
    "uint16": "UINT16",
    "int16": "INT16",
    "int32": "INT32",
    "float32": "FP32",
}


class TensorCode(InputCode):
    """Every number of a tensor, moved from ``low`` … ``high`` to 0 … 1, in the order of C."""

    kind: Literal["tensor"] = "tensor"
    shape: tuple[int, ...]
    low: float
    high: float

    @property
    def row_shape(self) -> tuple[int, ...]:
        """As of ``InputCode``."""
        return self.shape

    def encode(self, values: Sequence[Any] | pl.Series) -> Floats32:
        """As of ``InputCode``."""
        flat = _stacked(values, np.float32).reshape(len(values), self.width)
        unit: Floats32 = (flat - np.float32(self.low)) * np.float32(1.0 / (self.high - self.low))
        return unit


class TensorInput(InputKind):
    """
    A tensor.

    Attributes:
        shape: of one value: (28, 28, 1), say.
        dtype: of its numbers.
        low, high: the range that its numbers may have, both ends included; integers that leave them out may be all that
            their type holds.
    """

    kind: Literal["tensor"] = "tensor"
    shape: tuple[int, ...] = Field(min_length=1, max_length=_MOST_AXES)
    dtype: ElementType = "uint8"
    low: float | None = Field(default=None, allow_inf_nan=False)
    high: float | None = Field(default=None, allow_inf_nan=False)
    may_be_null: ClassVar[bool] = False
    by_digest: ClassVar[bool] = True

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if any(size < 1 for size in self.shape) or math.prod(self.shape) > MOST_NUMBERS:
            raise ValueError(f"shape {self.shape} is not of 1 to {MOST_NUMBERS} numbers")
        if self._floats and (self.low is None or self.high is None):
            raise ValueError("floats need a range, low and high")
        low, high = self._range
        if not low < high:
            raise ValueError(f"low {low:g} is not below high {high:g}")
        least, most = self._limits
        if low < least or high > most:
            raise ValueError(f"{self.dtype} cannot hold all of {low:g} to {high:g}")
        return self

    @property
    def _limits(self) -> tuple[float, float]:
        """Of the type."""
        limits = np.finfo(np.float32) if self._floats else np.iinfo(self.dtype)
        return float(limits.min), float(limits.max)

    @property
    def _range(self) -> tuple[float, float]:
        least, most = self._limits
        return least if self.low is None else self.low, most if self.high is None else self.high

    @property
    def _floats(self) -> bool:
        return self.dtype.startswith("float")

    @property
    def row_shape(self) -> tuple[int, ...]:
        """As of ``InputKind``."""
        return self.shape

    @property
    def column_type(self) -> ColumnType:
        """As of ``InputKind``."""
        return pl.Array(_COLUMNS[self.dtype], self.shape)

    @property
    def expected(self) -> str:
        """As of ``InputKind``."""
        sizes = " x ".join(map(str, self.shape))
        low, high = self._range
        return f"nested lists of {sizes} {'numbers' if self._floats else 'integers'} from {low:g} to {high:g}"

    @property
    def datatypes(self) -> frozenset[str]:
        """As of ``InputKind``."""
        return FLOAT_DATATYPES | INT_DATATYPES if self._floats else INT_DATATYPES

    @property
    def datatype(self) -> str:
        """As of ``InputKind``."""
        return _DATATYPES[self.dtype]

    @property
    def zero(self) -> Any:
        """As of ``InputKind``."""
        return np.full(self.shape, self._range[0], self.dtype).tolist()

    @property
    def description(self) -> Any:
        """As of ``InputKind``."""
        return {"kind": self.kind, "dtype": self.dtype, "shape": list(self.shape), "range": list(self._range)}

    def read(self, value: Any) -> npt.NDArray[Any]:
        """As of ``InputKind``: nested lists in, an array of ``dtype`` and ``shape`` out."""
        if isinstance(value, np.ndarray):
            return value
        return self._array(_flat(value, self.shape)).reshape(self.shape)

    def _array(self, numbers: Sequence[Any]) -> npt.NDArray[Any]:
        """Numbers of JSON as an array of ``dtype``, shape (n,)."""
        if set(map(type, numbers)) <= _NUMBERS:
            with contextlib.suppress(OverflowError):
                array = np.array(numbers, np.float64)
                if self._sound(array).all():
                    return array.astype(self.dtype)
        place, odd = next((at, each) for at, each in enumerate(numbers) if not self._is_number(each))
        low, high = self._range
        due = f"{'a number' if self._floats else 'an integer'} from {low:g} to {high:g}"
        raise NotOfKindError(f"has {odd!r:.40} as its number {place}, not {due}")

    def _sound(self, numbers: Floats) -> npt.NDArray[np.bool_]:
        low, high = self._range
        inside = (numbers >= low) & (numbers <= high)
        return inside if self._floats else inside & (numbers == np.rint(numbers))

    def _is_number(self, value: Any) -> bool:
        with contextlib.suppress(OverflowError):
            return type(value) in _NUMBERS and bool(self._sound(np.array([value], np.float64)).all())
        return False

    def refused(self, column: pl.Series) -> tuple[pl.Series, str]:
        """As of ``InputKind``."""
        present = column.drop_nulls()
        flat = present.to_numpy().reshape(len(present), -1)
        low, high = self._range
        sound = ((flat >= low) & (flat <= high)).all(axis=1)
        return present.filter(pl.Series(~sound, dtype=pl.Boolean)), f"has a number that is not from {low:g} to {high:g}"

    def code(self, name: str) -> TensorCode:
        """As of ``InputKind``."""
        low, high = self._range
        return TensorCode(name=name, shape=self.shape, low=low, high=high)

    def content(self, value: Any) -> bytes:
        """As of ``InputKind``: its numbers in the order of C, little-endian."""
        array = np.ascontiguousarray(value, np.dtype(self.dtype)) + np.dtype(self.dtype).type(0)  # -0.0 is 0.0
        return bytes(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())

    def from_content(self, content: bytes) -> npt.NDArray[Any]:
        """As of ``InputKind``."""
        return np.frombuffer(content, np.dtype(self.dtype).newbyteorder("<")).reshape(self.shape).astype(self.dtype)

    def summary(self, values: Sequence[Any] | pl.Series) -> Mapping[str, Floats]:
        """
        As of ``InputKind``: ``mean`` and ``deviation`` of a tensor's numbers, and the shares of them at the ends of
        the range, ``lowest`` (black, silence) and ``highest`` (overexposed, clipped).
        """
        flat, (low, high) = _stacked(values, np.float64).reshape(len(values), math.prod(self.shape)), self._range
        return {
            "mean": flat.mean(axis=1),
            "deviation": flat.std(axis=1),
            "lowest": (flat <= low).mean(axis=1),
            "highest": (flat >= high).mean(axis=1),
        }


def _stacked(values: Sequence[Any] | pl.Series, dtype: Any) -> npt.NDArray[Any]:
    """(n, …) of a frame's column, of arrays or of nested lists."""
    if isinstance(values, pl.Series):
        return values.to_numpy().astype(dtype)
    return np.array(values, dtype)


def _flat(value: Any, shape: tuple[int, ...]) -> list[Any]:
    """The numbers of nested lists, axis by axis; looks no deeper than the shape is."""
    level = [value]
    for axis, size in enumerate(shape):
        if not all(type(each) is list and len(each) == size for each in level):
            at, odd = next((at, each) for at, each in enumerate(level) if type(each) is not list or len(each) != size)
            place = "".join(f"[{index}]" for index in np.unravel_index(at, shape[:axis])) if axis else "its top"
            actual = f"a list of {len(odd)}" if type(odd) is list else type(odd).__name__
            raise NotOfKindError(f"has {actual} at {place}, not a list of {size}")
        level = list(itertools.chain.from_iterable(level))
    return level
