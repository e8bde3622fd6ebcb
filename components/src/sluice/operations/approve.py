"""
What a paused rollout waits for: a person who agrees to its next step, in one commit with a name and a reason.

Either the person says so here (``approve``), or in a file that a merged pull request brought (``approve_merged``).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sluice.documents.event_time import iso, moment_of
from sluice.documents.state import ReleaseState, refusal
from sluice.documents.verdict import Decision
from sluice.errors import BadArtifact, Refused
from sluice.gitops.writer import GitOps, Snapshot
from sluice.operations.operator import commit_word
from sluice.release.snapshot import overlay_of
from sluice.rollout.advance import forward
from sluice.rollout.terms import deadline_of, frozen, hours_counted, terms_of
from sluice.strict_yaml import read_yaml

APPROVAL = "approval.yaml"
"""In an environment's overlay; a person writes it, and nothing else does."""


class Approval(BaseModel):
    """An approval as a file: it speaks of one pause, so it is void once that has ended, and may stay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pause: str = Field(min_length=1)
    """Id of the decision that paused the rollout, as ``sluice status`` shows it."""
    by: str
    reason: str


def approve(gitops: GitOps, reason: str, by: str, now: str, pause_id: str | None = None) -> Decision:
    """
    Take the step that a paused rollout waits for, as ``advance`` would have taken it without the pause.

    It acts on the numbers that the stage passed with: the decision names the pause. A look that finds a FAIL while the
    rollout waits ends the pause, and with it the chance to approve.

    Args:
        now: event time of the approval, ISO 8601; a time before the pause counts as the pause's.
        pause_id: the pause that is meant; by default the one that stands.

    Raises:
        BadInput: the reason is empty, too long or not plain text, or ``now`` is no moment.
        Refused: nothing waits, what waits changed meanwhile, the stage's time is over, or the policy lost the stage or
            has a freeze.
    """
    pause = _pause(gitops)
    if pause_id not in (None, pause.id):
        raise Refused(f"pause {pause_id} in {pause.environment}", f"is over; {pause.id} waits now", "approve that one")
    moment = iso(max(moment_of(now), moment_of(pause.now)))

    def change(snapshot: Snapshot) -> tuple[str | None, ReleaseState]:
        state = snapshot.state
        if state.model_copy(update={"holds": ()}) != ReleaseState.model_validate(pause.after | {"holds": ()}):
            raise Refused(_thing(state), f"no longer waits where {pause.id} paused it", "see `sluice status`")
        terms = terms_of(state, snapshot.policy)
        if terms is None:
            raise Refused(_thing(state), "is in a stage that the policy no longer has", "let the next look end it")
        if ice := frozen(snapshot.policy, moment):
            raise Refused(_thing(state), ice.text, "approve after it, or end the freeze by a commit to the policy")
        if hours_counted(state, terms, moment) >= terms.maximum_hours:
            rule = f"waited until {deadline_of(state, snapshot.policy)}, and it is {moment}"
            raise Refused(_thing(state), rule, "let the next look end it; where event time is replayed, name it: --now")
        return state.candidate, forward(state, snapshot.policy, moment)[1]

    evidence = {"reason": reason, "by": by, "now": moment, "pause": pause.id}
    return commit_word(gitops, "approve", "approve", change, evidence)


def approve_merged(gitops: GitOps, now: str) -> Decision | None:
    """
    Take the step that a paused rollout waits for, if the newest commit holds an approval of this very pause.

    Returns:
        The approval as ``approve`` commits it; ``None`` where nothing waits, or no file speaks of what waits.

    Raises:
        BadArtifact: something waits, and the file is not an approval.
        BadInput, Refused: as ``approve``.
    """
    snapshot = gitops.snapshot()
    path = f"{overlay_of(gitops.environment)}/{APPROVAL}"
    if not snapshot.state.paused or (text := gitops.file(path, snapshot.commit)) is None:
        return None
    try:
        approval = Approval.model_validate(read_yaml(text))
    except ValidationError as error:
        raise BadArtifact(path, refusal(path, error).rule, "write pause, by and reason, or remove it") from error
    except ValueError as error:
        raise BadArtifact(path, str(error), "write pause, by and reason, or remove it") from error
    if approval.pause != _pause(gitops).id:
        return None
    reason = f"{approval.reason} ({APPROVAL} at {snapshot.commit[:12]})"
    return approve(gitops, reason, approval.by, now, approval.pause)


def _pause(gitops: GitOps) -> Decision:
    """The decision that the rollout waits since."""
    snapshot = gitops.snapshot()
    state = snapshot.state
    if not state.paused:
        raise Refused(_thing(state), "waits for no approval", "see `sluice status`")
    for step in gitops.trail(snapshot.commit).about(state.environment, state.candidate):
        for _, _, decision in gitops.records_of([step]):
            if decision.action == "pause":
                return decision
    raise Refused(_thing(state), "is paused by no decision on record", "see `git log` of the release file")


def _thing(state: ReleaseState) -> str:
    return f"rollout {state.rollout or '(none)'} in {state.environment}"
