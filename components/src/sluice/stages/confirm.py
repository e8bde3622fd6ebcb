"""The candidate answers everything and the old side stays warm, until labels confirm it or bring the old one back."""

from __future__ import annotations

from pydantic import Field

from sluice.stages.section import Hours, OnlineStage
from sluice.stages.stage import RolloutStage, split

MOST_HOLDBACK = 20


class ConfirmStage(OnlineStage):
    """The candidate answers everything, the old side stays warm; labels that mature confirm it or bring it back."""

    holdback: int = Field(default=0, ge=0, le=MOST_HOLDBACK)
    """
    Percent of the requests that stable still answers, so that both sides go on to be compared; 0: what the stages
    before compared must do.
    """
    soak_hours: Hours = 0
    """The bake time: event hours that the old side stays warm at least."""


CONFIRM = RolloutStage[ConfirmStage](
    name="confirm",
    weights=(0, 100),
    manifests="blue-green",
    manifests_before=("weighted",),
    section="confirm",
    most_holdback=MOST_HOLDBACK,
    steps=lambda section: (split(100 - section.holdback),),
    judge="rules",
    whole_rollout=True,
    action="promote",
    subject="{way} {was} -> {weight} %, old side warm",
    label="promoted",
)
