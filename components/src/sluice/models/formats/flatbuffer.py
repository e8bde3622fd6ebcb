"""
A reader of flatbuffers that believes nothing: every offset is checked before it is followed.

https://flatbuffers.dev/internals/: a table starts with a signed offset back to its vtable, which says where each field
lies; vectors, strings and other tables lie at unsigned offsets ahead.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_MOST = 1 << 20


@dataclass(frozen=True)
class FlatTable:
    """
    One table of a flatbuffer; fields are known by number.

    Every method raises ValueError where the bytes do not hold what they say.
    """

    data: bytes
    at: int

    def number(self, field: int, code: str, default: int = 0) -> int:
        """A scalar; ``code`` is of ``struct``."""
        place = self._place(field)
        return default if place is None else _unpack(self.data, place, code)

    def table(self, field: int) -> FlatTable | None:
        """A table of its own."""
        place = self._place(field)
        return None if place is None else FlatTable(self.data, _follow(self.data, place))

    def tables(self, field: int) -> tuple[FlatTable, ...]:
        """A vector of tables."""
        start, length = self._vector(field, 4)
        return tuple(FlatTable(self.data, _follow(self.data, start + 4 * number)) for number in range(length))

    def numbers(self, field: int, code: str = "i") -> tuple[int, ...]:
        """A vector of scalars, int32 unless ``code`` says otherwise."""
        start, length = self._vector(field, struct.calcsize(code))
        return struct.unpack_from(f"<{length}{code}", self.data, start)

    def content(self, field: int) -> memoryview:
        """A vector of bytes, or a text; not copied."""
        start, length = self._vector(field, 1, most=len(self.data))
        return memoryview(self.data)[start : start + length]

    def fields(self) -> Iterator[int]:
        """Numbers of the fields that are set."""
        size = _unpack(self.data, self._vtable(), "H")
        return (field for field in range((size - 4) // 2) if self._place(field) is not None)

    def _vtable(self) -> int:
        vtable = self.at - _unpack(self.data, self.at, "i")
        size, inline = _unpack(self.data, vtable, "H"), _unpack(self.data, vtable + 2, "H")
        if size < 4 or size % 2 or vtable + size > len(self.data) or self.at + inline > len(self.data):
            raise ValueError("a table reaches beyond the file")
        return vtable

    def _place(self, field: int) -> int | None:
        vtable = self._vtable()
        if 4 + 2 * field + 2 > _unpack(self.data, vtable, "H"):
            return None
        offset = _unpack(self.data, vtable + 4 + 2 * field, "H")
        if offset >= _unpack(self.data, vtable + 2, "H"):
            raise ValueError("a field lies outside its table")
        return self.at + offset if offset else None

    def _vector(self, field: int, size: int, most: int = _MOST) -> tuple[int, int]:
        place = self._place(field)
        if place is None:
            return 0, 0
        start = _follow(self.data, place)
        length = _unpack(self.data, start, "I")
        if length > most or start + 4 + length * size > len(self.data):
            raise ValueError("a vector reaches beyond the file")
        return start + 4, length


def root_table(data: bytes, identifier: bytes) -> FlatTable:
    """
    The table that a flatbuffer is of.

    Raises:
        ValueError: the bytes do not carry this identifier, or lead nowhere.
    """
    if data[4:8] != identifier:
        raise ValueError(f"no file identifier {identifier.decode()}")
    return FlatTable(data, _follow(data, 0))


def _follow(data: bytes, place: int) -> int:
    target = place + _unpack(data, place, "I")
    if target >= len(data):
        raise ValueError("an offset leads beyond the file")
    return target


def _unpack(data: bytes, place: int, code: str) -> int:
    size = struct.calcsize(code)
    if place < 0 or place + size > len(data):
        raise ValueError("an offset leads beyond the file")
    return int.from_bytes(data[place : place + size], "little", signed=code.islower())
