"""
The worlds that a policy is played against; a new world is one line of ``WORLDS``.

Sizes are told in the policy's own units, so that one table suits every policy: a gap of 1 is the tightest ``loss``
margin that its stages ask of all requests, an error rate of 1 its tightest limit of ``error_rate``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sluice.errors import BadInput
from sluice.gates.policy import GatePolicy
from sluice.stages.registry import STAGES
from sluice.targets.registry import LOSS_NAMES


@dataclass(frozen=True)
class World:
    """What is true about a candidate and the road it is driven on."""

    name: str
    truth: Literal["good", "bad", "road"]
    """Good: to be promoted. Bad: to be rolled back. Road: traffic or features are broken, so nothing can be said."""
    about: str
    gap: float = 0.0
    """Candidate's mean log loss above stable's, in margins."""
    gap_later: float | None = None
    """The gap after the shadow, where it is another one."""
    slice_share: float = 1.0
    """Share of requests that carry the whole gap."""
    errors: float = 0.1
    """Candidate's rate of failed answers, in allowed rates; stable's is 0.1."""
    refusals: float = 0.0
    """Share of requests that the candidate refuses and stable takes."""
    malformed: float = 0.0
    """Share of requests that both refuse."""
    latency: float = 1.0
    """Candidate's mean latency over stable's."""
    tail: float = 0.0
    """Share of the candidate's answers that take twenty times as long."""
    stale: float = 0.0
    """Share of requests with a feature that is missing or past its time to live."""
    mismatch: float = 0.0
    """Share of served cells that differ from the training path."""
    skew: float = 0.0
    """Divergence of the worst served feature from its training profile."""
    drift: float = 0.0
    """How fast requests become harder for both sides; 0.1 a day is a change of season in a month."""
    bursts: float = 0.0
    """Share of requests that come in bursts of one kind of request; the rest comes evenly."""
    storm: float = 0.0
    """Standard deviation, in margins, by which the candidate is worse or better for all requests of a day together."""
    outage: int = 0
    """Minutes of each day, in one piece, in which the candidate answers nothing."""
    is_shared: bool = False
    """Whether stable answers nothing in them either."""
    slow_minutes: float = 0.0
    """Share of the minutes in which all of the candidate's answers take twenty times as long."""
    label_hours: float = 3.0
    """Median delay of a label; positive ones take half as long again."""
    label_missing: float = 0.01
    """Share of labels that never come."""
    road: float = 1.0
    """Share of the planned traffic that reaches the candidate."""
    needs: str | None = None
    """The metric that tells; a policy that does not ask of it is not played in this world, unless it is named."""

    @property
    def later(self) -> float:
        """The gap after the shadow."""
        return self.gap if self.gap_later is None else self.gap_later


STORM = 0.42
"""Of the shipped margin: a paired difference has a design effect of 18 by day then, as was measured."""
WORLDS: tuple[World, ...] = (
    World("equal", "good", "as good as stable", gap=0),
    World("better", "good", "better by half a margin", gap=-0.5),
    World("slightly-worse", "good", "worse by half the margin: the policy allows it", gap=0.5),
    World("at-margin", "bad", "worse by exactly the margin: the hardest to tell", gap=1),
    World("worse", "bad", "worse by twice the margin", gap=2),
    World("much-worse", "bad", "worse by four margins", gap=4),
    World("turns-worse", "bad", "equal in the shadow, then worse by twice the margin", gap_later=2),
    World("turns-much-worse", "bad", "equal in the shadow, then worse by four margins", gap_later=4),
    World("slice", "bad", "one slice of 5 % loses ten margins, all together half of one", gap=0.5, slice_share=0.05),
    World("errors", "bad", "twice the allowed error rate", errors=2),
    World("failing", "bad", "twenty times the allowed error rate", errors=20),
    World(
        "refuses",
        "bad",
        "refuses one request in ten that stable takes; one in fifty is refused by both",
        refusals=0.1,
        malformed=0.02,
        needs="refusal_rate",
    ),
    World("slow", "bad", "answers take three times as long", latency=3, needs="latency"),
    World("slow-tail", "bad", "one answer in twenty takes twenty times as long", tail=0.05, needs="latency_p99"),
    World("mismatch", "bad", "one served cell in twenty is not what training saw", mismatch=0.05, needs="parity"),
    World("skew", "bad", "a served feature is nothing like its training profile", skew=0.8, needs="skew"),
    World("stale", "road", "every second request lacks a fresh feature", stale=0.5, needs="freshness"),
    World("drifting", "good", "equal, while requests become harder for both", drift=0.1),
    World("bursty", "good", "equal, four of five requests in bursts of one kind", bursts=0.8),
    World("stormy", "good", "equal, but whole days favour one side: a design effect of 18 by day", storm=STORM),
    World("stormy-half", "good", "on such days, worse by half the margin", gap=0.5, storm=STORM),
    World("stormy-at-margin", "bad", "on such days, worse by exactly the margin", gap=1, storm=STORM),
    World("stormy-worse", "bad", "on such days, worse by twice the margin", gap=2, storm=STORM),
    World("late-labels", "good", "equal, labels take half a day, 4 % never come", label_hours=12, label_missing=0.04),
    World("late-worse", "bad", "twice the margin, the same late labels", gap=2, label_hours=12, label_missing=0.04),
    World("outage", "good", "equal, but for two minutes of each day it answers nothing", outage=2),
    World(
        "outage-of-both", "good", "equal, but for five minutes of each day neither answers", outage=5, is_shared=True
    ),
    World(
        "slow-minutes",
        "good",
        "equal, but all answers of one minute in two hundred take twenty times as long",
        slow_minutes=0.005,
        needs="latency",
    ),
    World("split", "road", "equal, but a tenth of the planned traffic never arrives", road=0.9),
)


