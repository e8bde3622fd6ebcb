"""``python -m tests.faults [--full] [--row NAME]... [--no-mutations] [--report PATH]``: the fault suite."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sluice.content import write_bytes
from tests.faults.history import reference
from tests.faults.mutations import MUTATIONS, Mutation, caught_by
from tests.faults.registry import SEED, Row, Trial, all_rows, tally_of
from tests.faults.report import Outcome, grid_of, page_of

_CORES = 2


def main(arguments: Sequence[str]) -> int:
    """0 when every cell is green, 1 when one is not, 130 after Ctrl-C."""
    options = _options(arguments)
    console = Console()
    rows = all_rows()
    if unknown := [name for name in options.row if name not in rows]:
        console.print(f"row {unknown[0]!r} is not known; one of: {', '.join(rows)}")
        return 2
    chosen = [row for row in rows.values() if not options.row or row.name in options.row]
    mutations = () if options.no_mutations or options.row else MUTATIONS
    console.print(f"{len(chosen)} rows, {len(mutations)} guards, seed {SEED}")
    try:
        outcome = _made(chosen, mutations, full=options.full, console=console)
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
    parser.add_argument("--row", action="append", default=[], help="only this row, and no mutations; may be repeated")
    parser.add_argument("--no-mutations", action="store_true", help="only the faults")
    parser.add_argument("--report", help="write the page there")
    return parser.parse_args(arguments)


class _Task(NamedTuple):
    """One trial of a row, or one guard that is taken out (its place in the list)."""

    row: str
    arguments: tuple[Any, ...] = ()
    guard: int = -1


_Found = Trial | str | None
"""A trial's outcome, or the row that missed a guard."""


def _made(chosen: Sequence[Row], mutations: Sequence[Mutation], *, full: bool, console: Console) -> Outcome:
    work = Path(tempfile.mkdtemp(prefix="sluice-faults-"))
    trials: dict[str, list[Trial]] = {row.name: [] for row in chosen}
    caught: dict[int, str | None] = {}
    tasks = [_Task("", guard=place) for place in range(len(mutations))]
    tasks += [_Task(row.name, arguments) for row in chosen for arguments in row.cases(full)]
    try:
        reference(work / "first")
        for task, found in _spread(work, tasks, console):
            if isinstance(found, Trial):
                trials[task.row].append(found)
            else:
                caught[task.guard] = found
    finally:
        shutil.rmtree(work, ignore_errors=True)
    missed = {mutation.guard: caught[place] for place, mutation in enumerate(mutations)}
    return Outcome(full, tuple((row, tally_of(trials[row.name])) for row in chosen), missed)


def _spread(work: Path, tasks: Sequence[_Task], console: Console) -> Iterator[tuple[_Task, _Found]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # spawned, not forked: this process may hold threads of polars
    pool = ProcessPoolExecutor(_CORES, multiprocessing.get_context("spawn"), initializer=_deaf)
    try:
        with Progress(*columns, console=console, refresh_per_second=2) as progress:
            bar = progress.add_task("faults", total=len(tasks))
            futures = {pool.submit(_done, work / str(number), task): task for number, task in enumerate(tasks)}
            for future in as_completed(futures):
                progress.advance(bar)
                yield futures[future], future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    pool.shutdown()


def _deaf() -> None:
    """Ctrl-C reaches every process of the terminal; the parent alone answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["PYTHONWARNINGS"] = "ignore"


def _done(directory: Path, task: _Task) -> _Found:
    directory.mkdir()
    try:
        if task.row:
            return all_rows()[task.row].run(directory, task.arguments)
        (directory / "reference").symlink_to(directory.parent / "reference")
        return caught_by(MUTATIONS[task.guard], directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


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
