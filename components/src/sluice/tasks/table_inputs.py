"""Inputs of a table that no model should see, or that are not what they seem."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from sluice.tasks.table_declaration import ISO, SEPARATOR, TableDeclaration, carried_type
from sluice.tasks.table_fault import TableFault
from sluice.tasks.task import EXAMPLE_COLUMNS

_OWN = {*EXAMPLE_COLUMNS, "split"}
"""Columns of a span, beside what requests carry."""
_SAME = 1 - 1e-9
_REPEATED = 10
_MOST_ODD = 2
"""Different texts among numbers that may stand for a missing one."""


def input_faults(declared: TableDeclaration, raw: pl.DataFrame) -> Iterator[TableFault]:
    """Of each input and key."""
    inputs = declared.input_columns(raw)
    if not inputs and declared.history is None:
        yield TableFault("inputs", "", "is empty: there is nothing to predict from", "name columns")
    for field, names in (("keys", declared.keys), ("inputs", inputs)):
        for name in names:
            if name in _OWN or not name.strip():
                rule = f"has a column {name!r}, a name that rows of the platform have already"
                yield TableFault(field, name, rule, "rename it in prepare")
    for name in declared.keys:
        if raw.schema[name].is_nested() or raw.schema[name].is_float():
            yield TableFault("keys", name, f"column {name!r} has type {raw.schema[name]}, no key", "give a text")
    for name in inputs:
        yield from _of_input(declared, raw, name)


def _of_input(declared: TableDeclaration, raw: pl.DataFrame, name: str) -> Iterator[TableFault]:
    column, left_out = raw[name], f"say known_later=({name!r},)"
    if carried_type(column.dtype) is None:
        rule = f"column {name!r} has type {column.dtype}, which no request carries"
        yield TableFault("inputs", name, rule, f"turn it into a number in prepare, or {left_out}")
    elif is_label(column, raw[declared.label]):
        rule = f"column {name!r} is the label in every row, if in other words: no model may see it"
        yield TableFault("inputs", name, rule, left_out, fatal=False)
    elif column.dtype.is_float() and (odd := int((~column.drop_nulls().is_finite()).sum())):
        rule = f"column {name!r} is NaN or infinite in {odd} of {raw.height} rows, which no request can send"
        fix = f"turn it into null in prepare, and say nullable=({name!r},)"
        yield TableFault("inputs", name, rule, fix, fatal=False)
    elif column.dtype == pl.String:
        yield from _of_text(name, column.drop_nulls())
    elif column.dtype.is_integer() and _counts_rows(raw.sort(declared.time)[name]):
        rule = f"column {name!r} grows by one with each row: it numbers them, and tells of nothing to come"
        yield TableFault("inputs", name, rule, f"say id={name!r}, or {left_out}", fatal=False)


def is_label(column: pl.Series, label: pl.Series) -> bool:
    """Whether a column says the label of each row: the same, renamed, on one side of a bound, or missing with it."""
    words = label.list.eval(pl.element().cast(pl.String)).list.join(SEPARATOR) if label.dtype == pl.List else label
    both = pl.DataFrame({"column": column, "label": words}).drop_nulls("label")
    classes = both["label"].n_unique()
    if classes == 2 and _one_to_one(both["column"].is_null(), both["label"]):
        return True
    both = both.drop_nulls()
    if classes < 2 or both["label"].n_unique() < classes:
        return False
    if classes * _REPEATED <= both.height and _one_to_one(both["column"], both["label"]):
        return True
    if classes == 2 and _is_number(column):
        low, high = both.group_by("label").agg(pl.min("column"), pl.max("column").alias("most")).sort("column").rows()
        return bool(low[2] < high[1])
    numbers = _is_number(column) and _is_number(label)
    return numbers and abs(both.cast(pl.Float64).select(pl.corr("column", "label")).item() or 0) >= _SAME


def _one_to_one(column: pl.Series, label: pl.Series) -> bool:
    pairs = pl.DataFrame({"column": column, "label": label}).n_unique()
    return pairs == column.n_unique() == label.n_unique()


def _is_number(column: pl.Series) -> bool:
    return column.dtype.is_numeric() or column.dtype == pl.Boolean


def _counts_rows(column: pl.Series) -> bool:
    return column.null_count() == 0 and bool((column.diff().drop_nulls() == 1).all())


def _of_text(name: str, texts: pl.Series) -> Iterator[TableFault]:
    """Texts that are times, or numbers in another spelling, or names of rows."""
    left_out, rule, fix = f"say known_later=({name!r},)", "", ""
    numbers = texts.str.strip_chars().str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
    odd = texts.filter(numbers.is_null())
    spelt = texts.filter(numbers.is_not_null() & texts.str.contains("[,. ]"))
    if texts.str.contains(ISO).all():
        rule = "has times as text, which no model can compare"
        fix = f"turn them into a number in prepare (hours until then), or {left_out}"
    elif 2 * len(odd) < len(texts) and odd.n_unique() <= _MOST_ODD and len(odd) + len(spelt):
        rule = f"is text, though its values are numbers, for one of them is {[*odd, *spelt][0]!r:.40}"
        fix = f"say pl.col({name!r}).str.replace(',', '.').cast(pl.Float64, strict=False) in prepare"
    elif texts.n_unique() == len(texts):
        rule = "has another text in every row: nothing can be learned from it"
        fix = f"say id={name!r}, or {left_out}"
    if len(texts) and rule:
        yield TableFault("inputs", name, f"column {name!r} {rule}", fix, fatal=False)
