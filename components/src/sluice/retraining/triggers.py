"""
Whether to train again: a pure rule over what is known of the model in production.

    drift      a feature's distribution has moved from the one that the model was trained on
    decay      the model's loss on live, labelled requests is above the loss on its holdout
    volume     so many labels have become known since the data ended that the model was made of
    schedule   so long ago it was trained
    empty      nothing is in production

One trigger that fires is enough. A trigger without evidence is INCONCLUSIVE: it never starts a training, and the
reason says so. Two guards keep a run from being wasted: a cooldown, and a rollout that is going on, beside
which a second one would be refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from sluice.documents.evidence import Moments
from sluice.documents.model import FiniteDocument, FrozenDocument

_Z = 1.644854
"""One-sided 95 %."""


class TriggerLimits(FiniteDocument):
    """When a trigger fires."""

    drift: float = Field(default=0.1, gt=0, le=1)
    """Jensen-Shannon divergence in bits, beyond what chance alone gives."""
    decay: float = Field(default=0.05, gt=0, le=10)
    """Log loss in nats above the holdout's, with 95 % confidence."""
    volume: int = Field(default=10_000, ge=1)
    """New labels."""
    schedule_days: float = Field(default=30, gt=0, le=3650)
    minimum_n: int = Field(default=500, ge=30)
    """Requests, or labelled ones, below which drift and decay are not judged."""
    cooldown_hours: float = Field(default=24, ge=0, le=8760)


class Drift(FiniteDocument):
    """One feature's live values against the training's."""

    divergence: float = Field(ge=0, le=1)
    bins: int = Field(ge=1)


class NewLabels(FrozenDocument):
    """Labels of requests that the model in production was not made of."""

    n: int = Field(ge=0)
    """Requests whose label became known in ``[since, until]``."""
    since: str
    """End of the data that it was trained, tuned and judged on."""
    until: str
    learnable: bool
    """Whether the task's splits reach beyond ``since`` now: else a training reads the rows that the model knows."""


class ProductionFacts(FiniteDocument):
    """What is known; ``None`` is what nobody knows."""

    production: str | None = None
    """Digest; ``None``: nothing, or ``empty`` says that."""
    empty: bool = False
    """There is a repository, and it says that nothing is in production."""
    rollout: str | None = None
    requests: int | None = Field(default=None, ge=0)
    """Those that it answered and whose features are known."""
    drift: dict[str, Drift] = {}
    loss: Moments | None = None
    holdout_loss: float | None = None
    labels: NewLabels | None = None
    hours_since_training: float | None = None


class Signal(StrEnum):
    """One trigger's answer."""

    FIRES = "FIRES"
    QUIET = "QUIET"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class Trigger:
    """A trigger and its answer, for people too."""

    name: str
    says: Signal
    text: str


@dataclass(frozen=True)
class Retraining:
    """Whether to train again, and why or why not, in one sentence."""

    retrain: bool
    reason: str
    triggers: tuple[Trigger, ...]


def decide(known: ProductionFacts, limits: TriggerLimits) -> Retraining:
    """Ask every trigger, then the guards."""
    triggers = (
        _empty(known),
        _drift(known, limits),
        _decay(known, limits),
        _volume(known, limits),
        _schedule(known, limits),
    )
    fired = [trigger for trigger in triggers if trigger.says is Signal.FIRES]
    unknown = [trigger.name for trigger in triggers if trigger.says is Signal.INCONCLUSIVE]
    if not fired:
        beside = f"; nothing is known of {', '.join(unknown)}" if unknown else ""
        return Retraining(False, f"no trigger fires{beside}", triggers)
    reason = "; ".join(f"{trigger.name}: {trigger.text}" for trigger in fired)
    if known.rollout:
        return Retraining(False, f"rollout {known.rollout} is going on, though {reason}", triggers)
    since = known.hours_since_training
    if since is not None and since < limits.cooldown_hours:
        rule = f"trained {since:.1f} h ago, cooldown {limits.cooldown_hours:g} h"
        return Retraining(False, f"{rule}, though {reason}", triggers)
    return Retraining(True, reason, triggers)


def chance(bins: int, n: int) -> float:
    """What a divergence is by chance alone, in bits, about: (bins - 1) / (8 n ln 2)."""
    return (bins - 1) / (8 * n * math.log(2))


def _empty(known: ProductionFacts) -> Trigger:
    if known.empty:
        return Trigger("empty", Signal.FIRES, "nothing is in production")
    return Trigger("empty", Signal.QUIET if known.production else Signal.INCONCLUSIVE, known.production or "not known")


def _drift(known: ProductionFacts, limits: TriggerLimits) -> Trigger:
    n = known.requests
    if n is None or n < limits.minimum_n or not known.drift:
        reason = "no requests are known" if n is None else f"{n} requests, {limits.minimum_n} are needed"
        return Trigger("drift", Signal.INCONCLUSIVE, reason)
    beyond = {name: drift.divergence - chance(drift.bins, n) for name, drift in known.drift.items()}
    worst = max(beyond, key=lambda name: (beyond[name], name))
    text = f"{worst} moved by {beyond[worst]:.3f} bits over {n} requests, limit {limits.drift:g}"
    return Trigger("drift", Signal.FIRES if beyond[worst] > limits.drift else Signal.QUIET, text)


def _decay(known: ProductionFacts, limits: TriggerLimits) -> Trigger:
    loss, before = known.loss, known.holdout_loss
    if loss is None or before is None or loss.n < limits.minimum_n:
        gap = "no labelled requests are known" if loss is None else f"{loss.n} labelled, {limits.minimum_n} are needed"
        return Trigger("decay", Signal.INCONCLUSIVE, gap if before is not None else "the holdout's loss is not known")
    half = _Z * math.sqrt(loss.variance / loss.n)
    gain = loss.mean - before
    text = f"log loss {loss.mean:.4f} ± {half:.4f} on {loss.n} live requests, {before:.4f} on the holdout"
    if gain - half > limits.decay:
        return Trigger("decay", Signal.FIRES, f"{text}, limit {limits.decay:g} above")
    says = Signal.QUIET if gain + half <= limits.decay else Signal.INCONCLUSIVE
    return Trigger("decay", says, f"{text}, limit {limits.decay:g} above")


def _volume(known: ProductionFacts, limits: TriggerLimits) -> Trigger:
    new = known.labels
    if new is None:
        return Trigger("volume", Signal.INCONCLUSIVE, "no labels are known, or not what the model was made of")
    text = f"{new.n} labels became known from {new.since} to {new.until}, limit {limits.volume}"
    if new.n < limits.volume:
        return Trigger("volume", Signal.QUIET, text)
    stuck = "; the task's splits end where they ended then, so a training reads the same rows until they are moved"
    return Trigger("volume", Signal.FIRES, text if new.learnable else text + stuck)


def _schedule(known: ProductionFacts, limits: TriggerLimits) -> Trigger:
    if known.hours_since_training is None:
        return Trigger("schedule", Signal.INCONCLUSIVE, "when it was trained is not known")
    days = known.hours_since_training / 24
    text = f"trained {days:.1f} days ago, due after {limits.schedule_days:g}"
    return Trigger("schedule", Signal.FIRES if days >= limits.schedule_days else Signal.QUIET, text)
