"""Output directories that are whole or absent, also when the step is stopped."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType


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
