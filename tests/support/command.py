"""The ``sluice`` command in a process of its own, forked from one that has made its imports."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.forked import AS_A_COMMAND

SLUICE = Path(sys.executable).with_name("sluice")
"""The command as it is installed, for what must begin with a fresh Python."""
_ROOT = Path(__file__).parents[2]
MAIN = f"""
import sys
sys.path[0], sys.argv[0] = {str(_ROOT)!r}, {str(SLUICE)!r}
from sluice.cli import main
main()
"""
"""What the command does."""
_PROGRAM = AS_A_COMMAND + MAIN


def sluice(
    *arguments: str | bytes | Path, env: Mapping[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``sluice`` to its end, with ``env`` and nothing else for its environment."""
    assert not any(name.startswith("PYTHON") for name in env), "Python reads these at its start: use SLUICE"
    command = [sys.executable, "-c", _PROGRAM, *map(os.fsdecode, arguments)]
    return subprocess.run(
        command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False
    )
