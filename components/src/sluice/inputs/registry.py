"""The kinds of input by name: a new one is a file and its lines here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import polars as pl
from pydantic import ValidationError

from sluice.content import canonical_json
from sluice.documents.model import first_violation
from sluice.errors import BadInput
from sluice.inputs.kind import ColumnType, InputKind
from sluice.inputs.numbers import FloatColumn, IntColumn
from sluice.inputs.strings import StringColumn
from sluice.inputs.tensors import TensorCode, TensorInput
from sluice.inputs.texts import TextCode, TextInput

KINDS: Mapping[str, type[InputKind]] = {
    "float": FloatColumn,
    "int": IntColumn,
    "string": StringColumn,
    "tensor": TensorInput,
    "text": TextInput,
}
AnyInputCode = TensorCode | TextCode
"""Codes of inputs that are more than one number, as an encoder's document names them."""
_OF_TYPES: tuple[tuple[InputKind, tuple[ColumnType, ...]], ...] = (
    (FloatColumn(), (pl.Float64, pl.Float32)),
    (IntColumn(), (pl.Int64, pl.Int32)),
    (StringColumn(), (pl.String,)),
)
"""A column's type says the kind where that has no settings."""


def declared_kind(name: str, declared: InputKind | ColumnType) -> InputKind:
    """
    The kind of an input that a task declares by a type or by a kind.

    Raises:
        BadInput: a type that models do not take.
    """
    if isinstance(declared, InputKind):
        return declared
    for kind, types in _OF_TYPES:
        if declared in types:
            return kind
    known = ", ".join(each.__name__ for each in KINDS.values())
    raise BadInput(f"request input {name}", f"has type {declared}", f"use Float64, Int64, String, or one of {known}")


def kind_of(name: str, settings: Mapping[str, Any] | None) -> InputKind:
    """
    The kind of a document: its name, and its settings where it has some.

    Raises:
        BadInput: there is no such kind, or its settings are wrong.
    """
    return _kind_of(name, canonical_json(dict(settings or {})))


@cache
def _kind_of(name: str, settings: bytes) -> InputKind:
    if name not in KINDS:
        raise BadInput(f"input of kind {name!r}", "is not known", f"use one of {', '.join(KINDS)}")
    kind = KINDS[name]
    try:
        return kind.model_validate_json(settings)
    except ValidationError as error:
        key, rule, value = first_violation(error)
        raise BadInput(f"input of kind {name!r}: {key}", f"{rule}, got {value!r}"[:200], "mend its settings") from error


def settings_of(kind: InputKind) -> dict[str, Any] | None:
    """The settings of a kind, as ``kind_of`` takes them; ``None`` where it has none."""
    return kind.model_dump(mode="json", exclude={"kind"}, exclude_none=True) or None
