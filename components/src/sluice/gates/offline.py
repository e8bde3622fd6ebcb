"""
The offline gate: what the policy says about an evaluation.

Numbers in a reason are gains: the difference to the peer in the metric's good direction, so that more is better and
``bound`` is what the gain is held against (``margin`` for success, ``-margin`` for guardrail and deterioration). The
reason of a ``limit`` holds the metric itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from sluice.documents.evaluation import Estimate, Evaluation, Peer, SliceEvaluation
from sluice.documents.verdict import Reason, Verdict
from sluice.errors import BadInput
from sluice.gates.policy import GatePolicy, OfflineRule, metric_problem
from sluice.gates.roles import margin_bound, verdict_of
from sluice.gates.sequential import Interval
from sluice.targets.metric import Metric
from sluice.targets.registry import metrics_of

_ALPHA = 0.05
"""Error of an evaluation's intervals."""
_NAMED = 8
"""So many slices are listed by name in a sentence; the rest are counted."""


class _Query(NamedTuple):
    """A rule, and the metric that it is about."""

    rule: OfflineRule
    metric: Metric


def judge(evaluation: Evaluation, policy: GatePolicy) -> tuple[Reason, ...]:
    """
    One reason a rule; a rule asked of every slice gives one for each slice that does not pass, and one for the rest.

    A number that is absent, NaN or infinite makes its rule INCONCLUSIVE. A rule against production passes while
    production is empty: there is nothing that the candidate could be worse than.

    Raises:
        BadInput: the policy names a metric that the evaluation's target does not have.
    """
    metrics = metrics_of(evaluation)
    if problem := metric_problem(policy, metrics):
        raise BadInput(f"gate policy of {policy.environment}: {problem.key}", problem.rule, problem.fix)
    queries = (_Query(rule, metric) for rule in policy.offline if (metric := metrics.find(rule.metric)))
    return tuple(reason for query in queries for reason in _reasons(query, evaluation))


def _reasons(query: _Query, evaluation: Evaluation) -> tuple[Reason, ...]:
    if query.rule.against == "production" and evaluation.production is None:
        text = "Production is empty, so there is no model that the candidate could be worse than."
        return (_without_numbers(query, Verdict.PASS, evaluation.n, text),)
    if query.rule.per_slice:
        return _by_slice(query, evaluation)
    return (_of_all_rows(query, evaluation),)


def _of_all_rows(query: _Query, evaluation: Evaluation) -> Reason:
    if evaluation.n < query.rule.minimum_n:
        text = f"The holdout has {evaluation.n} rows; the rule asks for {query.rule.minimum_n}."
        return _without_numbers(query, Verdict.INCONCLUSIVE, evaluation.n, text)
    if query.rule.against is None:
        return _interval_reason(query, evaluation.metrics.get(query.metric.name), evaluation)
    peer = _peer(query, evaluation)
    return _interval_reason(query, peer.difference.get(query.metric.name) if peer else None, evaluation)


def _by_slice(query: _Query, evaluation: Evaluation) -> tuple[Reason, ...]:
    large = [part for part in evaluation.slices if part.n >= query.rule.minimum_n]
    small = [part for part in evaluation.slices if part.n < query.rule.minimum_n]
    verdicts = [(part, _interval_reason(query, _in_slice(query, part), evaluation, part)) for part in large]
    absent = [part for part in large if query.rule.when_missing == "skip" and _in_slice(query, part) is None]
    outcomes = [(part, reason) for part, reason in verdicts if part not in absent]
    others = tuple(reason for _, reason in outcomes if reason.verdict is not Verdict.PASS)
    passes = [(part, reason) for part, reason in outcomes if reason.verdict is Verdict.PASS]
    if others and not passes:
        return others
    return (*others, _summary(query, passes, len(outcomes), remainder=(*small, *absent)))


def _summary(
    query: _Query,
    passes: list[tuple[SliceEvaluation, Reason]],
    count: int,
    remainder: Iterable[SliceEvaluation],
) -> Reason:
    appendix = _appendix(query, tuple(remainder))
    if not count:
        text = f"No slice could be judged on {query.metric.title}.{appendix}"
        return _without_numbers(query, Verdict.INCONCLUSIVE, 0, text)
    _, worst = min(passes, key=lambda pair: (_room(query, pair[1]), _title(pair[0])))
    text = f"{len(passes)} of {count} judged slices pass; the closest to the bound: {worst.text}{appendix}"
    return worst.model_copy(update={"rule": _name(query), "text": text, "n": sum(part.n for part, _ in passes)})


def _appendix(query: _Query, parts: tuple[SliceEvaluation, ...]) -> str:
    if not parts:
        return ""
    names = ", ".join(f"{_title(part)} ({part.n} rows)" for part in parts[:_NAMED])
    more = f" and {len(parts) - _NAMED} more" if len(parts) > _NAMED else ""
    return f" Not judged, fewer than {query.rule.minimum_n} rows or not measurable: {names}{more}."


