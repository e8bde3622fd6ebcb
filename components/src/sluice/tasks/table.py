"""A task that is one table: what it takes to write one, and the defaults of the rest."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from sluice.errors import BadInput
from sluice.inputs.kind import ColumnType
from sluice.tasks.recipe import Recipe
from sluice.tasks.table_declaration import (
    MOMENT,
    TableDeclaration,
    boundary,
    carried_type,
    labels,
    moments,
    row_names,
    sampled,
)
from sluice.tasks.table_fault import TableFault
from sluice.tasks.table_faults import table_faults
from sluice.tasks.table_fields import field_faults
from sluice.tasks.table_history import HistoryFields, history, history_fields, view_of
from sluice.tasks.task import EXAMPLE_COLUMNS, Slice, Splits, Task, TaskDeclaration

_FEW = range(2, 9)
_MOST_SLICES = 3
_SMALLEST_SLICE = 0.05


@dataclass(frozen=True, eq=False, kw_only=True)
class TableTask(TableDeclaration, TaskDeclaration):
    """
    A table as a task.

        TASK = TableTask(name="returns", table=Path("orders.csv"), time="ordered_at", label="returned")

    Defaults, all of which can be said otherwise: train, tune, test and live are the first half, the next tenth and the
    next two fifths of time; slices are the columns of two to eight values, at most three; the label is known a day
    later; the recipe is boosted trees of every input. Nothing is read before somebody asks for the task.
    """

    def task(self) -> Task:
        """
        The task.

        Raises:
            BadInput: the first thing that keeps it from being one; ``sluice check`` says all.
        """
        return _made(self)

    def history_fields(self, key: str) -> HistoryFields:
        """Features of the history of a key."""
        return _history_fields(self, key, input_types(self, self.raw()))


def examples_of_table(declared: TableDeclaration) -> pl.DataFrame:
    """
    All examples: ``EXAMPLE_COLUMNS``, keys, inputs; sorted by (event_time, example_id).

    Raises:
        BadInput: the table cannot be read, or is none of this task.
    """
    return _examples_in(declared, _sound_table(declared))


def _sound_table(declared: TableDeclaration) -> pl.DataFrame:
    """The table, prepared, without a fault that keeps it from being a task."""
    _require(declared, field_faults(declared))
    raw = declared.raw()
    _require(declared, table_faults(declared, raw))
    return raw


def _examples_in(declared: TableDeclaration, raw: pl.DataFrame) -> pl.DataFrame:
    times = moments(raw[declared.time], declared.time_zone)
    label = labels(raw[declared.label], declared.target)
    if isinstance(declared.label_known, str):
        known = moments(raw[declared.label_known], declared.time_zone)
    else:
        known = (times + declared.label_known).cast(MOMENT)
    frame = raw.select(
        row_names(raw, declared.id).alias("example_id"),
        times.alias("event_time"),
        pl.when(label.is_not_null()).then(known).alias("label_time"),
        label.alias("label"),
        *(raw[name].cast(pl.String) for name in declared.keys),
        *(raw[name].cast(kind) for name, kind in input_types(declared, raw).items()),
    )
    return sampled(frame)


def _require(declared: TableDeclaration, faults: list[TableFault]) -> None:
    for fault in faults:
        if fault.fatal:
            raise BadInput(f"task {declared.name!r}: {fault.field}", fault.rule, fault.fix)


def input_types(declared: TableDeclaration, raw: pl.DataFrame) -> Mapping[str, ColumnType]:
    """How requests carry each input."""
    kinds = {name: carried_type(raw.schema[name]) for name in declared.input_columns(raw)}
    return {name: kind for name, kind in kinds.items() if kind is not None}


@functools.lru_cache(maxsize=16)
def _made(declared: TableTask) -> Task:
    raw = _sound_table(declared)
    examples, inputs = _examples_in(declared, raw), input_types(declared, raw)
    slices = _few_values(examples, (*declared.keys, *inputs)) if declared.slices is None else declared.slices
    by_history = declared.history is not None
    carried: Mapping[str, ColumnType] = inputs if by_history else {**dict.fromkeys(declared.keys, pl.String), **inputs}
    past = [name for key in declared.keys if by_history for name in _history_fields(declared, key, inputs)]
    features = [*inputs, *past]
    return Task(
        name=declared.name,
        title=declared.title or declared.name.replace("_", " ").capitalize(),
        question=declared.question or f"What is {declared.label}?",
        source_files=functools.partial(_source, declared),
        read_examples=functools.partial(_examples, declared),
        request_inputs=carried,
        known_later=frozenset({declared.label, *declared.known_later} - EXAMPLE_COLUMNS.keys()),
        schema_file=schema_file(declared),
        slices=slices,
        baseline_keys=tuple(part.name for part in slices if part.name == part.expression)[:2],
        splits=_splits(declared, examples["event_time"]),
        recipe=declared.recipe or _trees(tuple(features)),
        read_feature_tables=functools.partial(_tables, declared) if by_history else None,
        feature_service=declared.name if by_history else None,
        entity_keys=declared.keys if by_history else (),
        nullable=frozenset(declared.nullable),
        target=declared.target,
    )


def schema_file(declared: TableDeclaration) -> Path:
    """Where the schema of the task's rows is: beside its table."""
    return declared.table.with_name(f"{declared.table.stem}.schema.json")


