"""The loop's story for the tiny task: a first model, a better one, and the better one once more."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sluice.tasks.recipe import Recipe
from sluice_local.ending import ENTERED, PROMOTED, Ending
from sluice_local.story import Chapter, Story
from tests.support import tiny_task

_HERE = Path(__file__).parent


def _recipe(name: str, description: str, features: tuple[str, ...]) -> Recipe:
    return Recipe(
        name=name,
        description=description,
        features=features,
        teacher=(16, 8),
        student=(8,),
        dropout=0.1,
        epochs=6,
        batch_size=64,
        learning_rate=5e-3,
        variants=("teacher_f32", "student_f32", "student_int8"),
    )


STABLE = Ending("refuse", "propose", ("already-stable",))
STORY = Story(
    task="tests.support.tiny_task:TASK",
    environment="dev",
    chapters=(
        Chapter(1, "first", "A first model", _recipe("first", "The request alone.", ("amount", "hour")), ends=ENTERED),
        Chapter(
            2,
            "challenger",
            "A better model",
            _recipe("challenger", "Adds the shop.", ("amount", "hour", "shop", "shop_return_rate", "amount_ratio")),
            ends=PROMOTED,
        ),
        Chapter(3, "again", "The stable model is proposed again", again="challenger", ends=STABLE),
    ),
    feature_repo=str(_HERE / "tiny_feature_repo"),
    checkout=str(_HERE / "tiny_checkout"),
)

WITHOUT_AMOUNT = dataclasses.replace(
    tiny_task.TASK,
    source_files=lambda: {"tiny_story.py": Path(__file__)},
    read_examples=lambda start, end: tiny_task.read_examples(start, end).drop("amount"),
)
"""The tiny task from a source that lost a column."""
BROKEN = dataclasses.replace(STORY, task="tests.support.tiny_story:WITHOUT_AMOUNT")