def _interval_reason(
    query: _Query, estimate: Estimate | None, evaluation: Evaluation, part: SliceEvaluation | None = None
) -> Reason:
    n = part.n if part else evaluation.n
    if estimate is None or not all(map(math.isfinite, (estimate.value, estimate.low, estimate.high))):
        text = _cannot_tell(query, estimate, evaluation, part)
        return _without_numbers(query, Verdict.INCONCLUSIVE, n, text, part)
    interval = _interval(query, estimate)
    if query.rule.role != "limit" and not query.metric.higher:
        interval = _mirrored(interval)
    return Reason.of_interval(
        _name(query, part),
        verdict_of(query.rule.role, interval, _bound(query), higher=_higher(query)),
        interval,
        bound=_bound(query),
        n=n,
        text=_sentence(query, interval, evaluation, part),
        role=query.rule.role,
        alpha=_ALPHA,
    )


def _interval(query: _Query, estimate: Estimate) -> Interval:
    """What is judged: of a metric with a best value, the limit is on the distance from it."""
    interval, best = Interval(estimate.value, estimate.low, estimate.high), query.metric.best
    if best is None or query.rule.role != "limit":
        return interval
    low, high = interval.low - best, interval.high - best
    nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return Interval(abs(interval.estimate - best), nearest, max(abs(low), abs(high)))


def _higher(query: _Query) -> bool:
    """Whether more is better of what is judged: always of a gain, by the metric of a limit."""
    return query.rule.role != "limit" or query.metric.higher


def _bound(query: _Query) -> float:
    return (
        margin_bound(query.rule.role, query.rule.margin, higher=True) if query.rule.limit is None else query.rule.limit
    )


def _room(query: _Query, reason: Reason) -> float:
    """How far the observed value is inside the bound."""
    room = (reason.observed or 0.0) - _bound(query)
    return room if _higher(query) else -room


def _mirrored(interval: Interval) -> Interval:
    """As a gain, where less is better."""
    return Interval(-interval.estimate + 0.0, -interval.high + 0.0, -interval.low + 0.0)


def _peer(query: _Query, evaluation: Evaluation) -> Peer | None:
    if query.rule.against == "best-baseline":
        return next((peer for peer in evaluation.baselines if peer.name == evaluation.best_baseline), None)
    return evaluation.production if query.rule.against == "production" else evaluation.teacher


def _in_slice(query: _Query, part: SliceEvaluation) -> Estimate | None:
    estimates = {
        None: part.metrics,
        "production": part.versus_production,
        "best-baseline": part.versus_baseline,
        "teacher": part.versus_teacher,
    }
    return estimates[query.rule.against].get(query.metric.name)


def _sentence(query: _Query, interval: Interval, evaluation: Evaluation, part: SliceEvaluation | None) -> str:
    where, n = (f"In slice {_title(part)} the", part.n) if part else ("The", evaluation.n)
    if query.rule.role == "limit":
        way = "least" if query.metric.higher else "most"
        away = "" if query.metric.best is None else f" away from {_number(query.metric.best)}"
        bound = f"allowed is at {way} {_number(_bound(query))}"
        return f"{where} {query.metric.title} is {_range(interval, n)}{away}; {bound}."
    worse = interval.estimate < 0
    wanted = (
        f"wanted is more than {_number(query.rule.margin)} better"
        if query.rule.role == "success"
        else f"allowed is {_number(query.rule.margin)} worse"
    )
    value, ends = _range(_mirrored(interval) if worse else interval, n).split(" ", 1)
    way = "worse" if worse else "better"
    return f"{where} {query.metric.title} is {value} {way} than {_peer_title(query, evaluation)} {ends}; {wanted}."


def _range(interval: Interval, n: int) -> str:
    ends = f"95 % interval {_number(interval.low)} to {_number(interval.high)}"
    return f"{_number(interval.estimate)} ({ends}, n={n})"


def _cannot_tell(query: _Query, estimate: Estimate | None, evaluation: Evaluation, part: SliceEvaluation | None) -> str:
    where = f"In slice {_title(part)} the" if part else "The"
    versus = f" against {_peer_title(query, evaluation)}" if query.rule.against else ""
    if estimate is not None:
        return f"{where} {query.metric.title}{versus} is not a finite number, so nothing can be said."
    why = " ".join(evaluation.problems) or "One class only, too few days, or the peer is absent."
    return f"{where} {query.metric.title}{versus} was not measured. {why}"


def _peer_title(query: _Query, evaluation: Evaluation) -> str:
    if query.rule.against == "best-baseline":
        return f"the best baseline ({evaluation.best_baseline or 'none'})"
    return "production" if query.rule.against == "production" else "the teacher"


def _without_numbers(query: _Query, verdict: Verdict, n: int, text: str, part: SliceEvaluation | None = None) -> Reason:
    reason = Reason.plain(_name(query, part), verdict, text)
    return reason.model_copy(update={"bound": _bound(query), "n": n, "role": query.rule.role})


def _name(query: _Query, part: SliceEvaluation | None = None) -> str:
    versus = f" vs {query.rule.against}" if query.rule.against else ""
    inside = f"[{_title(part)}]" if part else "[slices]" if query.rule.per_slice else ""
    return f"{query.rule.role} {query.rule.metric}{versus}{inside}"


def _title(part: SliceEvaluation) -> str:
    return f"{part.slice}={part.value}"


def _number(value: float) -> str:
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
