"""What follows the end of a rollout: housekeeping, once nothing is sent to the candidate's server any more."""

from __future__ import annotations

from sluice.documents.state import Applied
from sluice.documents.verdict import Decision, Verdict, identify
from sluice.release.snapshot import Snapshot
from sluice.rollout.effect import judge_effect

DRAIN = "drain"
"""The stage that waits for it."""
HOUSEKEEPING = "remove-server"
"""Its action: no step of a rollout, and no end of one."""
WAITS = "the candidate's server is taken away when the route was read back"


def remove_server(snapshot: Snapshot, applied: Applied, now: str) -> Decision | None:
    """
    The decision that takes a leftover away; ``None`` where there is none, or requests may still be sent to it.

    A commit of its own: of one commit for both, a cluster may take the server away and leave the route as it was.
    """
    state, reason = snapshot.state, judge_effect(snapshot.state, applied)
    if state.leftover is None or reason.verdict is not Verdict.PASS:
        return None
    evidence = {"applied": applied.model_dump(mode="json"), "now": now}
    return Decision.between(
        state,
        state.drained(now),
        evidence,
        id=identify(state.stage, [state.model_dump(mode="json")]),
        stage=state.stage,
        action=HOUSEKEEPING,
        verdict=reason.verdict,
        candidate=state.leftover,
        reasons=(reason,),
        now=now,
        policy_digest=snapshot.policy_digest,
    )
