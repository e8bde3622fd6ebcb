"""Content digests, canonical JSON, and writes that are whole or absent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

_BLOCK = 1 << 20


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no white space: equal values give equal bytes. Refuses NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of_bytes(data: bytes) -> str:
    """``sha256:`` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_of_value(value: Any) -> str:
    """The digest of a value's canonical JSON."""
    return digest_of_bytes(canonical_json(value))


def digest_of_file(path: Path) -> str:
    """The digest of a file's bytes, read in blocks."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            sha.update(block)
    return "sha256:" + sha.hexdigest()


def digest_of_files(paths: Mapping[str, Path]) -> str:
    """One digest of several named files; the names count, the order does not."""
    return digest_of_value({name: digest_of_file(path) for name, path in paths.items()})


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """
    A path beside ``path`` to write to; renamed onto ``path`` when the block ends well, removed when it does not.

    The file reaches the disk before its name does, so a reader sees the old file, the new one, or none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        with beside.open("rb") as stream:
            os.fsync(stream.fileno())
        beside.chmod(0o644)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    with written_whole(path) as beside:
        beside.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON with sorted keys, whole or not at all."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode())


@contextlib.contextmanager
def whole_directory(out: Path) -> Iterator[Path]:
    """
    A directory beside ``out`` to write to; it takes the place of ``out`` when the block ends well.

    An exception, Ctrl-C or SIGTERM removes it and leaves ``out`` as it was.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with _terminate_as_exit():
        beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            yield beside
            beside.chmod(0o755)
            if out.exists():
                shutil.rmtree(out)
            beside.rename(out)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextlib.contextmanager
def _terminate_as_exit() -> Iterator[None]:
    """SIGTERM unwinds the stack (exit code 143) so that clean-up runs; only the main thread may ask for that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
