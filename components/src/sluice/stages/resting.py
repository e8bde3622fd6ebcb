"""Between rollouts: one stable model, or none."""

from __future__ import annotations

from typing import Any

from sluice.stages.stage import STABLE_ROLE, RolloutArm, RolloutStage

EMPTY = RolloutStage[Any](
    name="empty",
    roles=(),
    weights=(0, 0),
    manifests=None,
    section=None,
    steps=lambda _: ((),),
    waits=False,
    judge=None,
)
STABLE = RolloutStage[Any](
    name="stable",
    roles=(STABLE_ROLE,),
    weights=(100, 0),
    manifests="stable",
    manifests_before=("plain",),
    section=None,
    steps=lambda _: ((RolloutArm(role=STABLE_ROLE, weight=100),),),
    waits=False,
    judge=None,
    action="confirm",
    subject="{who} confirmed as stable",
    goes="confirmed as stable",
    label="confirmed",
)
