"""Every stage there is; one more is one line here, and one below where the policy speaks of it by a name of its own."""

from __future__ import annotations

from typing import Any

from sluice.stages.bootstrap import BOOTSTRAP
from sluice.stages.canary import CANARY, CanaryStage
from sluice.stages.confirm import CONFIRM, ConfirmStage
from sluice.stages.preview import PREVIEW, BlueGreenStage
from sluice.stages.resting import EMPTY, STABLE
from sluice.stages.section import Strict
from sluice.stages.shadow import SHADOW, ShadowStage
from sluice.stages.stage import RolloutStage

STAGES: dict[str, RolloutStage[Any]] = {
    stage.name: stage for stage in (EMPTY, BOOTSTRAP, SHADOW, PREVIEW, CANARY, CONFIRM, STABLE)
}


class StageSections(Strict):
    """The sections of an online policy, one a stage."""

    shadow: ShadowStage | None = None
    canary: CanaryStage | None = None
    blue_green: BlueGreenStage | None = None
    confirm: ConfirmStage
