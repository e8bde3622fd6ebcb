"""Stable answers; the candidate answers copies of requests, and nobody sees its answers."""

from __future__ import annotations

from pydantic import Field

from sluice.stages.section import OnlineStage
from sluice.stages.stage import RolloutStage, split


class ShadowStage(OnlineStage):
    """The candidate answers copies of requests; nobody sees its answers."""

    mirror_percent: int = Field(default=100, ge=1, le=100)


SHADOW = RolloutStage[ShadowStage](
    name="shadow",
    weights=(100, 0),
    mirrors=True,
    manifests="shadow",
    section="shadow",
    steps=lambda section: (split(0, section.mirror_percent),),
    judge="rules",
    action="start-shadow",
    subject="{who} shadows {mirror} %",
    label="shadow starts",
)
