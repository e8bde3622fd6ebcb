"""
The offline gate: what the policy says about an evaluation.

Numbers in a reason are gains: the difference to the peer in the metric's good direction, so that more is better and
``bound`` is what the gain is held against (``margin`` for success, ``-margin`` for guardrail and deterioration). The
reason of a ``limit`` holds the metric itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from sluice.documents.evaluation import Estimate, Evaluation, Peer, SliceEvaluation
from sluice.documents.verdict import Reason, Verdict
from sluice.gates.policy import HIGHER_IS_BETTER, GatePolicy, MetricName, OfflineRule
from sluice.gates.roles import margin_bound, verdict_of
from sluice.gates.sequential import Interval

_ALPHA = 0.05
"""Error of an evaluation's intervals."""
_WORDS: Mapping[MetricName, str] = {
    "auc": "AUC",
    "pr_auc": "PR-AUC",
    "log_loss": "log loss",
    "ece": "calibration error",
    "precision": "precision",
    "recall": "recall",
}
_NAMED = 8
"""So many slices are listed by name in a sentence; the rest are counted."""


def judge(evaluation: Evaluation, policy: GatePolicy) -> tuple[Reason, ...]:
    """
    One reason a rule; a rule asked of every slice gives one for each slice that does not pass, and one for the rest.

    A number that is absent, NaN or infinite makes its rule INCONCLUSIVE. A rule against production passes while
    production is empty: there is nothing that the candidate could be worse than.
    """
    return tuple(reason for rule in policy.offline for reason in _reasons(rule, evaluation))


def _reasons(rule: OfflineRule, evaluation: Evaluation) -> tuple[Reason, ...]:
    if rule.against == "production" and evaluation.production is None:
        text = "Production is empty, so there is no model that the candidate could be worse than."
        return (_without_numbers(rule, Verdict.PASS, evaluation.n, text),)
    if rule.per_slice:
        return _by_slice(rule, evaluation)
    return (_of_all_rows(rule, evaluation),)


def _of_all_rows(rule: OfflineRule, evaluation: Evaluation) -> Reason:
    if evaluation.n < rule.minimum_n:
        text = f"The holdout has {evaluation.n} rows; the rule asks for {rule.minimum_n}."
        return _without_numbers(rule, Verdict.INCONCLUSIVE, evaluation.n, text)
    if rule.against is None:
        return _interval_reason(rule, evaluation.metrics.get(rule.metric), evaluation)
    peer = _peer(rule, evaluation)
    return _interval_reason(rule, peer.difference.get(rule.metric) if peer else None, evaluation)


def _by_slice(rule: OfflineRule, evaluation: Evaluation) -> tuple[Reason, ...]:
    large = [part for part in evaluation.slices if part.n >= rule.minimum_n]
    small = [part for part in evaluation.slices if part.n < rule.minimum_n]
    verdicts = [(part, _interval_reason(rule, _in_slice(rule, part), evaluation, part)) for part in large]
    absent = [part for part in large if rule.when_missing == "skip" and _in_slice(rule, part) is None]
    outcomes = [(part, reason) for part, reason in verdicts if part not in absent]
    others = tuple(reason for _, reason in outcomes if reason.verdict is not Verdict.PASS)
    passes = [(part, reason) for part, reason in outcomes if reason.verdict is Verdict.PASS]
    if others and not passes:
        return others
    return (*others, _summary(rule, passes, len(outcomes), remainder=(*small, *absent)))


def _summary(
    rule: OfflineRule,
    passes: list[tuple[SliceEvaluation, Reason]],
    count: int,
    remainder: Iterable[SliceEvaluation],
) -> Reason:
    appendix = _appendix(rule, tuple(remainder))
    if not count:
        text = f"No slice could be judged on {_WORDS[rule.metric]}.{appendix}"
        return _without_numbers(rule, Verdict.INCONCLUSIVE, 0, text)
    _, worst = min(passes, key=lambda pair: (_room(rule, pair[1]), _title(pair[0])))
    text = f"{len(passes)} of {count} judged slices pass; the closest to the bound: {worst.text}{appendix}"
    return worst.model_copy(update={"rule": _name(rule), "text": text, "n": sum(part.n for part, _ in passes)})


def _appendix(rule: OfflineRule, parts: tuple[SliceEvaluation, ...]) -> str:
    if not parts:
        return ""
    names = ", ".join(f"{_title(part)} ({part.n} rows)" for part in parts[:_NAMED])
    more = f" and {len(parts) - _NAMED} more" if len(parts) > _NAMED else ""
    return f" Not judged, fewer than {rule.minimum_n} rows or not measurable: {names}{more}."


