"""The first model answers everything, as a candidate: there is no stable one to compare it with, or to go back to."""

from __future__ import annotations

from sluice.stages.confirm import ConfirmStage
from sluice.stages.stage import CANDIDATE_ROLE, RolloutArm, RolloutStage

BOOTSTRAP = RolloutStage[ConfirmStage](
    name="bootstrap",
    roles=(CANDIDATE_ROLE,),
    weights=(0, 100),
    manifests="bootstrap",
    manifests_before=("first",),
    section="confirm",  # timed as confirm is; it neither soaks nor waits for a person: it answers everything already
    steps=lambda _: ((RolloutArm(role=CANDIDATE_ROLE, weight=100),),),
    has_pause=False,
    judge="failures",
    action="bootstrap",
    subject="first model {who} answers 100 %",
    label="first model served",
)
