"""LightGBM's trees take over from a pipeline's model; a spec of theirs that swaps two columns is refused."""

from __future__ import annotations

from sluice_local.ending import ENTERED, PROMOTED, Ending
from sluice_local.flights_story import FIRST
from sluice_local.story import Chapter, ForeignTraining, Story

_HERE = "sluice_examples.imported"

STORY = Story(
    task="flights",
    environment="dev",
    chapters=(
        Chapter(1, "first", "A pipeline's model enters an empty production", FIRST, ends=ENTERED),
        Chapter(
            2,
            "trees",
            "LightGBM's trees are imported",
            foreign=ForeignTraining(f"{_HERE}.trees", "first"),
            ends=PROMOTED,
        ),
        Chapter(
            3,
            "swapped",
            "The same trees, two columns swapped in the spec",
            foreign=ForeignTraining(f"{_HERE}.swapped_columns", "first"),
            ends=Ending("refuse", "offline", ("guardrail log_loss vs production",)),
        ),
    ),
)
