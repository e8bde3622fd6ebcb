"""
What the functions of a task give: they are somebody else's, so all that they raise, or give amiss, is input.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from sluice.content import digest_of_files
from sluice.errors import BadInput, SluiceError, one_line
from sluice.tasks.task import Task

MEND = "mend read_examples of the task or its source"


def examples_of(task: Task, start: datetime, end: datetime, columns: Sequence[str] = ()) -> pl.DataFrame:
    """
    The task's examples of ``[start, end)``; ``columns`` that the caller cannot go without, of the types declared.

    Raises:
        BadInput: its function raises, or gives no table or one without these columns.
    """
    name = f"read_examples of task {task.name!r}"
    examples = answer_of(name, lambda: task.read_examples(start, end), MEND)
    if not isinstance(examples, pl.DataFrame):
        kind = type(examples)
        fix = {"pandas": "give pl.from_pandas(frame)", "polars": "collect it"}.get(kind.__module__.partition(".")[0])
        raise BadInput(name, f"gives {kind.__module__}.{kind.__qualname__}, no polars.DataFrame", fix or MEND)
    if absent := [column for column in columns if column not in examples.columns]:
        raise BadInput(f"source of task {task.name!r}", f"gives no column {absent[0]!r}", MEND)
    types = {**task.example_columns, **task.carried}
    for column in columns:
        if (actual := examples.schema[column]) != types[column]:
            thing = f"column {column!r} of task {task.name!r}"
            raise BadInput(thing, f"has type {actual}, not {types[column]}", MEND)
    return examples


def source_digest(task: Task) -> str:
    """
    Digest of the task's raw files.

    Raises:
        BadInput: its function raises, or gives no paths by name, or a file cannot be read.
    """
    name = f"source_files of task {task.name!r}"
    files = answer_of(name, task.source_files, "mend source_files of the task")
    if not isinstance(files, Mapping) or not files or not all(isinstance(path, Path) for path in files.values()):
        raise BadInput(name, "gives no paths by name", "give at least one: their digest is the identity of the data")
    try:
        return digest_of_files(files)
    except OSError as error:
        raise BadInput(
            str(error.filename), f"cannot be read ({error.strerror})", "install or restore the source"
        ) from error


def feature_tables_of(task: Task, end: datetime) -> Any:
    """
    What ``read_feature_tables`` gives for ``[train, end)``, whatever that is; nothing where a task has none.

    Raises:
        BadInput: it raises.
    """
    name, read = f"read_feature_tables of task {task.name!r}", task.read_feature_tables
    if read is None:
        return {}
    mend = "mend read_feature_tables of the task or its source"
    return answer_of(name, lambda: read(task.splits.train, end), mend)


def answer_of(name: str, ask: Callable[[], Any], mend: str) -> Any:
    """
    What a function of somebody else's gives.

    Raises:
        BadInput: it raises; says where.
    """
    try:
        return ask()
    except SluiceError:
        raise
    except (Exception, pl.exceptions.PanicException) as error:
        frames = traceback.extract_tb(error.__traceback__)
        place = [frame for frame in frames if "site-packages" not in frame.filename][-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        raise BadInput(name, f"raises {type(error).__name__} in {where} ({one_line(error, 200)})", mend) from error
