"""Whether the servers and the splitter do what Git says, from what was read back of them."""

from __future__ import annotations

from sluice.documents.state import Applied, ReleaseState
from sluice.documents.verdict import Reason, Verdict
from sluice.rollout.message import short

STABLE_LOST, CANDIDATE_LOST = "stable-lost", "candidate-lost"
_TRAFFIC = ("stable_weight", "candidate_weight", "mirror_percent")


def judge_effect(state: ReleaseState, applied: Applied) -> Reason:
    """
    PASS where all is as decided, else INCONCLUSIVE; the rule says which case it is.

    ``stable-lost``: traffic goes as decided, and stable serves nothing or another digest. ``candidate-lost``: the same,
    and the candidate serves nothing. ``applied``: any other difference, so also both sides lost, a candidate's place
    taken by another digest, and a step that is not done yet.
    """
    lost = [side for side in ("stable", "candidate") if getattr(state, side) != getattr(applied, side)]
    moved = [key for key in _TRAFFIC if getattr(state, key) != getattr(applied, key)]
    if state.is_applied(applied):
        return Reason.plain("applied", Verdict.PASS, "the servers and the weights are as Git says")
    if lost == ["stable"] and state.stable and not moved:
        text = f"{_served(state, applied, 'stable')}; nothing is promoted without it, the weights stay as they are, "
        return Reason.plain(STABLE_LOST, Verdict.INCONCLUSIVE, text + "and going back starts it again by its digest")
    if lost == ["candidate"] and state.candidate and applied.candidate is None and not moved:
        text = f"{_served(state, applied, 'candidate')}; it never came up or was lost, so it cannot pass; "
        return Reason.plain(
            CANDIDATE_LOST, Verdict.INCONCLUSIVE, text + "failed requests that were sent to it still count"
        )
    wrong = [_served(state, applied, side) for side in lost]
    wrong += [f"{key} is {getattr(applied, key)}, decided was {getattr(state, key)}" for key in moved]
    return Reason.plain("applied", Verdict.INCONCLUSIVE, f"not applied yet: {'; '.join(wrong)}")


def _served(state: ReleaseState, applied: Applied, side: str) -> str:
    return f"{side} serves {short(getattr(applied, side)) or 'no digest'} instead of {short(getattr(state, side))}"
