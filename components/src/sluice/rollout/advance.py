"""
The rollout as pure functions: from a state and evidence to the next state.

    proposal ─ PASS ──────────► the first stage of the policy's strategy
    any stage ─ PASS ─────────► its next step, or the stage that follows; after the last one the candidate is stable
    any stage ─ PASS, approval asked ─► paused, until a person approves the next step
    any stage ─ FAIL ─────────► back to stable (or empty), the digest is held
    any stage ─ out of time ──► back to stable (or empty), no hold
    any stage ─ INCONCLUSIVE ─► wait, nothing is written

After each end, but to empty, the candidate's server is still there (``sluice.rollout.drain``). ``sluice.stages`` says
what each stage is, and which strategies there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice.content import digest_of_value
from sluice.documents.evidence import Evidence
from sluice.documents.state import Hold, ReleaseState
from sluice.documents.verdict import Decision, Reason, Verdict, identify, overall, unanimous
from sluice.gates.block_length import DAY_HOURS, BlockLength, chosen_length
from sluice.gates.policy import GatePolicy
from sluice.release.snapshot import Snapshot
from sluice.rollout.effect import CANDIDATE_LOST
from sluice.rollout.look import judge
from sluice.rollout.message import short
from sluice.rollout.move import Move, beginning, following
from sluice.rollout.terms import Terms, deadline_of, frozen, overdue, terms_of
from sluice.stages.registry import STAGES
from sluice.stages.stage import CANDIDATE_ROLE

BY = "sluice"
"""Who puts the holds that no person put."""


@dataclass(frozen=True)
class Advice:
    """What a look says."""

    action: str
    """start-preview, set-weight, promote, confirm, pause, rollback, time-out or wait."""
    verdict: Verdict
    reasons: tuple[Reason, ...]
    after: ReleaseState


def propose(
    snapshot: Snapshot,
    candidate: str,
    offline_reasons: Sequence[Reason],
    evidence: Mapping[str, Any],
    run: Mapping[str, Any],
    now: str,
) -> Decision:
    """
    The decision about a new candidate: it starts its rollout, or is refused with the reasons; both are recorded.

    Refused: what the offline gate did not PASS, a held digest, the stable digest itself, a second rollout beside one
    that is going on, a first model where the policy allows no bootstrap, and everything in a freeze. The id says which
    proposal this is, not how it ended, so the same proposal made twice (after a kill, after a lost acknowledgement) is
    one decision.

    Args:
        evidence: the evaluation, as plain JSON.
        run: where the candidate comes from: pipeline run, recipe, data and code digests.
        now: event time, ISO 8601 with ``Z``.
    """
    state = snapshot.state
    broken = _forbidden(snapshot, candidate) or frozen(snapshot.policy, now)
    reasons = (broken,) if broken else tuple(offline_reasons)
    verdict = unanimous(reason.verdict for reason in reasons)
    accepted = verdict is Verdict.PASS
    length = chosen_length(snapshot.policy.online, evidence, state.stable) if accepted else None
    action, after = start(state, candidate, snapshot.policy, now, length) if accepted else ("refuse", state)
    if length:
        text = f"losses are compared by blocks of {length.hours:g} h: {length.why}"
        reasons = (*reasons, Reason.plain("block_hours", Verdict.PASS, text))
    evidence_digest = digest_of_value(dict(evidence))
    identity = [state.task, state.environment, candidate, evidence_digest, snapshot.policy_digest, now, run.get("id")]
    return Decision.between(
        state,
        after,
        evidence,
        id=identify("propose", identity),
        stage="propose" if broken else "offline",
        action=action,
        verdict=verdict,
        candidate=candidate,
        reasons=reasons,
        now=now,
        policy_digest=snapshot.policy_digest,
        run=dict(run),
    )


def look(snapshot: Snapshot, evidence: Evidence, now: str, run: Mapping[str, Any]) -> Decision | None:
    """The decision that ``advance`` advises, ready to be committed; ``None`` to wait. ``run`` as in ``propose``."""
    advice = decided(snapshot.state, evidence, snapshot.policy, snapshot.policy_digest, now, run)
    return None if advice.action == "wait" else advice


def decided(
    state: ReleaseState, evidence: Evidence, policy: GatePolicy, policy_digest: str, now: str, run: Mapping[str, Any]
) -> Decision:
    """What ``advance`` advises as a decision, waiting too; only those that change something are committed."""
    advice = advance(state, evidence, policy, now)
    identity = [state.task, state.environment, state.rollout, state.stage, state.step, evidence.digest]
    identity += ["paused"] if state.paused else []
    return Decision.between(
        state,
        advice.after,
        evidence.model_dump(mode="json"),
        evidence_digest=evidence.digest,
        id=identify(state.stage, [*identity, policy_digest, now]),
        stage=state.stage,
        action=advice.action,
        verdict=advice.verdict,
        candidate=state.candidate,
        stable=state.stable,
        reasons=advice.reasons,
        now=now,
        window=(state.since or now, now),
        policy_digest=policy_digest,
        run=dict(run),
    )


def advance(state: ReleaseState, evidence: Evidence, policy: GatePolicy, now: str) -> Advice:
    """
    The next step of a rollout that is going on.

    Nothing is read from evidence that breaks a guard (about something else, old, from the future, not finite, empty),
    or while the servers do not do what the state says; both are INCONCLUSIVE, and so is a PASS before the stage has
    lasted its ``soak_hours``. With one side lost, evidence may still fail the candidate, but not pass it.

    Out of time ends it *without* a hold: time running out says that there was too little traffic or too wide an
    interval, not that the digest is bad; it may be proposed again and starts from the first stage. A broken traffic
    split likewise blames the road, and failures beside a candidate that is gone blame its server, not the model. Every
    other FAIL holds the digest. A stage that the policy no longer
    has ends like one out of time; one that it still has is judged by the policy of now.

    A stage that waits for a person goes forwards by ``sluice approve`` alone; FAIL and its deadline still end it. In a
    freeze nothing goes forwards and no deadline comes nearer; FAIL ends it all the same.
    """
    if state.rollout is None:
        return Advice("wait", Verdict.INCONCLUSIVE, (), state)
    terms = terms_of(state, policy)
    if terms is None:
        key = STAGES[state.stage].section
        gone = Reason.plain("policy", Verdict.INCONCLUSIVE, f"the policy has no {key} any more, so the rollout ends")
        return Advice("time-out", Verdict.INCONCLUSIVE, (gone,), back(state, now, None))
    reasons = judge(state, evidence, policy, terms, now)
    verdict = overall(reasons)
    if verdict is Verdict.FAIL:
        failed = [reason for reason in reasons if reason.verdict is Verdict.FAIL]
        candidate_lost = any(reason.rule == CANDIDATE_LOST for reason in reasons)
        blamed = not candidate_lost and any(reason.rule != "split" for reason in failed)
        return Advice("rollback", verdict, reasons, back(state, now, _why(failed) if blamed else None))
    if verdict is Verdict.PASS and not (terms.approval or state.paused):
        action, after = forward(state, policy, now)
        return Advice(action, verdict, reasons, after)
    return _without_a_step(state, policy, terms, reasons, now)


def _without_a_step(
    state: ReleaseState, policy: GatePolicy, terms: Terms, reasons: tuple[Reason, ...], now: str
) -> Advice:
    """Nothing failed, and the look alone leads nowhere: time is over, or a person is asked, or all wait."""
    verdict = overall(reasons)
    if late := overdue(state, terms, reasons, now):
        return Advice("time-out", Verdict.INCONCLUSIVE, (*reasons, late), back(state, now, None))
    if state.paused:
        text = f"passed, and waits for `sluice approve` until {deadline_of(state, policy) or 'somebody does'}"
        waiting = Reason.plain("approval", Verdict.INCONCLUSIVE, text)
        return Advice("wait", Verdict.INCONCLUSIVE, (*reasons, waiting), state)
    if verdict is Verdict.PASS:
        return Advice("pause", verdict, reasons, state.successor(paused=True))
    return Advice("wait", verdict, reasons, state)


def back(state: ReleaseState, now: str, reason: str | None, by: str = BY) -> ReleaseState:
    """The state without its candidate: stable answers everything, or nothing does; held where there is a reason."""
    hold = (Hold(digest=state.candidate, reason=reason, by=by, at=now),) if reason and state.candidate else ()
    return state.settled(state.stable, now, (*state.holds, *hold))


def forward(state: ReleaseState, policy: GatePolicy, now: str) -> tuple[str, ReleaseState]:
    """The action and the state that a PASS leads to."""
    move = following(policy.online, state.stage, state.candidate_weight)
    if move is None:
        after = state.settled(state.candidate, now, state.holds)
        return STAGES[after.stage].action, after
    return move.stage.action, _state_after(state, move, now)


def start(
    state: ReleaseState, candidate: str, policy: GatePolicy, now: str, length: BlockLength | None = None
) -> tuple[str, ReleaseState]:
    """
    The action and the state that an accepted proposal leads to.

    Args:
        length: of the rollout's blocks, where the policy names none; a day is not written down.
    """
    move = beginning(policy.online, first_model=state.stable is None)
    rollout = f"r{state.sequence + 1:04d}-{short(candidate)}"
    hours = length.hours if length and length.hours != DAY_HOURS else None
    after = _state_after(state, move, now, rollout, candidate)
    return move.stage.action, after.model_copy(update={"block_hours": hours})


def _state_after(
    state: ReleaseState, move: Move, now: str, rollout: str | None = None, candidate: str | None = None
) -> ReleaseState:
    """The state whose traffic goes as the move says; each arm keeps its digest."""
    digests = {arm.role: arm.digest for arm in state.arms} | ({CANDIDATE_ROLE: candidate} if candidate else {})
    arms = tuple(arm.model_copy(update={"digest": digests.get(arm.role)}) for arm in move.traffic)
    name, step, rollout = move.stage.name, move.step, rollout or state.rollout
    return state.successor(rollout=rollout, stage=name, step=step, since=now, arms=arms, paused=False)


def _forbidden(snapshot: Snapshot, candidate: str) -> Reason | None:
    """The release rule that forbids this proposal, whatever the offline gate says."""
    state = snapshot.state
    hold = state.held(candidate)
    rules = (
        (
            hold is not None,
            "hold",
            f"{short(candidate)} is held since {hold.at} by {hold.by}: {hold.reason}" if hold else "",
        ),
        (
            state.rollout is not None,
            "one-rollout",
            f"{short(state.candidate)} is in {state.stage}; one rollout at a time",
        ),
        (state.stable == candidate, "already-stable", f"{short(candidate)} is the stable model already"),
        (
            state.stable is None and not snapshot.policy.bootstrap.allowed,
            "bootstrap",
            "production is empty and the policy allows no first model (bootstrap.allowed)",
        ),
    )
    return next((Reason.plain(rule, Verdict.FAIL, text) for broken, rule, text in rules if broken), None)


def _why(failed: Sequence[Reason]) -> str:
    return "; ".join(f"{reason.rule}: {reason.text}" for reason in failed)
