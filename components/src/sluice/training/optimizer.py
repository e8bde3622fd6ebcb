"""The teacher's optimizer."""

from __future__ import annotations

from typing import Any

from sluice.tasks.recipe import Recipe

_WEIGHT_DECAY = 0.01


def optimizer_for(keras: Any, recipe: Recipe, rows: int) -> Any:
    """AdamW whose rate falls along a cosine to zero over the recipe's epochs (Loshchilov, Hutter 2019, equation 14)."""
    steps = max(1, rows // recipe.batch_size) * recipe.epochs
    rate = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps)
    return keras.optimizers.AdamW(rate, weight_decay=_WEIGHT_DECAY)
