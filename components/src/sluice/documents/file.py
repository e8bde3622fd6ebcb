"""JSON documents that somebody else wrote, read strictly: what is not said in so many words is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from sluice.documents.model import first_violation
from sluice.errors import BadInput

DocumentT = TypeVar("DocumentT", bound=BaseModel)


class _Twice(ValueError):
    """One object has a key twice."""


def read_document(path: Path, model: type[DocumentT], schema: str) -> DocumentT:
    """
    The document in a file.

    Args:
        schema: the published schema that says what belongs into it, for messages.

    Raises:
        BadInput: unreadable, not JSON, NaN or infinite, a key twice, unknown or missing, a wrong type or value;
            names file, key, rule and fix.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror})", "name an existing JSON file") from error
    return parse_document(data, str(path), model, schema)


def parse_document(data: bytes, name: str, model: type[DocumentT], schema: str) -> DocumentT:
    """As ``read_document``, of bytes; ``name`` is how messages call them."""
    fix = f"see {schema}"
    try:
        value = json.loads(data.decode(), object_pairs_hook=_once)
    except _Twice as error:
        raise BadInput(f"{name}: {error}", "is there twice", "keep one of the two") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(name, f"is not JSON ({error})", fix) from error
    for key, number in _not_finite(value, ()):
        raise BadInput(f"{name}: {key}", f"is {number}; no number is NaN or infinite", "leave out what is not known")
    try:
        return model.model_validate_json(data, strict=True)
    except ValidationError as error:
        _refuse(name, error, fix)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise _Twice(key)
        values[key] = value
    return values


def _not_finite(value: Any, at: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield ".".join(at) or "the document", value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _not_finite(inner, (*at, str(key)))


def _refuse(name: str, error: ValidationError, fix: str) -> NoReturn:
    key, rule, value = first_violation(error)
    if not key and ": " in rule:
        key, _, rule = rule.partition(": ")
    observed = f", got {value!r}"[:80] if isinstance(value, str | int | float | bool | None) else ""
    raise BadInput(f"{name}: {key}" if key else name, rule + observed, fix) from error
