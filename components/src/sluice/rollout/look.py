"""What one look says of the stage that a rollout is in: guards, then the effect of the last step, then the rules."""

from __future__ import annotations

from sluice.documents.event_time import moment_of
from sluice.documents.evidence import Evidence
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Reason, Verdict
from sluice.gates.guards import irregular_flow, refusals, silent_preview
from sluice.gates.online import judge_bootstrap, judge_look
from sluice.gates.policy import GatePolicy
from sluice.rollout.effect import CANDIDATE_LOST, STABLE_LOST, judge_effect
from sluice.rollout.terms import Terms, frozen, soak
from sluice.stages.registry import STAGES

_LOSSES = frozenset({STABLE_LOST, CANDIDATE_LOST})
_ABOUT = ("task", "environment", "rollout", "stage", "step", "since", "digest", "future")
_OF_SERVERS = frozenset(f"evidence.{guard}" for guard in _ABOUT)
"""Guards on what evidence is about: where no request of the candidate is judged, it may well be empty or old."""


def judge(state: ReleaseState, evidence: Evidence, policy: GatePolicy, terms: Terms, now: str) -> tuple[Reason, ...]:
    """
    One reason a rule, or the reasons why no rule is asked.

    With one side lost all rules are asked and the loss is INCONCLUSIVE beside them: evidence can fail the candidate
    then, but not pass it, so a candidate that crashes while it answers users does not keep them until its deadline. In
    a stage without requests of users for the candidate its servers must say its digest, and rules, where there are any,
    are asked of the requests to its preview. A side that fell silent, and requests that did not go as decided, are
    INCONCLUSIVE likewise, whether the stage asks for the split or not.
    """
    if refused := _refusals(state, evidence, policy, now):
        return refused
    effect = judge_effect(state, evidence.applied)
    has_loss = effect.rule in _LOSSES
    if effect.verdict is not Verdict.PASS and not has_loss:
        return (effect,)
    rules = _rules(state, evidence, policy)
    held_up = (soak(state, terms, now), frozen(policy, now))
    reasons = (*rules, *_flow(rules, state, evidence, policy, now), *(reason for reason in held_up if reason))
    return reasons if not has_loss and STAGES[state.stage].has_traffic else (*reasons, effect)


def _refusals(state: ReleaseState, evidence: Evidence, policy: GatePolicy, now: str) -> tuple[Reason, ...]:
    reasons = refusals(evidence, state, policy, now)
    if STAGES[state.stage].has_traffic or state.stage in policy.online.stages:
        return reasons
    hours = policy.online.oldest_hours
    age = (moment_of(now) - moment_of(evidence.now)).total_seconds() / 3600
    text = f"the servers were asked {age:g} hours ago, at most {hours:g} are allowed"
    old = Reason.plain("evidence.age", Verdict.INCONCLUSIVE, text)
    return (*(reason for reason in reasons if reason.rule in _OF_SERVERS), *((old,) if age > hours else ()))


def _flow(
    rules: tuple[Reason, ...], state: ReleaseState, evidence: Evidence, policy: GatePolicy, now: str
) -> tuple[Reason, ...]:
    """Nothing more is said of a split that the stage asks for and that failed, nor of one that nobody decided."""
    if not STAGES[state.stage].has_traffic:
        return silent_preview(evidence, policy, now) if state.stage in policy.online.stages else ()
    has_failed = any(reason.rule == "split" and reason.verdict is Verdict.FAIL for reason in rules)
    return () if has_failed else irregular_flow(evidence, state, policy, now)


def _rules(state: ReleaseState, evidence: Evidence, policy: GatePolicy) -> tuple[Reason, ...]:
    if STAGES[state.stage].judge == "failures":
        return judge_bootstrap(evidence, policy)
    stage = policy.online.stages.get(state.stage)
    return judge_look(evidence, stage, policy, state) if stage else ()