@dataclass(frozen=True)
class TrafficScale:
    """The policy's units, what it asks of, and the traffic it is played on."""

    margin: float
    """Nats a request."""
    error_rate: float
    look_hours: float
    requests_a_day: float
    asked: frozenset[str] = frozenset()
    """Metrics that some stage asks of."""
    sliced: frozenset[str] = frozenset()
    """Stages that ask of every slice."""
    shadow_fails_refusals: bool = False
    """Whether a stage with a mirror asks error_rate, in which what the candidate alone refuses is a failure."""

    @property
    def asks_latency(self) -> bool:
        """Whether any rule reads how long answers take."""
        return any(metric.startswith("latency") for metric in self.asked)

    @property
    def asks_quantiles(self) -> bool:
        """Whether any rule reads how long most answers take."""
        return any(metric.startswith("latency_") for metric in self.asked)

    def asks_slices(self, *, shadow: bool) -> bool:
        """Whether the shadow, or any stage after it, asks of every slice."""
        mirror_stages = {name for name, stage in STAGES.items() if stage.mirrors}
        return bool(self.sliced & mirror_stages if shadow else self.sliced - mirror_stages)


def scale_of(policy: GatePolicy, requests_a_day: float, look_hours: float | None = None) -> TrafficScale:
    """The tightest margin and error rate of the stages; 0.05 and 0.01 where the policy asks for none."""
    rules = [(name, rule) for name, stage in policy.online.stages.items() for rule in stage.rules]
    losses = (rule.margin for _, rule in rules if rule.metric in LOSS_NAMES and not rule.per_slice)
    limits = (rule.limit for _, rule in rules if rule.metric == "error_rate")
    return TrafficScale(
        margin=_least(losses, 0.05),
        error_rate=_least(limits, 0.01),
        look_hours=look_hours or policy.online.look_every_hours,
        requests_a_day=requests_a_day,
        asked=frozenset(rule.metric for _, rule in rules),
        sliced=frozenset(name for name, rule in rules if rule.per_slice),
        shadow_fails_refusals=any(rule.metric == "error_rate" and STAGES[name].mirrors for name, rule in rules),
    )


def worlds_for(scale: TrafficScale, names: Sequence[str]) -> tuple[World, ...]:
    """
    The worlds of these names; where there are none, all in which the policy asks of what tells.

    Raises:
        BadInput: there is no such world.
    """
    return worlds_named(names) if names else tuple(world for world in WORLDS if world.needs in {None, *scale.asked})


def worlds_named(names: Sequence[str]) -> tuple[World, ...]:
    """
    The worlds of these names.

    Raises:
        BadInput: there is no such world.
    """
    known = {world.name: world for world in WORLDS}
    for name in names:
        if name not in known:
            raise BadInput(f"world {name!r}", "is not known", f"use one of {', '.join(known)}")
    return tuple(known[name] for name in names)


def _least(values: Iterable[float | None], otherwise: float) -> float:
    return min((value for value in values if value), default=otherwise)
