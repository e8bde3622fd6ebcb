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
from sluice.gates.policy import HIGHER_IS_BETTER, GatePolicy, Metric, OfflineRule

_WORDS: Mapping[Metric, str] = {
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
    return tuple(reason for rule in policy.offline for reason in _asked(rule, evaluation))


def _asked(rule: OfflineRule, evaluation: Evaluation) -> tuple[Reason, ...]:
    if rule.against == "production" and evaluation.production is None:
        text = "Production is empty, so there is no model that the candidate could be worse than."
        return (_without_numbers(rule, Verdict.PASS, evaluation.n, text),)
    if rule.per_slice:
        return _by_slice(rule, evaluation)
    return (_overall(rule, evaluation),)


def _overall(rule: OfflineRule, evaluation: Evaluation) -> Reason:
    if evaluation.n < rule.minimum_n:
        text = f"The holdout has {evaluation.n} rows; the rule asks for {rule.minimum_n}."
        return _without_numbers(rule, Verdict.INCONCLUSIVE, evaluation.n, text)
    if rule.against is None:
        return _held(rule, evaluation.metrics.get(rule.metric), evaluation)
    peer = _peer(rule, evaluation)
    return _held(rule, peer.difference.get(rule.metric) if peer else None, evaluation)


def _by_slice(rule: OfflineRule, evaluation: Evaluation) -> tuple[Reason, ...]:
    large = [part for part in evaluation.slices if part.n >= rule.minimum_n]
    small = [part for part in evaluation.slices if part.n < rule.minimum_n]
    judged = [(part, _held(rule, _in_slice(rule, part), evaluation, part)) for part in large]
    skipped = [part for part in large if rule.when_missing == "skip" and _in_slice(rule, part) is None]
    told = [(part, reason) for part, reason in judged if part not in skipped]
    failed = tuple(reason for _, reason in told if reason.verdict is not Verdict.PASS)
    passed = [(part, reason) for part, reason in told if reason.verdict is Verdict.PASS]
    if failed and not passed:
        return failed
    return (*failed, _summary(rule, passed, len(told), not_judged=(*small, *skipped)))


def _summary(
    rule: OfflineRule,
    passed: list[tuple[SliceEvaluation, Reason]],
    judged: int,
    not_judged: Iterable[SliceEvaluation],
) -> Reason:
    left_out = _left_out(rule, tuple(not_judged))
    if not judged:
        text = f"No slice could be judged on {_WORDS[rule.metric]}.{left_out}"
        return _without_numbers(rule, Verdict.INCONCLUSIVE, 0, text)
    _, worst = min(passed, key=lambda pair: (_room(rule, pair[1]), _title(pair[0])))
    text = f"{len(passed)} of {judged} judged slices pass; the closest to the bound: {worst.text}{left_out}"
    return worst.model_copy(update={"rule": _name(rule), "text": text, "n": sum(part.n for part, _ in passed)})


def _left_out(rule: OfflineRule, parts: tuple[SliceEvaluation, ...]) -> str:
    if not parts:
        return ""
    named = ", ".join(f"{_title(part)} ({part.n} rows)" for part in parts[:_NAMED])
    more = f" and {len(parts) - _NAMED} more" if len(parts) > _NAMED else ""
    return f" Not judged, fewer than {rule.minimum_n} rows or not measurable: {named}{more}."


def _held(
    rule: OfflineRule, estimate: Estimate | None, evaluation: Evaluation, part: SliceEvaluation | None = None
) -> Reason:
    n = part.n if part else evaluation.n
    if estimate is None or not all(map(math.isfinite, (estimate.value, estimate.low, estimate.high))):
        text = _cannot_tell(rule, estimate, evaluation, part)
        return _without_numbers(rule, Verdict.INCONCLUSIVE, n, text, part)
    seen = estimate if rule.role == "limit" else _gain(rule.metric, estimate)
    return Reason(
        rule=_name(rule, part),
        verdict=_verdict(rule, seen),
        observed=seen.value,
        low=seen.low,
        high=seen.high,
        bound=_bound(rule),
        n=n,
        text=_sentence(rule, seen, evaluation, part),
    )


def _verdict(rule: OfflineRule, seen: Estimate) -> Verdict:
    """``seen`` is a gain, or the metric itself for a limit."""
    bound = _bound(rule)
    if rule.role == "limit" and rule.metric not in HIGHER_IS_BETTER:
        return _three(holds=seen.high <= bound, breaks=seen.low > bound)
    if rule.role == "limit":
        return _three(holds=seen.low >= bound, breaks=seen.high < bound)
    if rule.role == "deterioration":
        return Verdict.FAIL if seen.high < bound else Verdict.PASS
    return _three(holds=seen.low > bound, breaks=seen.high <= bound)


def _three(*, holds: bool, breaks: bool) -> Verdict:
    return Verdict.PASS if holds else Verdict.FAIL if breaks else Verdict.INCONCLUSIVE


def _bound(rule: OfflineRule) -> float:
    if rule.limit is not None:
        return rule.limit
    return (rule.margin if rule.role == "success" else -rule.margin) + 0.0


def _room(rule: OfflineRule, reason: Reason) -> float:
    """How far the observed value is inside the bound."""
    seen, sign = reason.observed or 0.0, -1 if rule.role == "limit" and rule.metric not in HIGHER_IS_BETTER else 1
    return sign * (seen - _bound(rule))


def _gain(metric: Metric, difference: Estimate) -> Estimate:
    if metric in HIGHER_IS_BETTER:
        return difference
    value, low, high = -difference.value + 0.0, -difference.high + 0.0, -difference.low + 0.0
    return Estimate(value=value, low=low, high=high, n=difference.n)


def _peer(rule: OfflineRule, evaluation: Evaluation) -> Peer | None:
    if rule.against == "best-baseline":
        return next((peer for peer in evaluation.baselines if peer.name == evaluation.best_baseline), None)
    return evaluation.production if rule.against == "production" else evaluation.teacher


def _in_slice(rule: OfflineRule, part: SliceEvaluation) -> Estimate | None:
    found = {
        None: part.metrics,
        "production": part.versus_production,
        "best-baseline": part.versus_baseline,
        "teacher": part.versus_teacher,
    }
    return found[rule.against].get(rule.metric)


def _sentence(rule: OfflineRule, seen: Estimate, evaluation: Evaluation, part: SliceEvaluation | None) -> str:
    where, n = (f"In slice {_title(part)} the", part.n) if part else ("The", evaluation.n)
    if rule.role == "limit":
        way = "least" if rule.metric in HIGHER_IS_BETTER else "most"
        return f"{where} {_WORDS[rule.metric]} is {_range(seen, n)}; allowed is at {way} {_number(_bound(rule))}."
    worse = seen.value < 0
    shown = Estimate(value=-seen.value, low=-seen.high, high=-seen.low, n=n) if worse else seen
    asked = (
        f"wanted is more than {_number(rule.margin)} better"
        if rule.role == "success"
        else f"allowed is {_number(rule.margin)} worse"
    )
    value, interval = _range(shown, n).split(" ", 1)
    way = "worse" if worse else "better"
    return f"{where} {_WORDS[rule.metric]} is {value} {way} than {_peer_title(rule, evaluation)} {interval}; {asked}."


def _range(seen: Estimate, n: int) -> str:
    return f"{_number(seen.value)} (95 % interval {_number(seen.low)} to {_number(seen.high)}, n={n})"


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
    return Reason(rule=_name(rule, part), verdict=verdict, observed=None, bound=_bound(rule), n=n, text=text)


def _name(rule: OfflineRule, part: SliceEvaluation | None = None) -> str:
    versus = f" vs {rule.against}" if rule.against else ""
    inside = f"[{_title(part)}]" if part else "[slices]" if rule.per_slice else ""
    return f"{rule.role} {rule.metric}{versus}{inside}"


def _title(part: SliceEvaluation) -> str:
    return f"{part.slice}={part.value}"


def _number(value: float) -> str:
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
