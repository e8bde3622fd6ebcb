"""A ``git`` on PATH that runs the real one and fails by script."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_SCRIPT = """#!/bin/sh
for word in "$@"; do
    case "$word" in --*) ;; *) break ;; esac
done
if [ "$word" = "{command}" ] && [ -s "{left}" ]; then
    read -r left <"{left}"
    if [ "$left" -gt 0 ]; then
        echo $((left - 1)) >"{left}"
        echo once >>"{fired}"
        {body}
        echo "fatal: {says}" >&2
        exit 128
    fi
fi
exec "{real}" "$@"
"""


class Script:
    """How often the wrapper has failed."""

    def __init__(self, fired: Path) -> None:
        self._fired = fired

    @property
    def fired(self) -> int:
        """Calls that were answered with a failure."""
        return len(self._fired.read_text().splitlines()) if self._fired.exists() else 0


@contextlib.contextmanager
def failing(directory: Path, command: str, times: int, says: str, *, after: bool = False) -> Iterator[Script]:
    """
    The next ``times`` calls of ``git <command>`` fail and say ``says``.

    Args:
        after: the real git runs first, so that only its answer is lost.
    """
    directory.mkdir(parents=True, exist_ok=True)
    wrapper, left, fired = directory / "git", directory / "left", directory / "fired"
    left.write_text(f"{times}\n")
    real = shutil.which("git") or "/usr/bin/git"
    body = f'"{real}" "$@" >/dev/null 2>&1' if after else ":"
    wrapper.write_text(_SCRIPT.format(command=command, left=left, fired=fired, body=body, says=says, real=real))
    wrapper.chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{directory}{os.pathsep}{before}"
    try:
        yield Script(fired)
    finally:
        os.environ["PATH"] = before
