"""A perceptron, a convolutional network after it, and two candidates that are stopped: in one class, and in shadow."""

from __future__ import annotations

from pathlib import Path

from sluice.tasks.recipe import Recipe
from sluice_examples.digits.images import BRIGHTEST
from sluice_examples.digits.task import TASK
from sluice_local.ending import ENTERED, PROMOTED, Ending
from sluice_local.story import Chapter, Story

FIRST = Recipe(
    name="perceptron",
    description="Sixteen hidden units; each pixel by itself.",
    features=("image",),
    teacher=(16,),
    dropout=0.1,
    epochs=8,
    batch_size=64,
    learning_rate=1e-2,
    variants=("teacher_f32",),
)
LOST_SEVENS = TASK.recipe.model_copy(
    update={
        "name": "lost-sevens",
        "description": "The same network; but every other seven was called a one on the way to training.",
        "variants": ("teacher_f32",),
        # By the image's number. Not all: a class without a row in train is refused before anything is trained.
        "train_transform": {
            "label": "CASE WHEN label = 'seven' AND REGEXP_LIKE(example_id, '[13579]$') THEN 'one' ELSE label END"
        },
    }
)
INVERTED = TASK.recipe.model_copy(
    update={
        "name": "inverted",
        "description": "The same network; but trained on white strokes on black where serving has black on white.",
        "variants": ("teacher_f32",),
        # A recipe's transform is applied to train, tune and test alike, so that nothing offline can tell.
        "transform": {"image": f"{BRIGHTEST} - image"},
    }
)

STORY = Story(
    task="sluice_examples.digits.task:TASK",
    environment="dev",
    chapters=(
        Chapter(1, "perceptron", "A first model enters an empty production", FIRST, ends=ENTERED),
        Chapter(2, "convolutional", "A convolutional network is promoted", TASK.recipe, ends=PROMOTED),
        Chapter(
            3,
            "lost-sevens",
            "Good at nine digits, lost at the tenth",
            LOST_SEVENS,
            ends=Ending("refuse", "offline", ("deterioration accuracy vs production[class=seven]",)),
        ),
        Chapter(
            4,
            "inverted",
            "Fine offline, broken while serving",
            INVERTED,
            ends=Ending("rollback", "shadow", ("parity",)),
        ),
    ),
    checkout=str(Path(__file__).with_name("checkout")),
)
