"""
What one look at live traffic says, rule by rule.

A wrong traffic split makes every comparison worthless, so it is asked first and, when it fails, alone. All intervals
are confidence sequences, so the rules may be asked again after every window.
"""

from __future__ import annotations

from sluice.documents.evidence import Arm, Evidence
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Reason, Verdict
from sluice.gates.policy import GatePolicy
from sluice.gates.reasons import no_evidence
from sluice.gates.registry import KINDS
from sluice.gates.rule_kind import Question
from sluice.stages.section import OnlineRule, OnlineStage


def judge_look(evidence: Evidence, stage: OnlineStage, policy: GatePolicy, state: ReleaseState) -> tuple[Reason, ...]:
    """The reasons of each rule that ``stage`` asks; a failed split alone where there is one."""

    def reasons_of(rule: OnlineRule) -> tuple[Reason, ...]:
        kind = KINDS[rule.metric]
        question = Question(evidence, rule, stage, policy.online, state, kind.direction == "higher")
        if stage.looks is not None and kind.planned and not question.look:
            hours = stage.maximum_hours / stage.looks
            return (
                no_evidence(question, rule.metric, f"is asked at {stage.looks} looks, {hours:g} hours apart, only"),
            )
        return kind.judge(question)

    splits = [rule for rule in stage.rules if rule.metric == "split"]
    first = tuple(reason for rule in splits for reason in reasons_of(rule))
    if any(reason.verdict is Verdict.FAIL for reason in first):
        return first
    rest = tuple(reason for rule in stage.rules if rule.metric != "split" for reason in reasons_of(rule))
    return (*first, _requests(evidence.candidate, stage.minimum_n), *_foreign_answers(evidence), *rest)


def judge_bootstrap(evidence: Evidence, policy: GatePolicy) -> tuple[Reason, ...]:
    """A first model has no peer: enough requests, and not one failure."""
    arm = evidence.candidate
    n, errors = (arm.asked, arm.errors) if arm else (0, 0)
    failures = Reason(
        rule="errors",
        verdict=Verdict.FAIL if errors else Verdict.PASS if n else Verdict.INCONCLUSIVE,
        observed=errors,
        bound=0,
        n=n,
        text=f"{errors} of {n} requests failed; a first model may fail none",
    )
    requests = _requests(arm, policy.bootstrap.minimum_n, " of a first model")
    return (requests, *_foreign_answers(evidence), failures)


def _requests(arm: Arm | None, minimum_n: int, purpose: str = "") -> Reason:
    """PASS from ``minimum_n`` requests on that the candidate answered; ``purpose``: what for, where no stage asks."""
    n = arm.answered if arm else 0
    verdict = Verdict.PASS if n >= minimum_n else Verdict.INCONCLUSIVE
    text = f"the candidate answered {n} requests, {minimum_n} are needed{purpose}"
    if arm and arm.n > n:
        text += f"; of {arm.n} it refused {arm.refused} and failed {arm.errors - arm.refused_alone} more"
    return Reason(rule="minimum_n", verdict=verdict, observed=n, bound=minimum_n, n=n, text=text)


def _foreign_answers(evidence: Evidence) -> tuple[Reason, ...]:
    """INCONCLUSIVE where a digest answered that is not released there, else nothing."""
    n = evidence.foreign
    text = f"{n} answers came from a digest that is not released on their route"
    reason = Reason(rule="digest", verdict=Verdict.INCONCLUSIVE, observed=n, bound=0, n=n, text=text)
    return (reason,) if n else ()
