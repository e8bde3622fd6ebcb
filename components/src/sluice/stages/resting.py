"""Between rollouts: one stable model, or none."""

from __future__ import annotations

from sluice.stages.section import TimedStage
from sluice.stages.stage import LEFTOVER_ROLE, STABLE_ROLE, RolloutStage

EMPTY = RolloutStage[TimedStage](name="empty", roles=(), weights=(0, 0))
DRAIN = RolloutStage[TimedStage](
    name="drain",
    roles=(STABLE_ROLE, LEFTOVER_ROLE),
    weights=(100, 0, 0),
    manifests="drain",
    manifests_before=("stable", "plain"),  # which take the server away at once
    action="confirm",
    subject="{who} confirmed as stable",
    approval="confirmed as stable",
    label="confirmed",
)
STABLE = RolloutStage[TimedStage](
    name="stable",
    roles=(STABLE_ROLE,),
    weights=(100, 0),
    manifests="stable",
    manifests_before=("plain",),
    action="remove-server",
    subject="the candidate's server of {who} taken away",
    label="server removed",
)
