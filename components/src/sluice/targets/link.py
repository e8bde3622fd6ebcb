"""Links: the four ways from a model's raw outputs to predictions, and what people call both ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from sluice.targets.kind import LossName, TargetKind

LinkName = Literal["logistic", "softmax", "identity", "exponential"]


class TargetLink(NamedTuple):
    """
    One way from raw outputs to predictions.

    Attributes:
        raw, prediction: what one number is before it and after it.
        low, high: what its inverse takes a prediction beyond them for; float32 has no raw output of those.
    """

    raw: str
    prediction: str
    low: float = 0.0
    high: float = 0.0


LINKS: Mapping[LinkName, TargetLink] = {
    "logistic": TargetLink("logit", "probability", 1e-7, 1 - 1e-7),
    "softmax": TargetLink("logit", "probability", 1e-30, 1.0),
    "identity": TargetLink("value", "value"),
    "exponential": TargetLink("log_count", "count", 1e-13, 1e13),
}
_FITTING: Mapping[LinkName, tuple[LinkName, ...]] = {"identity": ("identity", "exponential")}
_OF_LOSSES: Mapping[LossName, LinkName] = {
    "logistic": "logistic",
    "softmax": "softmax",
    "squared": "identity",
    "absolute": "identity",
    "pinball": "identity",
    "poisson": "exponential",
}


def fitting_links(target: TargetKind) -> tuple[LinkName, ...]:
    """Links of libraries whose predictions are the target's: a positive value may be learned by its logarithm."""
    link = link_of(target)
    return _FITTING.get(link, (link,))


def link_of(target: TargetKind) -> LinkName:
    """Which of them ``target.link`` is: the one that belongs to the loss that its models minimize."""
    return _OF_LOSSES[target.training_loss.name]
