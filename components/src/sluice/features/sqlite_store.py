"""
Feast's SQLite store, following its file: short waits, one clear error, and what is at the path now.

What differs from the store that it extends:

* a file that was changed or replaced is opened anew with the next call. Feast keeps its first connection for ever: it
  reads on from a file that was removed, and never recovers from one that was damaged and mended;
* whatever cannot be read is ``Unavailable``, and a reader makes no empty file where there is none;
* a read waits ``_READ_MS`` for a lock, not five seconds: a server with one thread still answers its probes.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from feast.infra.online_stores.sqlite import SqliteOnlineStore

from sluice.errors import Unavailable, one_line

_READ_MS, _WRITE_MS = 250, 5000
_STORE_ERRORS = (sqlite3.Error, OSError)
_READ_ERRORS = (Exception,)
"""A damaged page may also be a row whose bytes are no value, or whose time is none."""
_FileIdentity = tuple[int, int, int, int]


class FollowingSqliteOnlineStore(SqliteOnlineStore):  # type: ignore[misc]  # Feast has no types
    """See the module."""

    _conn: Any = None

    def __init__(self) -> None:
        super().__init__()
        self._file: _FileIdentity | None = None
        self._path = ""
        self._patience_ms = _WRITE_MS

    def online_read(self, config: Any, table: Any, entity_keys: Any, requested_features: Any = None) -> Any:
        """Feast's; raises ``Unavailable`` where the file cannot be read."""
        with self._one_error("read", _READ_ERRORS):
            self._wait(_READ_MS)
            return super().online_read(config, table, entity_keys, requested_features)

    def online_write_batch(self, config: Any, table: Any, data: Any, progress: Callable[[int], Any] | None) -> None:
        """Feast's; raises ``Unavailable`` where the file cannot be written."""
        with self._one_error("written", _STORE_ERRORS):
            self._wait(_WRITE_MS)
            super().online_write_batch(config, table, data, progress)

    def _wait(self, milliseconds: int) -> None:
        if milliseconds != self._patience_ms:
            self._patience_ms = milliseconds
            self._forget()

    def _get_conn(self, config: Any) -> Any:
        self._path = self._path or self._get_db_path(config)
        file = _identity(self._path)
        if file != self._file:
            self._forget()
        if self._conn is None:
            if file is None and self._patience_ms == _READ_MS:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            super()._get_conn(config).execute(f"PRAGMA busy_timeout={self._patience_ms}")
            self._file = file
        return self._conn

    def _forget(self) -> None:
        if self._conn is not None:
            self._conn.close()
        self._conn = self._file = None

    @contextmanager
    def _one_error(self, use: str, kinds: tuple[type[Exception], ...]) -> Iterator[None]:
        try:
            yield
        except kinds as error:
            self._forget()
            reason = error.strerror if isinstance(error, OSError) else one_line(error, 200)
            fix = "put a whole store in its place; it is opened anew with the next request"
            raise Unavailable(f"online store {self._path}", f"cannot be {use} ({reason})", fix) from error


def _identity(path: str) -> _FileIdentity | None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
