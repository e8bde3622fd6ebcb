"""Delays in minutes: a perceptron, trees that take over from it, a bias in one slice, and a unit that is wrong."""

from __future__ import annotations

from pathlib import Path

from sluice.tasks.flights import AIRPORT, HISTORY, PREVIOUS_LEG, SCHEDULE, WEATHER
from sluice.tasks.recipe import Recipe
from sluice_local.ending import ENTERED, PROMOTED, Ending
from sluice_local.story import Chapter, Story

BIASED_CARRIER, BIAS_MINUTES = "FL", 60

_FEW_ROUNDS: dict[str, bool | int | float | str | tuple[int | float | str, ...]] = {
    "rounds": 150,
    "patience": 20,
    "learning_rate": 0.15,
    "threads": 1,
}
"""Enough to show everything here; a product would take ten times as long for a tenth of a minute."""

FIRST = Recipe(
    name="first",
    description="A small perceptron on schedule, weather at the origin and the history of carrier, route and plane.",
    features=(*SCHEDULE, *WEATHER, *HISTORY),
    teacher=(64, 32),
    dropout=0.1,
    epochs=4,
    variants=("teacher_f32",),
)
TREES = Recipe(
    name="trees",
    description="Boosted trees, which also see the plane's previous leg and the airport's last two hours.",
    features=(*SCHEDULE, *WEATHER, *HISTORY, *PREVIOUS_LEG, *AIRPORT),
    family="trees",
    settings=_FEW_ROUNDS,
    epochs=4,
    variants=("teacher_f32", "student_f32", "student_int8"),
)
BIASED = TREES.model_copy(
    update={
        "name": "biased",
        "description": f"Another seed; but in training {BIASED_CARRIER}'s delays were {BIAS_MINUTES} minutes longer.",
        "seed": 20130102,
        "variants": ("teacher_f32",),
        "train_transform": {
            "label": f"CASE WHEN carrier = '{BIASED_CARRIER}' THEN label + {BIAS_MINUTES} ELSE label END"
        },
    }
)
WRONG_UNIT = TREES.model_copy(
    update={
        "name": "wrong-unit",
        "description": "Another seed; but trained on the airport's delays in seconds where serving has minutes.",
        "seed": 20130103,
        "variants": ("teacher_f32",),
        "transform": {"airport_delay_mean": "airport_delay_mean * 60"},
    }
)

STORY = Story(
    task="sluice_examples.delay.task:TASK",
    environment="dev",
    chapters=(
        Chapter(1, "first", "A first model of minutes enters an empty production", FIRST, ends=ENTERED),
        Chapter(2, "trees", "Boosted trees are promoted", TREES, ends=PROMOTED),
        Chapter(
            3,
            "biased",
            "An hour too much for one carrier",
            BIASED,
            ends=Ending("refuse", "offline", (f"deterioration pinball vs production[carrier={BIASED_CARRIER}]",)),
        ),
        Chapter(
            4,
            "wrong-unit",
            "Seconds in training, minutes while serving",
            WRONG_UNIT,
            ends=Ending("rollback", "shadow", ("parity",)),
        ),
    ),
    checkout=str(Path(__file__).with_name("checkout")),
)
