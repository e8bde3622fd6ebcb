"""From a task's source to a span: typed, without duplicates, split by time, in one order, with a digest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from sluice.content import digest_of_files
from sluice.data.span import SpanRecord, content_digest, type_name, write_span
from sluice.documents.event_time import iso
from sluice.errors import BadInput, Refused
from sluice.tasks.task import EXAMPLE_COLUMNS, Splits, Task

SPLITS = ("train", "tune", "test")
_MEND = "mend read_examples of the task or its source"


def ingest(task: Task, out: Path) -> SpanRecord:
    """
    Read the examples of ``[splits.train, splits.live)`` and write ``out/examples.parquet`` and ``out/span.json``.

    Columns: ``EXAMPLE_COLUMNS``, the entity keys, the request inputs, and ``split`` (train, tune or test).
    Rows that equal another row in every column are dropped before the split; sorted by (event_time, example_id).
    The same source gives the same digest.

    Raises:
        BadInput: a source file or column is missing, a type is wrong, an event time lies outside the window, or two
            different rows share an id.
        Refused: the task reads a column that is known only later.
    """
    splits = task.splits
    source = _source_digest(task)
    examples = task.read_examples(splits.train, splits.live)
    check_columns(task, examples)
    distinct = examples.unique(maintain_order=True)
    check_rows(task, distinct)
    span = with_split(distinct, splits).sort("event_time", "example_id")
    record = SpanRecord(
        digest=content_digest(span),
        rows=span.height,
        duplicates=examples.height - distinct.height,
        window=(iso(splits.train), iso(splits.live)),
        splits={name: span.filter(pl.col("split") == name).height for name in SPLITS},
        source=source,
        columns={name: type_name(dtype) for name, dtype in span.schema.items()},
    )
    write_span(span, record, out)
    return record


def with_split(examples: pl.DataFrame, splits: Splits) -> pl.DataFrame:
    """Add the column ``split`` (String) by event time: train, tune or test."""
    time = pl.col("event_time")
    split = (
        pl.when(time < splits.tune)
        .then(pl.lit("train"))
        .when(time < splits.test)
        .then(pl.lit("tune"))
        .otherwise(pl.lit("test"))
    )
    return examples.with_columns(split.alias("split"))


def check_columns(task: Task, examples: pl.DataFrame) -> None:
    """
    Require the columns and types that the task declares.

    Raises:
        BadInput: a column is missing or has another type.
        Refused: a column is known only later.
    """
    expected: Mapping[str, Any] = {**EXAMPLE_COLUMNS, **task.request_inputs}
    for name in (*expected, *task.entity_keys):
        if name not in examples.columns:
            raise BadInput(f"source of task {task.name!r}", f"gives no column {name!r}", _MEND)
        if name in expected and examples.schema[name] != expected[name]:
            actual = type_name(examples.schema[name])
            raise BadInput(f"column {name!r} of task {task.name!r}", f"has type {actual}, not {expected[name]}", _MEND)
    if later := sorted(task.known_later & (set(examples.columns) - EXAMPLE_COLUMNS.keys())):
        raise Refused(
            f"column {later[0]!r} of task {task.name!r}",
            "is known only after the prediction",
            "leave it out of read_examples",
        )


def check_rows(task: Task, examples: pl.DataFrame) -> None:
    """
    Require at least one row, one row an id, and event times in ``[splits.train, splits.live)``.

    Raises:
        BadInput: one of these does not hold.
    """
    source, splits = f"source of task {task.name!r}", task.splits
    if examples.is_empty():
        raise BadInput(source, f"has no rows from {iso(splits.train)} to {iso(splits.live)}", _MEND)
    inside = examples["event_time"].is_between(splits.train, splits.live, closed="left").fill_null(value=False)
    if not inside.all():
        example_id, moment = examples.filter(~inside).select("example_id", "event_time").row(0)
        raise BadInput(
            source, f"gives example {example_id!r} at {moment}, outside the window that was asked for", _MEND
        )
    repeated = examples.filter(examples["example_id"].is_null() | examples["example_id"].is_duplicated())
    if not repeated.is_empty():
        raise BadInput(source, f"gives two different rows with the id {repeated['example_id'].sort()[0]!r}", _MEND)


def _source_digest(task: Task) -> str:
    try:
        return digest_of_files(task.source_files())
    except OSError as error:
        raise BadInput(
            str(error.filename), f"cannot be read ({error.strerror})", "install or restore the source"
        ) from error
