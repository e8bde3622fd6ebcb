"""Asks rows of a mutated copy, until one is red: prints where ``sluice`` comes from, then the row or ``-``."""

from __future__ import annotations

import sys
from pathlib import Path

import sluice
from tests.faults.registry import all_rows


def main(directory: str, *names: str) -> None:
    """Ask the rows in turn."""
    rows, number = all_rows(), 0
    sys.stdout.write(f"{sluice.__path__[0]}\n")
    for name in names:
        for arguments in rows[name].cases(False):
            number += 1
            own = Path(directory) / str(number)
            own.mkdir()
            trial = rows[name].run(own, arguments)
            if trial.wrong or trial.lost or not trial.survived:
                sys.stdout.write(f"{name}\n")
                return
    sys.stdout.write("-\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
