"""
What one look at live traffic says, rule by rule.

A wrong traffic split makes every comparison worthless, so it is asked first and, when it fails, alone. All intervals
are confidence sequences, so the rules may be asked again after every window.
"""

from __future__ import annotations

from sluice.documents.evidence import Evidence
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Reason, Verdict
from sluice.gates.policy import GatePolicy
from sluice.gates.rules.answers import unknown
from sluice.gates.rules.digest import foreign
from sluice.gates.rules.kind import Question
from sluice.gates.rules.minimum_n import enough
from sluice.gates.rules.registry import KINDS
from sluice.stages.section import OnlineRule, OnlineStage


def judge_look(evidence: Evidence, stage: OnlineStage, policy: GatePolicy, state: ReleaseState) -> tuple[Reason, ...]:
    """The reasons of each rule that ``stage`` asks; a failed split alone where there is one."""

    def asked(rule: OnlineRule) -> tuple[Reason, ...]:
        kind = KINDS[rule.metric]
        question = Question(evidence, rule, stage, policy.online, state, kind.direction == "higher")
        if stage.looks is not None and kind.planned and not question.look:
            apart = stage.maximum_hours / stage.looks
            return (unknown(question, rule.metric, f"is asked at {stage.looks} looks, {apart:g} hours apart, only"),)
        return kind.judge(question)

    splits = [rule for rule in stage.rules if rule.metric == "split"]
    first = tuple(reason for rule in splits for reason in asked(rule))
    if any(reason.verdict is Verdict.FAIL for reason in first):
        return first
    rest = tuple(reason for rule in stage.rules if rule.metric != "split" for reason in asked(rule))
    return (*first, enough(evidence.candidate, stage.minimum_n), *foreign(evidence), *rest)


def judge_bootstrap(evidence: Evidence, policy: GatePolicy) -> tuple[Reason, ...]:
    """A first model has no peer: enough requests, and not one failure."""
    arm = evidence.candidate
    n, errors = (arm.n, arm.errors) if arm else (0, 0)
    failures = Reason(
        rule="errors",
        verdict=Verdict.FAIL if errors else Verdict.PASS if n else Verdict.INCONCLUSIVE,
        observed=errors,
        bound=0,
        n=n,
        text=f"{errors} of {n} requests failed; a first model may fail none",
    )
    size = enough(arm, policy.bootstrap.minimum_n, " of a first model")
    return (size, *foreign(evidence), failures)
