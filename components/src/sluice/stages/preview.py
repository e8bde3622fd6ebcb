"""Blue/green before the switch: the candidate is started beside stable, and no request reaches it."""

from __future__ import annotations

from pydantic import Field

from sluice.stages.section import Hours, TimedStage
from sluice.stages.stage import RolloutStage, split


class BlueGreenStage(TimedStage):
    """
    The candidate is started beside stable without any traffic, then answers everything at once; ``confirm`` is the
    window in which the old side is kept warm.
    """

    soak_hours: Hours = 0
    """Event hours from the start of its servers to the switch, at least."""
    maximum_hours: float = Field(gt=0)
    """Event hours after which servers that never became ready end the rollout: timed out."""
    approval: bool = False
    """A person must approve the switch."""


PREVIEW = RolloutStage[BlueGreenStage](
    name="preview",
    weights=(100, 0),
    manifests="blue-green",
    manifests_before=("weighted",),
    section="blue_green",
    steps=lambda _: (split(0),),
    judge="servers",
    action="start-preview",
    subject="{who} is made ready without traffic",
    label="made ready without traffic",
)
