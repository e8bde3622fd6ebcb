"""What a number that measures a model is: its name, its words, which way is good."""

from __future__ import annotations

import math
from typing import NamedTuple

from sluice.documents.model import FrozenDocument

LOSS = "loss"
"""By this name a policy asks of a target's loss, whatever that is."""
OWN = "task."
"""What the names of a task's own metrics begin with, so that no kind's name can be theirs."""


class Metric(FrozenDocument):
    """
    One metric. Where ``best`` is given, neither more nor less is better but what is nearer to it: a bias, a coverage.

    Differences of such a metric are differences of its distance from ``best``, so that more is worse.
    """

    name: str
    title: str
    """In a sentence of people."""
    higher: bool = False
    """Whether more is better."""
    low: float | None = 0.0
    high: float | None = None
    """What it can be at all; ``None``: anything."""
    best: float | None = None
    noisy: bool = False
    """Whether it is a mean of absolute values, which noise alone raises."""
    whole: bool = False
    """Whether it is measured over all rows only, in no slice."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Of the metric itself."""
        return (-math.inf if self.low is None else self.low, math.inf if self.high is None else self.high)

    @property
    def heading(self) -> str:
        """Its title above a column."""
        return self.title[:1].upper() + self.title[1:]

    @property
    def span(self) -> float:
        """The largest difference of two."""
        low, high = self.bounds
        return high - low


def share(name: str, title: str, **more: bool) -> Metric:
    """A metric from 0 to 1 of which more is better."""
    return Metric(name=name, title=title, higher=True, high=1.0, **more)


class MetricList(NamedTuple):
    """All that models of one target are measured by, in the order in which people expect them."""

    known: tuple[Metric, ...]
    loss: str
    """The metric that is the mean of the loss of each row."""
    ranking: str
    """The one that says which baseline is the best."""
    can_agree: bool = True
    """Whether anybody can say that two models would do the same."""

    def find(self, name: str) -> Metric | None:
        """The metric of this name; ``loss`` is the target's."""
        own_name = self.loss if name == LOSS else name
        return next((metric for metric in self.known if metric.name == own_name), None)

    @property
    def names(self) -> tuple[str, ...]:
        """What policies may name."""
        return (LOSS, *(metric.name for metric in self.known))
