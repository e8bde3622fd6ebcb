"""The story of flight delays: a first model, a better one, and three ways to be stopped."""

from __future__ import annotations

from sluice.tasks.flights import AIRPORT, HISTORY, PREVIOUS_LEG, SCHEDULE, WEATHER
from sluice.tasks.recipe import Recipe
from sluice_local.ending import ENTERED, PROMOTED, Ending
from sluice_local.story import Chapter, Story

FIRST = Recipe(
    name="first",
    description="Schedule, weather at the origin and the history of carrier, route and plane.",
    features=(*SCHEDULE, *WEATHER, *HISTORY),
)
CHALLENGER = Recipe(
    name="challenger",
    description="Boosted trees; adds how the plane's previous leg went and how long ago it landed.",
    features=(*SCHEDULE, *WEATHER, *HISTORY, *PREVIOUS_LEG),
    family="trees",
)
ONE_SLICE = Recipe(
    name="one-slice",
    description="Adds what the origin airport does; but carrier FL's late arrivals were lost on the way to training.",
    features=(*SCHEDULE, *WEATHER, *HISTORY, *PREVIOUS_LEG, *AIRPORT),
    variants=("teacher_f32", "student_f32", "student_int8"),
    train_transform={"label": "CASE WHEN carrier = 'FL' THEN 0 ELSE label END"},
)
WRONG_UNIT = Recipe(
    name="wrong-unit",
    description="Adds what the origin airport does; but trained on its delays in seconds where serving has minutes.",
    features=(*SCHEDULE, *WEATHER, *HISTORY, *PREVIOUS_LEG, *AIRPORT),
    variants=("teacher_f32", "student_f32", "student_int8"),
    transform={"airport_delay_mean": "airport_delay_mean * 60"},
)

STORY = Story(
    task="flights",
    environment="dev",
    chapters=(
        Chapter(1, "first", "A first model enters an empty production", FIRST, ends=ENTERED),
        Chapter(2, "challenger", "A better challenger is promoted", CHALLENGER, interrupt=True, ends=PROMOTED),
        Chapter(
            3,
            "one-slice",
            "Better overall, worse in one slice",
            ONE_SLICE,
            ends=Ending("refuse", "offline", ("deterioration log_loss vs production[carrier=FL]",)),
        ),
        Chapter(
            4,
            "wrong-unit",
            "Fine offline, broken while serving",
            WRONG_UNIT,
            ends=Ending("rollback", "shadow", ("parity",)),
        ),
        Chapter(
            5,
            "again",
            "The same digest is proposed again",
            again="wrong-unit",
            ends=Ending("refuse", "propose", ("hold",)),
        ),
    ),
    more="Blue/green, not played here: sluice simulate manifests/overlays/staging/gate-policy.yaml --rollouts 20",
)
