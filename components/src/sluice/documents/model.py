"""What every document is: frozen, and closed, so that a key which means nothing is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Count = Annotated[int, Field(ge=0)]


class FrozenDocument(BaseModel):
    """A document that nobody changes and that takes no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FiniteDocument(FrozenDocument):
    """One whose numbers are neither NaN nor infinite."""

    model_config = ConfigDict(allow_inf_nan=False)


class Violation(NamedTuple):
    """The key that breaks its model (empty: the document itself), how, and the value that is there."""

    key: str
    rule: str
    value: Any


def first_violation(error: ValidationError) -> Violation:
    """The first thing that pydantic found."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    return Violation(key, first["msg"].removeprefix("Value error, "), first["input"])


def is_none(value: object) -> bool:
    """For fields that are left out of a document where nobody knows them."""
    return value is None
