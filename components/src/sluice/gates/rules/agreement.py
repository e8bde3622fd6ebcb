"""How often do both sides decide the same?"""

from __future__ import annotations

import math

from sluice.documents.evidence import Share
from sluice.documents.verdict import Reason
from sluice.gates.rates import proportion_interval
from sluice.gates.reasons import MeasuredInterval, no_evidence, reason_of
from sluice.gates.rule_kind import Question, RuleKind
from sluice.gates.score_blocks import requests_count, score_measurement
from sluice.gates.sequential import Interval


def _judge(question: Question) -> tuple[Reason, ...]:
    same = question.evidence.pairs.agreement
    if same is None:
        return (no_evidence(question, "agreement", _UNKNOWN[question.evidence.pairs.shift is not None]),)
    what = f"{same.hits} of {same.n} requests were decided the same by both sides"
    measurement = _of_requests(question, same, what) if requests_count(question) else _of_blocks(question, same, what)
    return (reason_of(question, "agreement", measurement),)


_UNKNOWN = {
    False: "no request was decided by both sides",
    True: "both sides answered, and the kind of target does not say when they agree, or a threshold is not known",
}


def _of_blocks(question: Question, same: Share, what: str) -> MeasuredInterval | str:
    """Never narrower than of independent requests: where all agree, blocks show no variance."""
    measurement = score_measurement(question, what)
    if isinstance(measurement, str) or math.isnan(measurement.interval.low):
        return measurement
    blocks, requests = measurement.interval, proportion_interval(same.hits, same.n, question.alpha)
    widest = Interval(blocks.estimate, min(blocks.low, requests.low), max(blocks.high, requests.high))
    return measurement._replace(interval=widest)


def _of_requests(question: Question, same: Share, what: str) -> MeasuredInterval:
    effect = question.online.design_effect or 1.0
    hits, n = round(same.hits / effect), max(round(same.n / effect), 1)
    return MeasuredInterval(proportion_interval(min(hits, n), n, question.alpha), same.n, what, question.alpha)


KIND = RuleKind(
    metric="agreement",
    about="Share of requests that both sides decide the same, each at its own threshold.",
    unit="share of pairs",
    judge=_judge,
    roles=("limit",),
    needs="mirrors",
    direction="higher",
    open_limits=True,
)
