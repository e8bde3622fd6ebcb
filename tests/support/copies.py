"""What takes long to make is made once a process, and copied for whoever changes it."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def copy_of(make: Callable[[Path], object], folder: Path) -> Path:
    """A folder as ``make`` leaves one that it is given empty; nothing in it may say where it is. Returns ``folder``."""
    return Path(shutil.copytree(_made(make).name, folder, dirs_exist_ok=True))


@functools.cache
def _made(make: Callable[[Path], object]) -> tempfile.TemporaryDirectory[str]:
    made = tempfile.TemporaryDirectory(prefix="sluice-original-")
    make(Path(made.name))
    return made
