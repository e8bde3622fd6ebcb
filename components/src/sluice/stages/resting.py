"""Between rollouts: one stable model, or none."""

from __future__ import annotations

from sluice.stages.section import TimedStage
from sluice.stages.stage import STABLE_ROLE, RolloutStage

EMPTY = RolloutStage[TimedStage](name="empty", roles=(), weights=(0, 0))
STABLE = RolloutStage[TimedStage](
    name="stable",
    roles=(STABLE_ROLE,),
    weights=(100, 0),
    manifests="stable",
    manifests_before=("plain",),
    action="confirm",
    subject="{who} confirmed as stable",
    approval="confirmed as stable",
    label="confirmed",
)
