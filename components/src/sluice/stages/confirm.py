"""The candidate answers everything and the old side stays warm, until labels confirm it or bring the old one back."""

from __future__ import annotations

from sluice.stages.section import Hours, OnlineStage
from sluice.stages.stage import RolloutStage, split


class ConfirmStage(OnlineStage):
    """The candidate answers everything, the old side stays warm; labels that mature confirm it or bring it back."""

    soak_hours: Hours = 0
    """The bake time: event hours that the old side stays warm at least."""


CONFIRM = RolloutStage[ConfirmStage](
    name="confirm",
    weights=(0, 100),
    manifests="blue-green",
    manifests_before=("weighted",),
    section="confirm",
    steps=lambda _: (split(100),),
    judge="rules",
    whole_rollout=True,
    action="promote",
    subject="{way} {was} -> {weight} %, old side warm",
    label="promoted",
)
