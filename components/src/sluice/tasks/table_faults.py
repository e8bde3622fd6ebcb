"""
What is wrong with a table that is a task, all of it at once: in which field of the declaration, which rule, which fix.

The first of those that are ``fatal`` keeps the task from being made; the others are said by ``sluice check`` before
anything is trained, and most of them by the step ``ingest`` otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches

import polars as pl

from sluice.errors import one_line
from sluice.tasks.table_declaration import TableDeclaration, boundary, labels, moments
from sluice.tasks.table_fault import TableFault
from sluice.tasks.table_fields import field_faults
from sluice.tasks.table_inputs import input_faults

_FEWEST_ROWS = 50


def table_faults(declared: TableDeclaration, raw: object) -> list[TableFault]:
    """
    All faults of a declaration over its table, prepared.

    Fields of another type end the search, and so do columns that are not there.
    """
    if fields := field_faults(declared):
        return fields
    declaration = [*_named(declared), *_shares(declared), *_doubled(declared)]
    if not isinstance(raw, pl.DataFrame):
        rule = f"gives {type(raw).__module__}.{type(raw).__qualname__}, no polars.DataFrame"
        return [*declaration, TableFault("prepare", "", rule, "let it give the frame that it made")]
    absent = [*declaration, *_absent(declared, raw)]
    if any(fault.fatal for fault in absent):
        return absent
    parts = (_times, _labels, input_faults, _rows, _slices)
    return [*absent, *(fault for part in parts for fault in part(declared, raw))]


def _named(declared: TableDeclaration) -> Iterator[TableFault]:
    if not declared.name.isidentifier() or declared.name != declared.name.lower():
        yield TableFault("name", declared.name, f"is {declared.name!r}, no name", "use a-z, digits and _")


def _absent(declared: TableDeclaration, raw: pl.DataFrame) -> Iterator[TableFault]:
    if raw.width == 1 and (mark := next((each for each in ";\t|" if each in raw.columns[0]), "")):
        yield TableFault("table", "", f"has {mark!r} between its columns", "write commas between them")
        return
    fields = {
        "time": (declared.time,),
        "label": (declared.label,),
        "id": (declared.id,) if declared.id else (),
        "label_known": (declared.label_known,) if isinstance(declared.label_known, str) else (),
        "keys": declared.keys,
        "inputs": declared.inputs or (),
        "known_later": declared.known_later,
        "nullable": declared.nullable,
    }
    for field, names in fields.items():
        for name in names:
            if name not in raw.columns:
                near = get_close_matches(name, raw.columns, 1)
                fix = f"write {near[0]!r}" if near else f"choose from {', '.join(raw.columns)}"
                yield TableFault(field, name, f"names {name!r}, which is no column of the table", fix)
    if raw.height < _FEWEST_ROWS:
        yield TableFault("table", "", f"has {raw.height} rows", f"give at least {_FEWEST_ROWS}")


def _shares(declared: TableDeclaration) -> Iterator[TableFault]:
    shares = declared.shares
    if len(shares) != 4 or min(shares) <= 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        rule = f"is {shares}, not four shares above 0 whose sum is 1"
        yield TableFault("shares", "", rule, "write train, tune, test, live, such as (0.5, 0.1, 0.2, 0.2)")


def _doubled(declared: TableDeclaration) -> Iterator[TableFault]:
    """Columns that are an input and something else, the label above all."""
    meanings = {"the label": (declared.label,), "the time": (declared.time,), "known later": declared.known_later}
    if isinstance(declared.label_known, str):
        meanings["when the label is known"] = (declared.label_known,)
    for field, names in (("inputs", declared.inputs or ()), ("keys", declared.keys)):
        for meaning, columns in meanings.items():
            for name in names:
                if name in columns:
                    rule = f"has {name!r}, which is {meaning}: no model may see it"
                    yield TableFault(field, name, rule, f"take {name!r} out of {field}")
    if declared.history is not None and not declared.keys:
        yield TableFault("history", "", "is of keys, and there are none", "name keys, or leave history out")


def _times(declared: TableDeclaration, raw: pl.DataFrame) -> Iterator[TableFault]:
    fix = 'write them with an offset (2024-05-01T12:00:00Z), or say time_zone="Europe/Berlin"'
    try:
        times = moments(raw[declared.time], declared.time_zone)
    except (ValueError, pl.exceptions.PolarsError) as error:
        if raw.schema[declared.time].is_numeric():
            expression = f"pl.from_epoch({declared.time!r}, 's').dt.replace_time_zone('UTC')"
            fix = f"turn it into moments in prepare: {expression}"
        yield TableFault("time", declared.time, f"column {declared.time!r} {one_line(error, 200)}", fix)
        return
    if nulls := times.null_count():
        rule = f"column {declared.time!r} is missing in {nulls} of {len(times)} rows"
        yield TableFault("time", declared.time, rule, "leave those rows out in prepare")
        return
    now = datetime.now(UTC)
    if (late := int((times > now).sum())) > 0:
        rule = f"column {declared.time!r} has {late} times in the future, the latest {times.max()!s}"
        yield TableFault("time", declared.time, rule, "correct the clock or the time zone", fatal=False)
    if times.n_unique() < 10:
        rule = f"column {declared.time!r} has {times.n_unique()} different moments, too few to split by"
        yield TableFault("time", declared.time, rule, "give the moment of each prediction")
    if isinstance(declared.label_known, str):
        yield from _label_times(declared, declared.label_known, raw, times)
    elif declared.label_known < timedelta(0):
        yield TableFault("label_known", "", "is before the prediction", "say how long after it the label is known")


def _label_times(declared: TableDeclaration, name: str, raw: pl.DataFrame, times: pl.Series) -> Iterator[TableFault]:
    try:
        known = moments(raw[name], declared.time_zone)
    except (ValueError, pl.exceptions.PolarsError) as error:
        fix = "write them with an offset, or say time_zone"
        yield TableFault("label_known", name, f"column {name!r} {one_line(error, 200)}", fix)
        return
    labelled = raw[declared.label].is_not_null()
    if early := int((known < times).sum()):
        rule = f"column {name!r} is before {declared.time!r} in {early} rows: known before it was asked"
        yield TableFault("label_known", name, rule, "correct it; two time zones, perhaps", fatal=False)
    if future := int(((known > datetime.now(UTC)) & labelled).sum()):
        rule = f"column {name!r} lies in the future in {future} rows that have a label already"
        yield TableFault("label_known", name, rule, "correct it, or leave those labels empty", fatal=False)
    if unknown := int((known.is_null() & labelled).sum()):
        rule = f"column {name!r} is missing in {unknown} rows that have a label"
        yield TableFault("label_known", name, rule, "say when those labels came, or leave them empty", fatal=False)


def _labels(declared: TableDeclaration, raw: pl.DataFrame) -> Iterator[TableFault]:
    name, kind = declared.label, declared.target.kind
    try:
        column = labels(raw[name], declared.target).drop_nulls()
    except ValueError as error:
        those = f": {', '.join(map(str, domain))}" if (domain := declared.target.domain) else ""
        fix = f"give labels of kind {kind}{those}, in prepare perhaps, or name another target"
        yield TableFault("label", name, f"column {name!r} {one_line(error, 200)}", fix)
        return
    if column.is_empty():
        yield TableFault("label", name, f"column {name!r} has no label at all", "name the column of the labels")
        return
    if fault := declared.target.label_fault(column):
        yield TableFault("label", name, f"column {name!r} has {fault.rule}", fault.fix)
        return
    if column.n_unique() == 1:
        rule = f"column {name!r} is {str(column[0])[:60]!r} in every row: nothing can be learned"
        yield TableFault("label", name, rule, "give rows of other labels too", fatal=False)
        return
    yield from _train_labels(declared, raw)


def _train_labels(declared: TableDeclaration, raw: pl.DataFrame) -> Iterator[TableFault]:
    """What keeps a model from learning from the first share of time."""
    try:
        times = moments(raw[declared.time], declared.time_zone)
    except (ValueError, pl.exceptions.PolarsError):
        return  # said already
    start, end = times.min(), times.max()
    if not isinstance(start, datetime) or not isinstance(end, datetime):
        return
    first = labels(raw[declared.label], declared.target).filter(times < boundary(start, end, declared.shares[0]))
    if first.drop_nulls().is_empty():
        rule = "gives train no row with a label"
        yield TableFault("shares", "", rule, "let train have a larger share", fatal=False)
    elif fault := declared.target.split_fault(first.drop_nulls()):
        yield TableFault("label", declared.label, f"has in train {fault.rule}", fault.fix, fatal=False)


def _rows(declared: TableDeclaration, raw: pl.DataFrame) -> Iterator[TableFault]:
    for field, names in (("keys", declared.keys), ("inputs", declared.input_columns(raw))):
        for name in names:
            if (nulls := raw[name].null_count()) and name not in declared.nullable:
                rule = f"column {name!r} is missing in {nulls} of {raw.height} rows"
                fix = f"fill it in prepare, or say nullable=({name!r},): requests may then send null"
                fix = fix if nulls < raw.height else f"say known_later=({name!r},), or leave it out in prepare"
                yield TableFault(field, name, rule, fix, fatal=False)
    if twice := raw.height - raw.unique().height:
        rule = f"has {twice} rows that equal another row in every column"
        yield TableFault("table", "", rule, "leave them out in prepare (.unique(maintain_order=True))", fatal=False)
    if declared.id and (again := int(raw.unique()[declared.id].is_duplicated().sum())):
        rule = f"column {declared.id!r} names {again} rows that are not alike by the name of another"
        yield TableFault("id", declared.id, rule, "give each row a name of its own", fatal=False)


def _slices(declared: TableDeclaration, raw: pl.DataFrame) -> Iterator[TableFault]:
    known = {*declared.input_columns(raw), *declared.keys, "event_time", "label"}
    for part in declared.slices or ():
        try:
            names = pl.sql_expr(part.expression).meta.root_names()
        except (pl.exceptions.PolarsError, TypeError) as error:
            rule = f"slice {part.name!r} cannot be read ({one_line(error, 120)})"
            yield TableFault("slices", part.expression, rule, "mend its SQL expression", fatal=False)
            continue
        for name in sorted({*names} - known):
            near = get_close_matches(name, sorted(known), 1)
            fix = f"write {near[0]!r}" if near else f"choose from {', '.join(sorted(known))}"
            rule = f"slice {part.name!r} asks for {name!r}, which no row of the task has"
            yield TableFault("slices", part.expression, rule, fix, fatal=False)
