"""
The rollout as pure functions: from a state and evidence to the next state.

    proposal ─ PASS ─┬─ no stable ─► bootstrap ──────────────────────────────┬─ PASS ─► stable
                     └─ stable ────► shadow ─► canary step 0 … n ─► confirm ─┘
    any stage ─ FAIL ─────────► back to stable (or empty), the digest is held
    any stage ─ out of time ──► back to stable (or empty), no hold
    any stage ─ INCONCLUSIVE ─► wait, nothing is written
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sluice.content import digest_of_value
from sluice.gates.guards import refusals
from sluice.gates.online import judge_bootstrap, judge_look
from sluice.gates.policy import GatePolicy, OnlineRules
from sluice.gates.verdict import Decision, Reason, Verdict, overall
from sluice.monitoring.evidence import Evidence
from sluice.release.gitops import Snapshot
from sluice.release.message import short
from sluice.release.state import Hold, ReleaseState, moment_of

BY = "sluice"
"""Who puts the holds that no person put."""


@dataclass(frozen=True)
class Advice:
    """What a look says: ``action`` is wait, set-weight, promote, confirm or rollback."""

    action: str
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
    that is going on, and a first model where the policy allows no bootstrap. The id says which proposal this is, not
    how it ended, so the same proposal made twice (after a kill, after a lost acknowledgement) is one decision.

    Args:
        evidence: the evaluation, as plain JSON.
        run: where the candidate comes from: pipeline run, recipe, data and code digests.
        now: event time, ISO 8601 with ``Z``.
    """
    state = snapshot.state
    broken = _forbidden(snapshot, candidate)
    reasons = (broken,) if broken else tuple(offline_reasons)
    verdict = overall(reasons)
    accepted = verdict is Verdict.PASS
    after = _started(state, candidate, snapshot.policy, now) if accepted else state
    action = ("start-shadow" if after.stage == "shadow" else "bootstrap") if accepted else "refuse"
    evidence_digest = digest_of_value(dict(evidence))
    identity = [state.task, state.environment, candidate, evidence_digest, snapshot.policy_digest, now, run.get("id")]
    return Decision(
        id=identify("propose", identity),
        task=state.task,
        environment=state.environment,
        stage="propose" if broken else "offline",
        action=action,
        verdict=verdict,
        candidate=candidate,
        stable=state.stable,
        reasons=reasons,
        now=now,
        evidence=dict(evidence),
        evidence_digest=evidence_digest,
        policy_digest=snapshot.policy_digest,
        before=state.model_dump(mode="json"),
        after=after.model_dump(mode="json"),
        run=dict(run),
    )


def look(snapshot: Snapshot, evidence: Evidence, now: str, run: Mapping[str, Any]) -> Decision | None:
    """The decision that ``advance`` advises, ready to be committed; ``None`` to wait. ``run`` as in ``propose``."""
    made = decided(snapshot.state, evidence, snapshot.policy, snapshot.policy_digest, now, run)
    return None if made.action == "wait" else made


def decided(
    state: ReleaseState, evidence: Evidence, policy: GatePolicy, policy_digest: str, now: str, run: Mapping[str, Any]
) -> Decision:
    """What ``advance`` advises as a decision, waiting too; only those that change something are committed."""
    advice = advance(state, evidence, policy, now)
    identity = [state.task, state.environment, state.rollout, state.stage, state.step, evidence.digest]
    return Decision(
        id=identify(state.stage, [*identity, policy_digest, now]),
        task=state.task,
        environment=state.environment,
        stage=state.stage,
        action=advice.action,
        verdict=advice.verdict,
        candidate=state.candidate,
        stable=state.stable,
        reasons=advice.reasons,
        now=now,
        window=(state.since or now, now),
        evidence=evidence.model_dump(mode="json"),
        evidence_digest=evidence.digest,
        policy_digest=policy_digest,
        before=state.model_dump(mode="json"),
        after=advice.after.model_dump(mode="json"),
        run=dict(run),
    )


def identify(stage: str, inputs: Sequence[Any]) -> str:
    """``<stage>-<12 hex digits>`` of the inputs."""
    return f"{stage}-{digest_of_value(list(inputs)).partition(':')[2][:12]}"


