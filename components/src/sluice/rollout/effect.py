"""Whether the servers and the splitter do what Git says, from what was read back of them."""

from __future__ import annotations

from collections.abc import Sequence

from sluice.documents.state import Applied, ReleaseState
from sluice.documents.verdict import Reason, Verdict
from sluice.rollout.message import short
from sluice.stages.stage import SIDES, STABLE_ROLE, Traffic, arm_in

STABLE_LOST, CANDIDATE_LOST = "stable-lost", "candidate-lost"


def judge_effect(state: ReleaseState, applied: Applied) -> Reason:
    """
    PASS where all is as decided, else INCONCLUSIVE; the rule says which case it is.

    ``stable-lost``: traffic goes as decided, and stable serves nothing or another digest. ``candidate-lost``: the same,
    and the candidate serves nothing. ``applied``: any other difference, so also both sides lost, a candidate's place
    taken by another digest, and a step that is not done yet.
    """
    if state.is_applied(applied):
        return Reason.plain("applied", Verdict.PASS, "the servers and the weights are as Git says")
    applied = state.asked_of(applied)
    roles = tuple(dict.fromkeys((*SIDES, *(arm.role for arm in state.rivals))))
    absent = [role for role in roles if state.arm(role).digest != arm_in(role, applied.arms).digest]
    planned, actual = _shares(state.rivals, roles), _shares(applied.arms, roles)
    differences = [
        f"{key} is {actual[key]}, decided was {planned[key]}" for key in planned if actual[key] != planned[key]
    ]
    wrong = [_mismatch(state, applied, role) for role in absent]
    if len(absent) == 1 and state.arm(absent[0]).digest and not differences:
        if absent[0] == STABLE_ROLE:
            text = f"{wrong[0]}; nothing is promoted without it, the weights stay as they are, "
            return Reason.plain(
                STABLE_LOST, Verdict.INCONCLUSIVE, text + "and going back starts it again by its digest"
            )
        if arm_in(absent[0], applied.arms).digest is None:
            text = f"{wrong[0]}; it never came up or was lost, so it cannot pass; failed requests "
            return Reason.plain(CANDIDATE_LOST, Verdict.INCONCLUSIVE, text + "that were sent to it still count")
    return Reason.plain("applied", Verdict.INCONCLUSIVE, f"not applied yet: {'; '.join((*wrong, *differences))}")


def _shares(arms: Traffic, roles: Sequence[str]) -> dict[str, int]:
    weights = {f"{role}_weight": arm_in(role, arms).weight for role in roles}
    return weights | {"mirror_percent": sum(arm.mirror for arm in arms)}


def _mismatch(state: ReleaseState, applied: Applied, role: str) -> str:
    actual, planned = arm_in(role, applied.arms).digest, state.arm(role).digest
    return f"{role} serves {short(actual) or 'no digest'} instead of {short(planned)}"
