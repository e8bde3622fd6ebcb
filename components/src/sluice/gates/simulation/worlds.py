"""
The worlds that a policy is played against; a new world is one line of ``WORLDS``.

Sizes are told in the policy's own units, so that one table suits every policy: a gap of 1 is the tightest
``log_loss_margin`` of its stages, an error rate of 1 is its tightest ``maximum_error_rate``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sluice.errors import BadInput
from sluice.gates.policy import GatePolicy, OnlineRules


@dataclass(frozen=True)
class World:
    """What is true about a candidate and the road it is driven on."""

    name: str
    truth: Literal["good", "bad", "road"]
    """Good: to be promoted. Bad: to be rolled back. Road: the traffic is broken, so nothing can be said."""
    about: str
    gap: float = 0.0
    """Candidate's mean log loss above stable's, in margins."""
    slice_share: float = 1.0
    """Share of requests that carry the whole gap."""
    errors: float = 0.1
    """Candidate's rate of failed answers, in allowed rates; stable's is 0.1."""
    latency: float = 1.0
    """Candidate's mean latency over stable's."""
    drift: float = 0.0
    """How fast requests become harder for both sides; 0.1 a day is a change of season in a month."""
    bursts: float = 0.0
    """Share of requests that come in bursts of one kind of request; the rest comes evenly."""
    label_hours: float = 3.0
    """Median delay of a label; positive ones take half as long again."""
    label_missing: float = 0.01
    """Share of labels that never come."""
    road: float = 1.0
    """Share of the planned traffic that reaches the candidate."""


WORLDS: tuple[World, ...] = (
    World("equal", "good", "as good as stable", gap=0),
    World("better", "good", "better by half a margin", gap=-0.5),
    World("slightly-worse", "good", "worse by half the margin: the policy allows it", gap=0.5),
    World("at-margin", "bad", "worse by exactly the margin: the hardest to tell", gap=1),
    World("worse", "bad", "worse by twice the margin", gap=2),
    World("much-worse", "bad", "worse by four margins", gap=4),
    World("errors", "bad", "twice the allowed error rate", errors=2),
    World("slice", "bad", "one slice of 5 % loses ten margins, all together half of one", gap=0.5, slice_share=0.05),
    World("slow", "bad", "answers take three times as long", latency=3),
    World("drifting", "good", "equal, while requests become harder for both", drift=0.1),
    World("bursty", "good", "equal, four of five requests in bursts of one kind", bursts=0.8),
    World("late-labels", "good", "equal, labels take half a day, 4 % never come", label_hours=12, label_missing=0.04),
    World(
        "late-worse",
        "bad",
        "worse by twice the margin, the same late labels",
        gap=2,
        label_hours=12,
        label_missing=0.04,
    ),
    World("split", "road", "equal, but a tenth of the planned traffic never arrives", road=0.9),
)


@dataclass(frozen=True)
class Scale:
    """The policy's units, and the traffic it is played on."""

    margin: float
    """Nats a request."""
    error_rate: float
    look_hours: float
    requests_a_day: float
    asks_latency: bool


def scale_of(policy: GatePolicy, requests_a_day: float, look_hours: float | None = None) -> Scale:
    """The tightest margin and error rate of the three stages; 0.05 and 0.01 where the policy asks for none."""
    stages: tuple[OnlineRules, ...] = (policy.online.shadow, policy.online.canary, policy.online.confirm)
    return Scale(
        margin=_least((stage.log_loss_margin for stage in stages), 0.05),
        error_rate=_least((stage.maximum_error_rate for stage in stages), 0.01),
        look_hours=look_hours or policy.online.look_every_hours,
        requests_a_day=requests_a_day,
        asks_latency=any(stage.latency_ratio for stage in stages),
    )


def worlds_named(names: Sequence[str]) -> tuple[World, ...]:
    """
    The worlds of these names, all where there are none.

    Raises:
        BadInput: there is no such world.
    """
    known = {world.name: world for world in WORLDS}
    for name in names:
        if name not in known:
            raise BadInput(f"world {name!r}", "is not known", f"use one of {', '.join(known)}")
    return tuple(known[name] for name in names) or WORLDS


def _least(values: Iterable[float | None], otherwise: float) -> float:
    return min((value for value in values if value), default=otherwise)