def _source(declared: TableDeclaration) -> Mapping[str, Path]:
    return {declared.table.name: declared.table}


def _examples(declared: TableDeclaration, start: datetime, end: datetime) -> pl.DataFrame:
    return examples_of_table(declared).filter(pl.col("event_time").is_between(start, end, closed="left"))


def _tables(declared: TableTask, start: datetime, end: datetime) -> Mapping[str, pl.DataFrame]:
    raw, length = _sound_table(declared), declared.history or timedelta(0)
    known, inputs = _examples_in(declared, raw), input_types(declared, raw)
    return {
        view_of(key): history(known, key, _history_fields(declared, key, inputs), start, end, length)
        for key in declared.keys
    }


def _history_fields(declared: TableDeclaration, key: str, inputs: Mapping[str, ColumnType]) -> HistoryFields:
    numbers = tuple(name for name, kind in inputs.items() if kind in (pl.Float64, pl.Int64))
    return history_fields(key, numbers, declared.target.label_type.is_numeric())


def _splits(declared: TableDeclaration, times: pl.Series) -> Splits:
    """By shares of the time that the table spans."""
    start, last = times.min(), times.max()
    if not isinstance(start, datetime) or not isinstance(last, datetime):
        raise BadInput(f"task {declared.name!r}: time", "has no moments", "give rows with times")
    end = last + timedelta(seconds=1)
    train, tune, test, _ = declared.shares
    begin = boundary(start, end, 0.0)
    return Splits(
        train=begin,
        tune=boundary(start, end, train),
        test=boundary(start, end, train + tune),
        live=boundary(start, end, train + tune + test),
        end=end,
    )


def _few_values(examples: pl.DataFrame, names: tuple[str, ...]) -> tuple[Slice, ...]:
    """Columns of texts or whole numbers with few values, each with enough rows; the first ones."""
    slices = []
    for name in names:
        column = examples[name].drop_nulls()
        if (column.dtype == pl.String or column.dtype.is_integer()) and name.isidentifier():
            counts = column.value_counts()["count"]
            if len(counts) in _FEW and counts.min() >= _SMALLEST_SLICE * len(column):  # type: ignore[operator]
                slices.append(Slice(name, name))
    return tuple(slices[:_MOST_SLICES])


def _trees(features: tuple[str, ...]) -> Recipe:
    return Recipe(
        name="trees",
        description="Boosted trees of every feature.",
        features=features,
        family="trees",
        settings={"rounds": 200, "patience": 20, "learning_rate": 0.1, "threads": 1},
        variants=("teacher_f32",),
    )
