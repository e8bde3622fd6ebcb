"""All trials and all mutations over the cores of this machine."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.faults.history import reference
from tests.faults.mutations import Mutation, caught_by
from tests.faults.registry import Row, Trial, all_rows, tally_of
from tests.faults.report import Outcome

_CORES = max(2, len(os.sched_getaffinity(0)))


class _Task(NamedTuple):
    """One trial of a row, or one guard that is taken out."""

    row: str = ""
    arguments: tuple[Any, ...] = ()
    guard: Mutation | None = None


_Found = Trial | str | None
"""A trial's outcome, or the row that missed a guard."""


def made(chosen: Sequence[Row], mutations: Sequence[Mutation], *, full: bool, console: Console) -> Outcome:
    """Make every trial of the rows, and take out every guard."""
    work = Path(tempfile.mkdtemp(prefix="sluice-faults-"))
    trials: dict[str, list[Trial]] = {row.name: [] for row in chosen}
    caught: dict[str, str | None] = {}
    tasks = [_Task(guard=mutation) for mutation in mutations]
    tasks += [_Task(row.name, arguments) for row in chosen for arguments in row.cases(full)]
    try:
        reference(work / "first")
        for task, found in _spread(work, tasks, console):
            if isinstance(found, Trial):
                trials[task.row].append(found)
            elif task.guard:
                caught[task.guard.guard] = found
    finally:
        shutil.rmtree(work, ignore_errors=True)
    ordered = {mutation.guard: caught[mutation.guard] for mutation in mutations}
    return Outcome(full, tuple((row, tally_of(trials[row.name])) for row in chosen), ordered)


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
        if task.guard is None:
            return all_rows()[task.row].run(directory, task.arguments)
        (directory / "reference").symlink_to(directory.parent / "reference")
        return caught_by(task.guard, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
