"""
Images and texts in the log: each once, under its digest, beside the line that first names it.

A line of the log names them by digest among ``features`` and ``keys``; ``contents`` has the bytes, as base64, where the
server has not written them in this hour. Beyond a bound of bytes an hour a log has the digest alone.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
import polars as pl

from sluice.content import digest_of_bytes

HOUR_BYTES = 64 << 20
"""Of contents that one server logs in an hour, unless it is told another number."""
_HOUR_S = 3600
_MOST_KNOWN = 100_000


class ContentBudget:
    """
    What one server has written of contents in this hour of its own.

    Args:
        hour_bytes: bound; beyond it digests alone are written.
        clock: seconds.
    """

    def __init__(self, hour_bytes: int = HOUR_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._hour_bytes, self._clock = hour_bytes, clock
        self._hour, self._spent = -1, 0
        self._known: set[str] = set()

    def fresh(self, contents: Mapping[str, bytes]) -> dict[str, str]:
        """Of ``contents`` (digest to bytes) those to be written now, as base64."""
        if not contents:
            return {}
        if (hour := int(self._clock() // _HOUR_S)) != self._hour or len(self._known) > _MOST_KNOWN:
            self._spent = self._spent if hour == self._hour else 0
            self._hour, self._known = hour, set()
        lines = {}
        for digest, content in contents.items():
            if digest not in self._known and self._spent + len(content) <= self._hour_bytes:
                self._known.add(digest)
                self._spent += len(content)
                lines[digest] = base64.b64encode(content).decode()
        return lines

    def forget(self) -> None:
        """Lines were lost: what they held is written again."""
        self._known.clear()


def contents_of(texts: Iterable[str | None], digests: Iterable[str] | None = None) -> dict[str, bytes]:
    """
    The contents in cells of the column ``contents``, by digest; what is not what its digest says is left out.

    Args:
        digests: only these.
    """
    only = None if digests is None else set(digests)
    contents: dict[str, bytes] = {}
    for text in texts:
        for digest, encoded in (orjson.loads(text) if text else {}).items():
            if digest in contents or (only is not None and digest not in only):
                continue
            try:
                content = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                continue
            if digest_of_bytes(content) == digest:
                contents[digest] = content
    return contents


def beside_their_rows(rows: pl.DataFrame, ids: Iterable[str]) -> pl.DataFrame:
    """
    ``rows`` with contents on the rows called ``ids`` alone: on each those that its ``keys`` name, wherever they were.

    Args:
        rows: of ``WINDOW_SCHEMA``.
    """
    if rows["contents"].null_count() == rows.height:
        return rows
    is_here = rows["request_id"].is_in(list(ids)).to_list()
    digests = [_digests(text) if here else () for text, here in zip(rows["keys"], is_here, strict=True)]
    contents = contents_of(rows["contents"], {digest for each in digests for digest in each})
    texts = [_document({digest: contents[digest] for digest in each if digest in contents}) for each in digests]
    return rows.with_columns(pl.Series("contents", texts, pl.String))


def _digests(keys: str | None) -> tuple[str, ...]:
    values: Iterable[Any] = orjson.loads(keys or "{}").values()
    return tuple(value for value in values if isinstance(value, str) and value.startswith("sha256:"))


def _document(contents: Mapping[str, bytes]) -> str | None:
    encoded = {digest: base64.b64encode(content).decode() for digest, content in contents.items()}
    return orjson.dumps(encoded).decode() if encoded else None
