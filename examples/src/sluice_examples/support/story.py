"""Four candidates for the messages of a shop: one that enters, a better one, and two that are stopped."""

from __future__ import annotations

from pathlib import Path

from sluice.tasks.recipe import Recipe
from sluice_examples.support.messages import QUOTE
from sluice_examples.support.task import BETTER
from sluice_local.ending import ENTERED, PROMOTED, Ending
from sluice_local.story import Chapter, Story

FIRST = Recipe(
    name="words",
    description="The text: a weight for each word and pair of words.",
    features=("text",),
    family="linear",
    epochs=6,
    batch_size=128,
    learning_rate=1e-2,
    variants=("teacher_f32",),
)
LOST_LABEL = BETTER.model_copy(
    update={
        "name": "lost-label",
        "description": "Adds the channel; but `damaged` was lost where a message had another label before it.",
        "features": ("text", "channel"),
        "variants": ("teacher_f32",),
        "train_transform": {
            "label": "CASE WHEN ARRAY_LENGTH(label) > 1"
            " THEN STRING_TO_ARRAY(REPLACE(ARRAY_TO_STRING(label, ','), ',damaged', ''), ',') ELSE label END"
        },
    }
)
WITHOUT_QUOTES = BETTER.model_copy(
    update={
        "name": "without-quotes",
        "description": "Trained on texts without the mail that they quote; serving has it.",
        "variants": ("teacher_f32", "student_f32"),
        "transform": {"text": f"SPLIT_PART(text, '{QUOTE}', 1)"},
    }
)

STORY = Story(
    task="sluice_examples.support.task:TASK",
    environment="dev",
    chapters=(
        Chapter(1, "words", "A linear model enters an empty production", FIRST, ends=ENTERED),
        Chapter(2, "embeddings", "Embeddings and their student take over", BETTER, ends=PROMOTED),
        Chapter(
            3,
            "lost-label",
            "One label of four was lost on the way to training",
            LOST_LABEL,
            ends=Ending("refuse", "offline", ("deterioration log_loss vs production[label=damaged]",)),
        ),
        Chapter(
            4,
            "without-quotes",
            "Fine offline, but trained on texts that serving never sees",
            WITHOUT_QUOTES,
            ends=Ending("rollback", "shadow", ("parity",)),
        ),
    ),
    feature_repo="no-such-folder",
    checkout=str(Path(__file__).with_name("checkout")),
)
