"""What a paused rollout waits for: a person who agrees to its next step, in one commit with a name and a reason."""

from __future__ import annotations

from sluice.errors import Refused
from sluice.gates.verdict import Decision
from sluice.release.gitops import GitOps, Snapshot
from sluice.release.operator import commit_word
from sluice.release.record import decode_record
from sluice.release.rollout import forward
from sluice.release.state import ReleaseState, iso, moment_of
from sluice.release.terms import deadline_of, hours_spent, terms_of


def approve(gitops: GitOps, reason: str, by: str, now: str) -> Decision:
    """
    Take the step that a paused rollout waits for, as ``advance`` would have taken it without the pause.

    It acts on the numbers that the stage passed with: the decision names the pause. A look that finds a FAIL while the
    rollout waits ends the pause, and with it the chance to approve.

    Args:
        now: event time of the approval, ISO 8601; a time before the pause counts as the pause's.

    Raises:
        BadInput: the reason is empty, too long or not plain text, or ``now`` is no moment.
        Refused: nothing waits, what waits changed meanwhile, the stage's time is over, or the policy lost the stage.
    """
    pause = _pause(gitops)
    moment = iso(max(moment_of(now), moment_of(pause.now)))

    def change(snapshot: Snapshot) -> tuple[str | None, ReleaseState]:
        state = snapshot.state
        if state.model_copy(update={"holds": ()}) != ReleaseState.model_validate(pause.after | {"holds": ()}):
            raise Refused(_thing(state), f"no longer waits where {pause.id} paused it", "see `sluice status`")
        terms = terms_of(state, snapshot.policy)
        if terms is None:
            raise Refused(_thing(state), "is in a stage that the policy no longer has", "let the next look end it")
        if hours_spent(state, moment) >= terms.maximum_hours:
            rule = f"waited until {deadline_of(state, snapshot.policy)}, and it is {moment}"
            raise Refused(_thing(state), rule, "let the next look end it; where event time is replayed, name it: --now")
        return state.candidate, forward(state, snapshot.policy, moment)[1]

    said = {"reason": reason, "by": by, "now": moment, "pause": pause.id}
    return commit_word(gitops, "approve", "approve", change, said)


def _pause(gitops: GitOps) -> Decision:
    """The decision that the rollout waits since."""
    state = gitops.snapshot().state
    if not state.paused:
        raise Refused(_thing(state), "waits for no approval", "see `sluice status`")
    for path, text in reversed(gitops.records()):
        made = decode_record(text, path).decision
        if made.action == "pause":
            return made
    raise Refused(_thing(state), "is paused by no decision on record", "see `git log` of the release file")


def _thing(state: ReleaseState) -> str:
    return f"rollout {state.rollout or '(none)'} in {state.environment}"
