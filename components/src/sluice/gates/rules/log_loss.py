"""Does the candidate predict as well as stable, on requests whose labels are in?"""

from __future__ import annotations

from collections.abc import Iterable

from sluice.documents.evidence import Imputed, Moments, Stratum
from sluice.documents.verdict import Reason
from sluice.gates.rules.answers import Measured, held, unknown
from sluice.gates.rules.kind import ARM_N, Kind, Question
from sluice.gates.rules.slices import by_slice
from sluice.gates.sequential import Estimate, Sample, powered, stratified

_Strata = list[tuple[Sample, Sample]]


def _judge(question: Question) -> tuple[Reason, ...]:
    if question.state.is_mirrored:
        return _paired(question)
    return _stratified(question)


def _paired(question: Question) -> tuple[Reason, ...]:
    if question.rule.per_slice:
        parts = {name: part.pairs for name, part in question.evidence.slices.items() if part.pairs}
        sizes = {name: pairs.n for name, pairs in parts.items()}
        return by_slice(question, "log_loss", sizes, lambda name, alpha: _of_pairs(question, parts[name], alpha))
    loss = question.evidence.pairs.loss
    if loss is None or loss.n < ARM_N:
        return (unknown(question, "log_loss", "too few paired requests with labels"),)
    return (held(question, "log_loss", _of_pairs(question, loss, question.alpha)),)


def _of_pairs(question: Question, loss: Moments, alpha: float) -> Measured:
    found = Estimate(loss.mean, loss.variance / loss.n, loss.n)
    return _measured(question, found, alpha, question.minimum_n, "log loss against stable on the same requests")


def _measured(question: Question, found: Estimate, alpha: float, tuned_at: float, what: str) -> Measured:
    interval = found.within(question.critical(found.n, alpha, tuned_at))
    return Measured(interval, found.n, what, alpha, variance=found.n * found.variance, tuned_at=tuned_at)


def _stratified(question: Question) -> tuple[Reason, ...]:
    if question.rule.per_slice:
        parts = {name: _samples(part.strata) for name, part in question.evidence.slices.items()}
        sizes = {name: _size(strata) for name, strata in parts.items()}
        return by_slice(question, "log_loss", sizes, lambda name, alpha: _of_strata(question, parts[name], alpha))
    strata = _samples(question.evidence.strata)
    if not _size(strata):
        text = "too few labelled requests of both sides in the same windows"
        return (unknown(question, "log_loss", text),)
    return (held(question, "log_loss", _of_strata(question, strata, question.alpha)),)


def _of_strata(question: Question, strata: _Strata, alpha: float) -> Measured:
    what = f"log loss against stable in the same windows{_partial(question)}"
    return _measured(question, stratified(strata), alpha, 2 * question.minimum_n, what)


def _partial(question: Question) -> str:
    """How many labels are in, where some are missing and predictions stand in for them."""
    if not any(stratum.candidate_imputed or stratum.stable_imputed for stratum in question.evidence.strata):
        return ""
    arms = {"the candidate's": question.evidence.candidate, "stable's": question.evidence.stable}
    told = [f"{arm.labelled} of {arm.due} of {whose}" for whose, arm in arms.items() if arm]
    return f", helped by predictions where labels are missing (in for {' and '.join(told)})"


def _size(strata: _Strata) -> int:
    """Observations of both sides; 0 where one has too few for an asymptotic interval."""
    sizes = [sum(side.n for side in sides) for sides in zip(*strata, strict=True)] or [0, 0]
    return sum(sizes) if min(sizes) >= ARM_N else 0


def _samples(strata: Iterable[Stratum]) -> _Strata:
    return [
        (_sample(stratum.candidate, stratum.candidate_imputed), _sample(stratum.stable, stratum.stable_imputed))
        for stratum in strata
    ]


def _sample(moments: Moments, imputed: Imputed | None) -> Sample:
    labelled = Sample(moments.n, moments.mean, moments.variance)
    if imputed is None:
        return labelled
    every, rectifier = imputed.every, imputed.rectifier
    return powered(
        Sample(every.n, every.mean, every.variance),
        Sample(rectifier.n, rectifier.mean, rectifier.variance),
        labelled,
    )


KIND = Kind(
    metric="log_loss",
    about="Candidate's mean log loss minus stable's on requests whose labels are in: on the same requests in shadow, "
    "within windows that both answered in canary and confirm.",
    unit="nats a request",
    judge=_judge,
    roles=("success", "guardrail", "deterioration"),
    sliced=True,
    planned=True,
)
