"""The loop's story for a task of images without a feature service: a first model, and a convolutional one after it."""

from __future__ import annotations

from pathlib import Path

from sluice.tasks.recipe import Recipe
from sluice_local.story import Chapter, Story
from tests.support.digits_task import TASK

STORY = Story(
    task="tests.support.digits_task:TASK",
    environment="dev",
    chapters=(
        Chapter(
            1,
            "linear",
            "A linear model of pixels",
            Recipe(
                name="pixels",
                description="Each pixel by itself",
                features=("image", "pen"),
                family="linear",
                epochs=5,
                learning_rate=1e-2,
                batch_size=64,
                variants=("teacher_f32",),
            ),
        ),
        Chapter(2, "convolutional", "A convolutional network", TASK.recipe),
    ),
    feature_repo="no-such-folder",
    checkout=str(Path(__file__).with_name("digits_checkout")),
)
