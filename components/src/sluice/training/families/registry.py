"""Families by name: a new one of ours is a file and a line here, one of a user's needs no line."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from sluice.errors import BadInput, one_line
from sluice.tasks.recipe import Recipe
from sluice.training.families.family import Family
from sluice.training.families.network import NetworkFamily

FAMILIES: Mapping[str, str] = {
    "mlp": "sluice.training.families.mlp:FAMILY",
    "linear": "sluice.training.families.linear:FAMILY",
    "wide-and-deep": "sluice.training.families.wide_and_deep:FAMILY",
    "convolutional": "sluice.training.families.convolutional:FAMILY",
    "text": "sluice.training.families.text:FAMILY",
    "trees": "sluice.training.families.trees:FAMILY",
}
_FIX = f"name one of {', '.join(FAMILIES)}, or module:attribute of a function build(keras, inputs, spec)"


def family_of(recipe: Recipe) -> Family:
    """
    The family that a recipe names; a function ``build(keras, inputs, spec)`` makes one of its own.

    Raises:
        BadInput: it cannot be imported, or is neither a family nor a function.
    """
    place = FAMILIES.get(recipe.family, recipe.family)
    family = _imported(recipe, place)
    if isinstance(family, Family):
        return family
    if not callable(family):
        raise _refusal(recipe, f"is a {type(family).__name__}, neither a function nor a family")
    return NetworkFamily(family)


def _imported(recipe: Recipe, place: str) -> Any:
    module, colon, attribute = place.partition(":")
    if not colon:
        raise _refusal(recipe, "is not known")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise _refusal(recipe, f"cannot be imported ({type(error).__name__}: {one_line(error, 200)})") from error


def _refusal(recipe: Recipe, rule: str) -> BadInput:
    return BadInput(f"recipe {recipe.name!r}: family {recipe.family!r}", rule, _FIX)
