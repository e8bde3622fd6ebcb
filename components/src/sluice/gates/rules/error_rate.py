"""
How often does an answer fail?

By minutes of event time: answers of one minute may share their fate (``sluice.gates.minutes``), and a minute in which
both sides fail blames what they share. ``stop_at`` is a limit of harm: so many minutes in which the candidate alone
failed are a FAIL, whatever an interval says.
"""

from __future__ import annotations

from typing import NamedTuple

from sluice.documents.evidence import Arm
from sluice.documents.minutes import MinuteCounts
from sluice.documents.verdict import Reason, Verdict
from sluice.gates.minutes import NOT_COUNTED, failures_effect, minutes_problem, path_remark, worth
from sluice.gates.online_policy import Online
from sluice.gates.rates import proportion_interval
from sluice.gates.reasons import MeasuredInterval, against_stable, interval_reason, no_evidence
from sluice.gates.roles import COMPARING
from sluice.gates.rule_kind import Question, RuleKind
from sluice.gates.sequential import Interval
from sluice.gates.slices import by_slice

_METRIC = "error_rate"


def _judge(question: Question) -> tuple[Reason, ...]:
    if problem := minutes_problem(question.evidence) or _unknown(question):
        return (no_evidence(question, _METRIC, problem),)
    return _harm(question) or (_by_slice(question) if question.rule.per_slice else (_whole(question),))


def _unknown(question: Question) -> str | None:
    """What the evidence must have and has not."""
    if question.evidence.minutes is not None:
        return None
    if question.rule.stop_at is not None:
        return f"the evidence counts no minutes, and stop_at is {question.rule.stop_at} of them"
    return NOT_COUNTED if question.online.design_effect is None else None


def _harm(question: Question) -> tuple[Reason, ...]:
    """FAIL from ``stop_at`` minutes on; else nothing."""
    minutes, most = question.evidence.minutes, question.rule.stop_at
    if minutes is None or minutes.candidate is None or most is None or minutes.candidate.failing < most:
        return ()
    counts, rule = minutes.candidate, question.rule
    text = f"the candidate alone failed in {counts.failing} minutes of {counts.minutes}, stop_at is {most}"
    text += path_remark(minutes)
    n = counts.requests
    return (
        Reason(rule=_METRIC, verdict=Verdict.FAIL, observed=counts.failing, bound=most, n=n, text=text, role=rule.role),
    )


def _whole(question: Question) -> Reason:
    comparing, (candidate, stable) = question.rule.role in COMPARING, _sides(question)
    if candidate is None or (comparing and stable is None):
        side = "stable" if candidate else "the candidate"
        return no_evidence(question, _METRIC, f"no request was {side}'s to answer")
    measurement = _measurement(question, candidate, stable if comparing else None, question.alpha)
    minutes = question.evidence.minutes
    return interval_reason(
        question, _METRIC, measurement._replace(what=measurement.what + (path_remark(minutes) if minutes else ""))
    )


def _by_slice(question: Question) -> tuple[Reason, ...]:
    """A slice's requests share the fate of their minutes too, so each tells as little as one of the whole."""
    comparing = question.rule.role in COMPARING
    parts = {
        name: (part.candidate, part.stable if comparing else None)
        for name, part in question.evidence.slices.items()
        if part.candidate and (part.stable or not comparing)
    }
    effects = [side.effect if side else 1.0 for side in _sides(question)]
    sizes = {name: sum(share.n for share in shares if share) for name, shares in parts.items()}

    def measurement_of(name: str, alpha: float) -> MeasuredInterval:
        candidate, stable = parts[name]
        theirs = _Failures(stable.n, stable.hits, effects[1]) if stable else None
        return _measurement(question, _Failures(candidate.n, candidate.hits, effects[0]), theirs, alpha)

    return by_slice(question, _METRIC, sizes, measurement_of)


class _Failures(NamedTuple):
    """Of one side, in the minutes that are its own."""

    n: int
    errors: int
    effect: float
    """Requests that tell as much as one."""

    def interval(self, alpha: float) -> Interval:
        return proportion_interval(self.errors / self.effect, self.n / self.effect, alpha)


def _sides(question: Question) -> tuple[_Failures | None, _Failures | None]:
    evidence, online = question.evidence, question.online
    candidate, stable = (evidence.minutes.candidate, evidence.minutes.stable) if evidence.minutes else (None, None)
    return _failures(evidence.candidate, candidate, online), _failures(evidence.stable, stable, online)


def _failures(arm: Arm | None, counts: MinuteCounts | None, online: Online) -> _Failures | None:
    if arm is None:
        return None
    path = (counts.path_requests, counts.path_errors) if counts else (0, 0)
    n, errors = arm.asked - path[0], arm.errors - path[1]
    return _Failures(n, errors, failures_effect(counts, n, errors, online)) if n else None


def _measurement(question: Question, candidate: _Failures, stable: _Failures | None, alpha: float) -> MeasuredInterval:
    what = f"{candidate.errors} of {candidate.n} answers failed{worth(candidate.effect)}"
    if stable is None:
        return MeasuredInterval(candidate.interval(alpha), candidate.n, what, alpha)
    what = f"{what}, {stable.errors} of {stable.n} of stable's{worth(stable.effect)}"
    ours, theirs = candidate.interval(alpha / 2), stable.interval(alpha / 2)
    return against_stable(question, ours, theirs, n=candidate.n + stable.n, what=what, alpha=alpha)


KIND = RuleKind(
    metric=_METRIC,
    about="Share of the candidate's answers that failed: 5xx, without a finite score, or in shadow a refusal (4xx) of "
    "what stable answered. Other refusals are not in it. Counted by minute: an outage is one event, and a minute in "
    "which both sides fail blames neither.",
    unit="share of answers",
    judge=_judge,
    roles=("limit", "guardrail", "deterioration"),
    relative=("deterioration",),
    open_limits=True,
    sliced=True,
    has_stop=True,
    widest=1.0,
)
