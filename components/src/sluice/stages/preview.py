"""Blue/green before the switch: the candidate is started beside stable, and asked on a host of its own alone."""

from __future__ import annotations

from pydantic import Field

from sluice.stages.section import OnlineRule, OnlineStage
from sluice.stages.stage import RolloutStage, split


class BlueGreenStage(OnlineStage):
    """
    The candidate is started beside stable and no user's request reaches it, then it answers everything at once;
    ``confirm`` is the window in which the old side is kept warm.
    """

    minimum_n: int = Field(default=30, ge=30)
    """Requests to the preview before any verdict but FAIL, where there are rules."""
    rules: tuple[OnlineRule, ...] = ()
    """What is asked of the requests to the preview; without any its servers must say its digest, that is all."""


PREVIEW = RolloutStage[BlueGreenStage](
    name="preview",
    weights=(100, 0),
    manifests="preview",
    manifests_before=("blue-green", "weighted"),
    section="blue_green",
    steps=lambda _: (split(0),),
    judge="servers",
    action="start-preview",
    subject="{who} is made ready without traffic",
    label="made ready without traffic",
)
