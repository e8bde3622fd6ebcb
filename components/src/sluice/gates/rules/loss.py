"""
Does the candidate predict as well as stable, on requests whose labels are in?

By the loss of the task's target, whichever that is: a policy says ``loss``, or calls it by its own name.
"""

from __future__ import annotations

from collections.abc import Iterable

from sluice.documents.evidence import Imputed, Moments, Stratum
from sluice.documents.verdict import Reason, Verdict
from sluice.gates.loss_blocks import block_measurement, effect_of, history_of_pair, loss_words
from sluice.gates.reasons import MeasuredInterval, interval_reason, no_evidence, reason_of
from sluice.gates.rule_kind import ARM_N, Question, RuleKind
from sluice.gates.sequential import MeanEstimate, SampleMoments, prediction_powered_mean, stratified_difference
from sluice.gates.slices import by_slice
from sluice.targets.metric import LOSS
from sluice.targets.registry import LOSS_NAMES

_Strata = list[tuple[SampleMoments, SampleMoments]]


def _judge(question: Question) -> tuple[Reason, ...]:
    if question.rule.per_slice:
        return _by_slice(question)
    if history_of_pair(question) or question.online.design_effect is None:
        return (_with_reserve(question, reason_of(question, question.rule.metric, block_measurement(question))),)
    effect = question.online.design_effect
    return _paired(question, effect) if question.state.is_mirrored else _stratified(question, effect)


def _with_reserve(question: Question, reason: Reason) -> Reason:
    """A PASS by blocks leaves the policy's reserve of the margin free."""
    allowed = question.online.margin_to_show(question.rule.margin or 0.0)
    passes = reason.verdict is Verdict.PASS and question.rule.role == "guardrail"
    if not passes or reason.high is None or reason.high <= allowed:
        return reason
    text = f"{reason.text}; the reserve of {question.online.reserve:.0%} leaves {allowed:g} to show"
    return reason.model_copy(update={"verdict": Verdict.INCONCLUSIVE, "text": text})


def _by_slice(question: Question) -> tuple[Reason, ...]:
    """Requests of a slice share the shocks of their time too, so each counts for as little as its history says."""
    slices = question.evidence.slices
    effects = {name: effect for name in slices if (effect := effect_of(question, name)) is not None}
    if slices and not effects:
        text = "no history says how far requests of one time depend on each other, and the policy no design_effect"
        return (no_evidence(question, question.rule.metric, text, "slices"),)
    if question.state.is_mirrored:
        pairs = {name: part.pairs for name, part in slices.items() if part.pairs}
        counts = {name: one.n for name, one in pairs.items()}
        return by_slice(
            question,
            question.rule.metric,
            counts,
            lambda name, at: _plainly(question, _of_pairs(question, pairs[name], at, effects[name])),
        )
    strata = {name: _samples(part.strata) for name, part in slices.items()}
    sizes = {name: _size(one) for name, one in strata.items()}
    return by_slice(
        question,
        question.rule.metric,
        sizes,
        lambda name, at: _plainly(question, _of_strata(question, strata[name], at, effects[name])),
    )


def _plainly(question: Question, measurement: MeasuredInterval) -> MeasuredInterval:
    if not history_of_pair(question):
        return measurement
    return measurement._replace(what=f"{measurement.what}, not adjusted: history knows no slopes of a slice")


def _paired(question: Question, effect: float) -> tuple[Reason, ...]:
    loss = question.evidence.pairs.loss
    if loss is None or loss.n < ARM_N:
        return (no_evidence(question, question.rule.metric, "too few paired requests with labels"),)
    return (interval_reason(question, question.rule.metric, _of_pairs(question, loss, question.alpha, effect)),)


def _of_pairs(question: Question, loss: Moments, alpha: float, effect: float) -> MeasuredInterval:
    mean = MeanEstimate(loss.mean, loss.variance / loss.n, loss.n)
    what = f"{loss_words(question)} against stable on the same requests"
    return _measurement(question, mean, alpha, question.minimum_n, effect, what)


def _measurement(
    question: Question, estimate: MeanEstimate, alpha: float, tuned_at: float, effect: float, what: str
) -> MeasuredInterval:
    n = estimate.n
    dependent = estimate._replace(variance=effect * estimate.variance)
    interval = dependent.within(question.critical(n, alpha, tuned_at))
    what = what if effect == 1 else f"{what}, {effect:.3g} requests telling as much as one"
    return MeasuredInterval(interval, n, what, alpha, variance=n * dependent.variance, tuned_at=tuned_at)


def _stratified(question: Question, effect: float) -> tuple[Reason, ...]:
    strata = _samples(question.evidence.strata)
    if not _size(strata):
        text = "too few labelled requests of both sides in the same windows"
        return (no_evidence(question, question.rule.metric, text),)
    return (interval_reason(question, question.rule.metric, _of_strata(question, strata, question.alpha, effect)),)


def _of_strata(question: Question, strata: _Strata, alpha: float, effect: float) -> MeasuredInterval:
    what = f"{loss_words(question)} against stable in the same windows{_partial(question)}"
    return _measurement(question, stratified_difference(strata), alpha, 2 * question.minimum_n, effect, what)


def _partial(question: Question) -> str:
    """How many labels are in, where some are missing and predictions stand in for them."""
    if not any(stratum.candidate_imputed or stratum.stable_imputed for stratum in question.evidence.strata):
        return ""
    arms = {"the candidate's": question.evidence.candidate, "stable's": question.evidence.stable}
    shares = [f"{arm.labelled} of {arm.due} of {whose}" for whose, arm in arms.items() if arm]
    return f", helped by predictions where labels are missing (in for {' and '.join(shares)})"


def _size(strata: _Strata) -> int:
    """Observations of both sides; 0 where one has too few for an asymptotic interval."""
    sizes = [sum(side.n for side in sides) for sides in zip(*strata, strict=True)] or [0, 0]
    return sum(sizes) if min(sizes) >= ARM_N else 0


def _samples(strata: Iterable[Stratum]) -> _Strata:
    return [
        (_sample(stratum.candidate, stratum.candidate_imputed), _sample(stratum.stable, stratum.stable_imputed))
        for stratum in strata
    ]


def _sample(moments: Moments, imputed: Imputed | None) -> SampleMoments:
    labelled = SampleMoments(moments.n, moments.mean, moments.variance)
    if imputed is None:
        return labelled
    every, rectifier = imputed.every, imputed.rectifier
    return prediction_powered_mean(
        SampleMoments(every.n, every.mean, every.variance),
        SampleMoments(rectifier.n, rectifier.mean, rectifier.variance),
        labelled,
    )


def _kind(name: str) -> RuleKind:
    return RuleKind(
        metric=name,
        about=_ABOUT if name == LOSS else "`loss`, of a task whose loss is called so; of another one it is refused.",
        unit=_UNITS.get(name, "the loss's unit"),
        judge=_judge,
        roles=("success", "guardrail", "deterioration"),
        needs="has_traffic",
        sliced=True,
        planned=True,
        pooled=True,
    )


_ABOUT = (
    "Candidate's mean loss minus stable's on requests whose labels are in: on the same requests in shadow, within "
    "windows that both answered in canary and confirm. Which loss that is, the kind of target says."
)
_UNITS = {"log_loss": "nats a request"}
KINDS = tuple(_kind(name) for name in LOSS_NAMES)
"""One rule by several names: a policy that calls the loss as another kind of target does is refused."""
