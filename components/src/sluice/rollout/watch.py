"""What is said of the stable model between rollouts; nothing follows from it but an alert."""

from __future__ import annotations

from collections.abc import Iterator

from sluice.documents.evidence import Evidence, Timings
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Reason
from sluice.gates.guards import irregular_flow, refusals
from sluice.gates.policy import GatePolicy
from sluice.gates.registry import KINDS
from sluice.gates.rule_kind import Question
from sluice.stages.section import OnlineRule


def watch(state: ReleaseState, evidence: Evidence, policy: GatePolicy, now: str) -> tuple[Reason, ...]:
    """
    The limits and the questions of quality that confirm asks of a candidate, asked of the stable model: failures,
    parity, drift, labels. Rules that compare have nothing to compare with.

    Args:
        state: between rollouts, with a stable model.
    """
    if refused := refusals(evidence, state, policy, now):
        return refused
    timings = evidence.timings
    alone = Timings(candidate=timings.stable, candidate_bins=timings.stable_bins)
    subject = evidence.model_copy(update={"candidate": evidence.stable, "timings": alone})
    reasons = (reason for rule in _rules(policy) for reason in _asked(rule, subject, policy, state))
    return (*irregular_flow(evidence, state, policy, now), *reasons)


def _rules(policy: GatePolicy) -> Iterator[OnlineRule]:
    for rule in policy.online.confirm.rules:
        if rule.role in ("limit", "quality") and rule.metric != "split":
            yield rule


def _asked(rule: OnlineRule, evidence: Evidence, policy: GatePolicy, state: ReleaseState) -> tuple[Reason, ...]:
    kind = KINDS[rule.metric]
    return kind.judge(Question(evidence, rule, policy.online.confirm, policy.online, state, kind.direction == "higher"))
