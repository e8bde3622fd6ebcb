"""``python -m tests.faults [--full] [--row NAME]... [--guard NAME]... [--report PATH]``: the fault suite."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sluice.content import write_bytes
from tests.faults.mutations import MUTATIONS
from tests.faults.registry import SEED, all_rows
from tests.faults.report import Outcome, grid_of, page_of
from tests.faults.suite import made


def main(arguments: Sequence[str]) -> int:
    """0 when every cell is green, 1 when one is not, 130 after Ctrl-C."""
    options = _options(arguments)
    console = Console()
    rows = all_rows()
    guards = [mutation.guard for mutation in MUTATIONS]
    for name in (*options.row, *options.guard):
        if name not in (*rows, *guards):
            console.print(f"{name!r} is not known; rows: {', '.join(rows)}; guards: {', '.join(guards)}")
            return 2
    everything = not options.row and not options.guard
    chosen = [row for row in rows.values() if everything or row.name in options.row]
    mutations = [mutation for mutation in MUTATIONS if everything or mutation.guard in options.guard]
    console.print(f"{len(chosen)} rows, {len(mutations)} guards, seed {SEED}")
    try:
        outcome = made(chosen, mutations, full=options.full, console=console)
    except KeyboardInterrupt:
        console.print("stopped; nothing was written")
        return 130
    _tell(outcome, console)
    if options.report:
        write_bytes(Path(options.report), page_of(outcome).encode())
    return 0 if outcome.is_green else 1


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="The fault suite.")
    parser.add_argument("--full", action="store_true", help="many seeds, every labelled point")
    parser.add_argument("--row", action="append", default=[], help="only this row; may be repeated")
    parser.add_argument("--guard", action="append", default=[], help="take only this guard out; may be repeated")
    parser.add_argument("--report", help="write the page there")
    return parser.parse_args(arguments)


def _tell(outcome: Outcome, console: Console) -> None:
    console.print(grid_of(outcome))
    for guard, name in outcome.caught.items():
        console.print(f"without {guard}: {name or '[red]nothing[/red]'}", highlight=False)
    for row, tally in outcome.tallies:
        if tally.seconds:
            console.print(f"{row.name}: 99 % within {max(tally.seconds):.2f} s", highlight=False)
    console.print(f"SIGKILL at {outcome.points} distinct points", highlight=False)
    for problem in outcome.problems():
        console.print(f"[red]red[/red]  {problem}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
