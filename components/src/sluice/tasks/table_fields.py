"""Fields of a table's declaration that hold something else than they should: Python itself does not look."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

from sluice.errors import one_line
from sluice.targets.kind import TargetKind
from sluice.tasks.recipe import Recipe
from sluice.tasks.table_declaration import TableDeclaration
from sluice.tasks.table_fault import TableFault
from sluice.tasks.task import Slice

_NAMES = ("keys", "inputs", "known_later", "nullable")
_KINDS: tuple[tuple[str, tuple[type, ...], str], ...] = (
    ("name", (str,), 'write a text, such as "returns"'),
    ("table", (Path,), 'write Path(__file__).with_name("data") / "orders.csv"'),
    ("time", (str,), "name one column"),
    ("label", (str,), "name one column"),
    ("id", (str, type(None)), "name one column, or leave it out"),
    ("label_known", (str, timedelta), "name a column, or write timedelta(days=1)"),
    ("history", (timedelta, type(None)), "write timedelta(days=14)"),
    ("target", (TargetKind,), "write Binary() or another kind of sluice.targets, with its brackets"),
    ("recipe", (Recipe, type(None)), "write Recipe(…), or leave it out"),
    ("shares", (tuple, list), "write train, tune, test, live, such as (0.5, 0.1, 0.2, 0.2)"),
)


def field_faults(declared: TableDeclaration) -> list[TableFault]:
    """Fields of another type than theirs. With one of them nothing else can be asked of the declaration."""
    return [*_kinds(declared), *_names(declared), *_zone(declared)]


def _kinds(declared: TableDeclaration) -> Iterator[TableFault]:
    for field, kinds, fix in _KINDS:
        value: Any = getattr(declared, field)
        if not isinstance(value, kinds):
            yield TableFault(field, "", f"is {_shown(value)}", fix)
    prepare: Any = declared.prepare
    if prepare is not None and not callable(prepare):
        yield TableFault("prepare", "", f"is {_shown(prepare)}, no function", "name a function of the table")
    slices: Any = declared.slices
    if slices is not None and not _all(slices, Slice):
        fix = 'write slices=(Slice("channel", "channel"),): a name, and an expression of columns'
        yield TableFault("slices", "", f"is {_shown(slices)}, no tuple of slices", fix)


def _names(declared: TableDeclaration) -> Iterator[TableFault]:
    for field in _NAMES:
        value: Any = getattr(declared, field)
        if isinstance(value, str):
            yield TableFault(
                field, "", f"is the text {value!r:.60}, no tuple", f"write ({value!r:.60},) with its comma"
            )
        elif not (value is None and field == "inputs") and not _all(value, str):
            fix = 'write names of columns, such as ("shop",)'
            yield TableFault(field, "", f"is {_shown(value)}, no tuple of texts", fix)


def _zone(declared: TableDeclaration) -> Iterator[TableFault]:
    zone: Any = declared.time_zone
    if zone is not None and zone not in (known := available_timezones()):
        near = get_close_matches(str(zone), sorted(known), 1)
        fix = f"write {near[0]!r}" if near else "write one such as 'Europe/Berlin'"
        yield TableFault("time_zone", "", f"is {_shown(zone)}, no time zone", fix)


def _all(value: object, kind: type) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(each, kind) for each in value)


def _shown(value: object) -> str:
    what = f"the class {value.__name__}" if isinstance(value, type) else f"{value!r} of type {type(value).__name__}"
    return one_line(ValueError(what), 100)