def _interval_reason(
    rule: OfflineRule, estimate: Estimate | None, evaluation: Evaluation, part: SliceEvaluation | None = None
) -> Reason:
    n = part.n if part else evaluation.n
    if estimate is None or not all(map(math.isfinite, (estimate.value, estimate.low, estimate.high))):
        text = _cannot_tell(rule, estimate, evaluation, part)
        return _without_numbers(rule, Verdict.INCONCLUSIVE, n, text, part)
    interval = Interval(estimate.value, estimate.low, estimate.high)
    if rule.role != "limit" and rule.metric not in HIGHER_IS_BETTER:
        interval = _mirrored(interval)
    return Reason.of_interval(
        _name(rule, part),
        verdict_of(rule.role, interval, _bound(rule), higher=_higher(rule)),
        interval,
        bound=_bound(rule),
        n=n,
        text=_sentence(rule, interval, evaluation, part),
        role=rule.role,
        alpha=_ALPHA,
    )


def _higher(rule: OfflineRule) -> bool:
    """Whether more is better of what is judged: always of a gain, by the metric of a limit."""
    return rule.role != "limit" or rule.metric in HIGHER_IS_BETTER


def _bound(rule: OfflineRule) -> float:
    return margin_bound(rule.role, rule.margin, higher=True) if rule.limit is None else rule.limit


def _room(rule: OfflineRule, reason: Reason) -> float:
    """How far the observed value is inside the bound."""
    room = (reason.observed or 0.0) - _bound(rule)
    return room if _higher(rule) else -room


def _mirrored(interval: Interval) -> Interval:
    """As a gain, where less is better."""
    return Interval(-interval.estimate + 0.0, -interval.high + 0.0, -interval.low + 0.0)


def _peer(rule: OfflineRule, evaluation: Evaluation) -> Peer | None:
    if rule.against == "best-baseline":
        return next((peer for peer in evaluation.baselines if peer.name == evaluation.best_baseline), None)
    return evaluation.production if rule.against == "production" else evaluation.teacher


def _in_slice(rule: OfflineRule, part: SliceEvaluation) -> Estimate | None:
    estimates = {
        None: part.metrics,
        "production": part.versus_production,
        "best-baseline": part.versus_baseline,
        "teacher": part.versus_teacher,
    }
    return estimates[rule.against].get(rule.metric)


def _sentence(rule: OfflineRule, interval: Interval, evaluation: Evaluation, part: SliceEvaluation | None) -> str:
    where, n = (f"In slice {_title(part)} the", part.n) if part else ("The", evaluation.n)
    if rule.role == "limit":
        way = "least" if rule.metric in HIGHER_IS_BETTER else "most"
        return f"{where} {_WORDS[rule.metric]} is {_range(interval, n)}; allowed is at {way} {_number(_bound(rule))}."
    worse = interval.estimate < 0
    wanted = (
        f"wanted is more than {_number(rule.margin)} better"
        if rule.role == "success"
        else f"allowed is {_number(rule.margin)} worse"
    )
    value, ends = _range(_mirrored(interval) if worse else interval, n).split(" ", 1)
    way = "worse" if worse else "better"
    return f"{where} {_WORDS[rule.metric]} is {value} {way} than {_peer_title(rule, evaluation)} {ends}; {wanted}."


def _range(interval: Interval, n: int) -> str:
    ends = f"95 % interval {_number(interval.low)} to {_number(interval.high)}"
    return f"{_number(interval.estimate)} ({ends}, n={n})"


def _cannot_tell(
    rule: OfflineRule, estimate: Estimate | None, evaluation: Evaluation, part: SliceEvaluation | None
) -> str:
    where = f"In slice {_title(part)} the" if part else "The"
    versus = f" against {_peer_title(rule, evaluation)}" if rule.against else ""
    if estimate is not None:
        return f"{where} {_WORDS[rule.metric]}{versus} is not a finite number, so nothing can be said."
    why = " ".join(evaluation.problems) or "One class only, too few days, or the peer is absent."
    return f"{where} {_WORDS[rule.metric]}{versus} was not measured. {why}"


def _peer_title(rule: OfflineRule, evaluation: Evaluation) -> str:
    if rule.against == "best-baseline":
        return f"the best baseline ({evaluation.best_baseline or 'none'})"
    return "production" if rule.against == "production" else "the teacher"


def _without_numbers(
    rule: OfflineRule, verdict: Verdict, n: int, text: str, part: SliceEvaluation | None = None
) -> Reason:
    reason = Reason.plain(_name(rule, part), verdict, text)
    return reason.model_copy(update={"bound": _bound(rule), "n": n, "role": rule.role})


def _name(rule: OfflineRule, part: SliceEvaluation | None = None) -> str:
    versus = f" vs {rule.against}" if rule.against else ""
    inside = f"[{_title(part)}]" if part else "[slices]" if rule.per_slice else ""
    return f"{rule.role} {rule.metric}{versus}{inside}"


def _title(part: SliceEvaluation) -> str:
    return f"{part.slice}={part.value}"


def _number(value: float) -> str:
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