def advance(state: ReleaseState, evidence: Evidence, policy: GatePolicy, now: str) -> Advice:
    """
    The next step of a rollout that is going on.

    Nothing is read from evidence that breaks a guard (about something else, old, from the future, not finite, empty),
    or while the servers do not yet do what the state says; both are INCONCLUSIVE.
    Out of time means rolled back *without* a hold: time running out says that there was too little traffic or too
    wide an interval, not that the digest is bad; it may be proposed again and starts from the shadow. A broken
    traffic split likewise blames the road, not the model. Every other FAIL holds the digest.
    """
    if state.rollout is None:
        return Advice("wait", Verdict.INCONCLUSIVE, (), state)
    reasons = _judge(state, evidence, policy, now)
    verdict = overall(reasons)
    if verdict is Verdict.PASS:
        action, after = _forward(state, policy, now)
        return Advice(action, verdict, reasons, after)
    if verdict is Verdict.FAIL:
        failed = [reason for reason in reasons if reason.verdict is Verdict.FAIL]
        blamed = any(reason.rule != "split" for reason in failed)
        return Advice("rollback", verdict, reasons, back(state, now, _why(failed) if blamed else None))
    late = _late(state, policy, now)
    if late:
        return Advice("rollback", verdict, (*reasons, late), back(state, now, None))
    return Advice("wait", verdict, reasons, state)


def back(state: ReleaseState, now: str, reason: str | None, by: str = BY) -> ReleaseState:
    """The state without its candidate: stable answers everything, or nothing does; held where there is a reason."""
    hold = (Hold(digest=state.candidate, reason=reason, by=by, at=now),) if reason and state.candidate else ()
    return settled(state, state.stable, now, (*state.holds, *hold))


def settled(state: ReleaseState, stable: str | None, now: str, holds: tuple[Hold, ...]) -> ReleaseState:
    """The state between rollouts: one stable model, or none."""
    return ReleaseState(
        task=state.task,
        environment=state.environment,
        sequence=state.sequence + 1,
        stage="stable" if stable else "empty",
        since=now,
        stable=stable,
        stable_weight=100 if stable else 0,
        holds=holds,
    )


def rules_of(state: ReleaseState, policy: GatePolicy) -> OnlineRules:
    """The rules of the state's stage; a first model is timed as the confirm stage is."""
    stages: dict[str, OnlineRules] = {"shadow": policy.online.shadow, "canary": policy.online.canary}
    return stages.get(state.stage, policy.online.confirm)


def _judge(state: ReleaseState, evidence: Evidence, policy: GatePolicy, now: str) -> tuple[Reason, ...]:
    if refused := refusals(evidence, state, policy, now):
        return refused
    if not state.is_applied(evidence.applied):
        return (_reason("applied", Verdict.INCONCLUSIVE, "not applied yet: the servers do not do what Git says"),)
    if state.stage == "bootstrap":
        return judge_bootstrap(evidence, policy)
    return judge_look(evidence, rules_of(state, policy), policy, state)


def _late(state: ReleaseState, policy: GatePolicy, now: str) -> Reason | None:
    hours = rules_of(state, policy).maximum_hours
    spent = moment_of(now) - moment_of(state.since or now)
    if spent < timedelta(hours=hours):
        return None
    text = f"timed out: {spent.total_seconds() / 3600:g} of at most {hours:g} hours without an answer"
    return _reason("maximum_hours", Verdict.INCONCLUSIVE, text)


def _forward(state: ReleaseState, policy: GatePolicy, now: str) -> tuple[str, ReleaseState]:
    steps = policy.online.canary.steps
    if state.stage in ("bootstrap", "confirm"):
        return "confirm", settled(state, state.candidate, now, state.holds)
    step = 0 if state.stage == "shadow" else state.step + 1
    if step < len(steps):
        return "set-weight", _moved(state, now, stage="canary", step=step, weight=steps[step])
    return "promote", _moved(state, now, stage="confirm", step=0, weight=100)


def _moved(state: ReleaseState, now: str, *, stage: str, step: int, weight: int) -> ReleaseState:
    changed = {
        "sequence": state.sequence + 1,
        "stage": stage,
        "step": step,
        "since": now,
        "stable_weight": 100 - weight,
        "candidate_weight": weight,
        "mirror_percent": 0,
    }
    return ReleaseState.model_validate(state.model_dump() | changed)


def _started(state: ReleaseState, candidate: str, policy: GatePolicy, now: str) -> ReleaseState:
    first = state.stable is None
    changed = {
        "sequence": state.sequence + 1,
        "rollout": f"r{state.sequence + 1:04d}-{short(candidate)}",
        "stage": "bootstrap" if first else "shadow",
        "since": now,
        "candidate": candidate,
        "candidate_weight": 100 if first else 0,
        "mirror_percent": 0 if first else policy.online.shadow.mirror_percent,
    }
    return ReleaseState.model_validate(state.model_dump() | changed)


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
    return next((_reason(rule, Verdict.FAIL, text) for broken, rule, text in rules if broken), None)


def _reason(rule: str, verdict: Verdict, text: str) -> Reason:
    return Reason(rule=rule, verdict=verdict, observed=None, bound=None, n=0, text=text)


def _why(failed: Sequence[Reason]) -> str:
    return "; ".join(f"{reason.rule}: {reason.text}" for reason in failed)
