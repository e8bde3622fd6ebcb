"""JSON documents that somebody else wrote, read strictly: what is not said in so many words is refused by name."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from sluice.documents.model import first_violation
from sluice.errors import BadInput

DocumentT = TypeVar("DocumentT", bound=BaseModel)

_LARGEST_COUNT = 10**15
_LARGEST = 1e100
"""Nobody counts or measures more, and statistics of numbers up to these stay finite."""


class _Twice(ValueError):
    """One object has a key twice."""


def read_document(path: Path, model: type[DocumentT], schema: str) -> DocumentT:
    """
    The document in a file.

    Args:
        schema: the published schema that says what belongs into it, for messages.

    Raises:
        BadInput: unreadable, not JSON, a number that is NaN, infinite or beyond measure, a key twice, unknown or
            missing, a wrong type or value; names file, key, rule and fix.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror})", "name an existing JSON file") from error
    return parse_document(data, str(path), model, schema)


def parse_document(data: bytes, name: str, model: type[DocumentT], schema: str) -> DocumentT:
    """As ``read_document``, of bytes; ``name`` is how messages call them."""
    fix = f"see {schema}"
    if data.startswith(codecs.BOM_UTF8):
        raise BadInput(name, "is not JSON: it begins with a byte-order mark", "save it as UTF-8 without one")
    try:
        value = json.loads(data.decode(), object_pairs_hook=_once)
    except _Twice as error:
        raise BadInput(f"{name}: {error}", "is there twice", "keep one of the two") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(name, f"is not JSON ({error})", fix) from error
    for key, rule in _beyond_measure(value, ()):
        raise BadInput(f"{name}: {key}", rule, "leave out what is not known")
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


def _beyond_measure(value: Any, at: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    key = ".".join(at) or "the document"
    if isinstance(value, int) and abs(value) > _LARGEST_COUNT:
        yield key, f"is a whole number beyond {_LARGEST_COUNT:,}"
    elif isinstance(value, float) and not math.isfinite(value):
        yield key, f"is {value}; no number is NaN or infinite"
    elif isinstance(value, float) and abs(value) > _LARGEST:
        yield key, f"is {value:g}, beyond {_LARGEST:g}"
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from _beyond_measure(inner, (*at, str(name)))


def _refuse(name: str, error: ValidationError, fix: str) -> NoReturn:
    key, rule, value = first_violation(error)
    if not key and ": " in rule:
        key, _, rule = rule.partition(": ")
    observed = f", got {value!r}"[:80] if isinstance(value, str | int | float | bool | None) else ""
    raise BadInput(f"{name}: {key}" if key else name, rule + observed, fix) from error
