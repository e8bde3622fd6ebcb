"""Stable and the candidate share the traffic; the candidate's share grows step by step."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from sluice.stages.section import CONTRADICTION, OnlineStage
from sluice.stages.stage import RolloutStage, split


class CanaryStage(OnlineStage):
    """The candidate answers a growing share."""

    steps: tuple[Annotated[int, Field(ge=1, le=99)], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _rising(self) -> CanaryStage:
        if list(self.steps) != sorted(set(self.steps)):
            raise PydanticCustomError(
                CONTRADICTION,
                "{rule}",
                {"at": ("steps",), "rule": f"steps must rise, got {list(self.steps)}", "fix": "sort them, each once"},
            )
        return self


CANARY = RolloutStage[CanaryStage](
    name="canary",
    weights=None,
    manifests="canary",
    manifests_before=("weighted",),
    section="canary",
    steps=lambda section: tuple(split(weight) for weight in section.steps),
    judge="rules",
    action="set-weight",
    subject="canary {was} -> {weight} %",
    label="weight set",
)
