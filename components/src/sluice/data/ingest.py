"""From a task's source to a span: typed, without duplicates, split by time, in one order, with a digest."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import polars as pl

from sluice.data.span import SpanRecord, content_digest, type_name, write_span
from sluice.documents.event_time import iso
from sluice.errors import BadInput, Refused, one_line
from sluice.inputs.strings import StringColumn
from sluice.tasks.answers import MEND, examples_of, source_digest
from sluice.tasks.task import EXAMPLE_COLUMNS, Slice, Splits, Task

SPLITS = ("train", "tune", "test")


def ingest(task: Task, out: Path) -> SpanRecord:
    """
    Read the examples of ``[splits.train, splits.live)`` and write ``out/examples.parquet`` and ``out/span.json``.

    Columns: the task's ``example_columns``, the entity keys, the request inputs, and ``split`` (train, tune or test).
    Rows that equal another row in every column are dropped before the split; sorted by (event_time, example_id).
    The same source gives the same digest.

    Raises:
        BadInput: a slice cannot be evaluated, the source cannot be read or gives no frame, a source file or column is
            missing, a type is wrong, an event time lies outside the window, two different rows share an id, a label is
            none of the task's target, or a server would refuse what a row is asked by.
        Refused: the task reads a column that is known only later.
    """
    splits = task.splits
    check_slices(task)
    source = source_digest(task)
    examples = examples_of(task, task.splits.train, task.splits.live)
    check_columns(task, examples)
    examples = with_one_zero(examples)
    distinct = examples.unique(maintain_order=True)
    check_rows(task, distinct)
    check_requests(task, distinct)
    span = with_split(distinct, splits).sort("event_time", "example_id")
    _check_slices_over(task, span)
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


def with_one_zero(frame: pl.DataFrame) -> pl.DataFrame:
    """Negative zeros as zeros: they are equal, so which of two rows were kept would depend on their order."""
    return frame.with_columns(pl.selectors.float() + 0.0)


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
    expected: Mapping[str, Any] = {**task.example_columns, **task.carried}
    _check_nullable(task)
    for name in expected:
        if name not in examples.columns:
            raise BadInput(f"source of task {task.name!r}", f"gives no column {name!r}", MEND)
        if examples.schema[name] != expected[name]:
            actual = type_name(examples.schema[name])
            raise BadInput(f"column {name!r} of task {task.name!r}", f"has type {actual}, not {expected[name]}", MEND)
    if later := sorted(task.known_later & (set(examples.columns) - EXAMPLE_COLUMNS.keys())):
        raise Refused(
            f"column {later[0]!r} of task {task.name!r}",
            "is known only after the prediction",
            "leave it out of read_examples",
        )


def _check_nullable(task: Task) -> None:
    thing, known = f"Task.nullable of task {task.name!r}", sorted(task.carried)
    if unknown := sorted(task.nullable - set(known)):
        rule = f"names {unknown[0]!r}, which is neither an entity key nor a request input"
        raise BadInput(thing, rule, f"choose from {known}")
    for name, kind in task.inputs.items():
        if name in task.nullable and not kind.may_be_null:
            rule = f"names {name!r}, a {kind.kind}, which cannot be missing"
            raise BadInput(thing, rule, "leave it out, and rows without one too")


def check_rows(task: Task, examples: pl.DataFrame) -> None:
    """
    Require at least one row, one row an id, labels of the target, and event times in ``[splits.train, splits.live)``.

    Raises:
        BadInput: one of these does not hold.
    """
    source, splits = f"source of task {task.name!r}", task.splits
    if examples.is_empty():
        raise BadInput(source, f"has no rows from {iso(splits.train)} to {iso(splits.live)}", MEND)
    inside = examples["event_time"].is_between(splits.train, splits.live, closed="left").fill_null(value=False)
    if not inside.all():
        example_id, moment = examples.filter(~inside).select("example_id", "event_time").row(0)
        raise BadInput(source, f"gives example {example_id!r} at {moment}, outside the window that was asked for", MEND)
    repeated = examples.filter(examples["example_id"].is_null() | examples["example_id"].is_duplicated())
    if not repeated.is_empty():
        raise BadInput(source, f"gives two different rows with the id {repeated['example_id'].sort()[0]!r}", MEND)
    if fault := task.target.label_fault(examples["label"].drop_nulls()):
        raise BadInput(source, f"gives {fault.rule}", fault.fix)


def check_requests(task: Task, examples: pl.DataFrame) -> None:
    """
    Require entity keys and request inputs that a server takes: a row that it would refuse teaches a model nothing.

    Raises:
        BadInput: one is null that the task does not let be null, or has a value that no request may have.
    """
    kinds = {**dict.fromkeys(task.entity_keys, StringColumn()), **task.inputs}
    for name, kind in kinds.items():
        column = examples[name]
        if (nulls := column.null_count()) and name not in task.nullable:
            fix = "fill it in read_examples, or name it in Task.nullable: requests may then send null"
            rule = f"is null in {nulls} of {len(column)} rows"
            raise BadInput(f"column {name!r} of task {task.name!r}", rule, fix)
        odd, rule = kind.refused(column)
        if len(odd):
            where = f"in {len(odd)} of {len(column)} rows"
            where += "" if kind.by_digest else f", for example {odd[0]!s:.60}"
            raise BadInput(f"column {name!r} of task {task.name!r}", f"{rule} {where}, which no server takes", MEND)


def check_slices(task: Task) -> None:
    """
    Require slices of different names over columns that the task's frame will have: it is built long after this.

    Raises:
        BadInput: one is not.
    """
    known = {*EXAMPLE_COLUMNS, "split", *task.entity_keys, *task.request_inputs, *task.recipe.features}
    hidden = {name for name, kind in task.inputs.items() if kind.by_digest}
    names = [part.name for part in task.slices]
    for part in task.slices:
        if part.name == task.target.slice_name:
            rule = f"has the name of the slices that a {task.target.kind} target has by itself"
            raise BadInput(_slice(task, part), rule, "rename it")
        if not part.name.isidentifier() or names.count(part.name) > 1:
            rule = "is there twice" if names.count(part.name) > 1 else "is no name"
            raise BadInput(_slice(task, part), rule, "name each slice once, with letters, digits and _")
        if digest_alone := sorted(set(_parsed(task, part).meta.root_names()) & hidden):
            rule = f"asks for {digest_alone[0]!r}, which a prediction log keeps by its digest"
            raise BadInput(_slice(task, part), rule, "slice by another column: add one that says what you look for")
        if absent := sorted(set(_parsed(task, part).meta.root_names()) - known):
            rule = f"asks for {absent[0]!r}, which no frame of the task has"
            near = get_close_matches(absent[0], sorted(known), 1)
            fix = f"write {near[0]!r}" if near else f"choose from {', '.join(sorted(known))}"
            raise BadInput(_slice(task, part), rule, fix)


def _check_slices_over(task: Task, span: pl.DataFrame) -> None:
    """Those over a span's columns alone can be tried."""
    for part in task.slices:
        expression = _parsed(task, part)
        if set(expression.meta.root_names()) <= set(span.columns):
            try:
                values = span.select(expression.cast(pl.String))
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
                raise _no_slice(task, part, error) from error
            if values.height != span.height:
                raise BadInput(_slice(task, part), "gives one value for all rows", "give a value for each row")


def _parsed(task: Task, part: Slice) -> pl.Expr:
    try:
        return pl.sql_expr(part.expression)
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise _no_slice(task, part, error) from error


def _no_slice(task: Task, part: Slice, error: BaseException) -> BadInput:
    return BadInput(_slice(task, part), f"cannot be evaluated ({one_line(error, 200)})", "mend its SQL expression")


def _slice(task: Task, part: Slice) -> str:
    return f"slice {part.name!r} of task {task.name!r}"
