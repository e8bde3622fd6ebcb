"""What a kind of online rule declares, and what its judge is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sluice.documents.event_time import moment_of
from sluice.documents.evidence import Evidence
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Reason
from sluice.gates.block_length import block_hours_of
from sluice.gates.blocks import TUNED_AT
from sluice.gates.group_sequential import boundaries
from sluice.gates.online_policy import Online
from sluice.gates.roles import COMPARING
from sluice.gates.sequential import critical_value
from sluice.stages.registry import STAGES
from sluice.stages.section import OnlineRole, OnlineRule, OnlineStage

Direction = Literal["lower", "higher"]
ARM_N = 30
"""Observations an arm below which an asymptotic interval means nothing."""


class Question(NamedTuple):
    """One rule of a stage, asked at one look."""

    evidence: Evidence
    rule: OnlineRule
    stage: OnlineStage
    online: Online
    state: ReleaseState
    """What Git says; the servers do it, or nothing would be asked."""
    higher: bool
    """Whether higher is better."""

    @property
    def minimum_n(self) -> int:
        """Observations before the rule says anything but FAIL."""
        return self.rule.minimum_n or self.stage.minimum_n

    @property
    def alpha(self) -> float:
        """
        Error of the rule's interval, over all looks.

        A rule that names none has ``online.alpha``; rules of one stage that are success, or deterioration, share it
        evenly, since one false alarm among them is enough. Guardrails and limits need no share: all of them must PASS
        (Schultzberg, Ankargren, Frånberg, "Risk-aware product decisions in A/B tests with multiple metrics", 2024).
        """
        if self.rule.alpha is not None:
            return self.rule.alpha
        role = self.rule.role
        if role not in ("success", "deterioration"):
            return self.online.alpha
        return self.online.alpha / sum(other.role == role and other.alpha is None for other in self.stage.rules)

    def critical(self, n: int, alpha: float, tuned_at: float) -> float:
        """Standard errors on either side of a mean of ``n``: a confidence sequence's, or those of a fixed look."""
        if self.stage.looks is None:
            return critical_value(n, alpha, tuned_at)
        return boundaries(self.stage.looks, alpha)[self.look - 1]

    def block_critical(self, number: int, alpha: float) -> float:
        """As ``critical``, of a mean of ``number`` blocks of event time."""
        return self.critical(number, alpha, TUNED_AT)

    @property
    def block_hours(self) -> float:
        """Length of the rollout's blocks of event time."""
        return block_hours_of(self.online, self.state)

    @property
    def look(self) -> int:
        """Of a stage of fixed looks, the one that it has come to, from 1; 0 before the first and between two."""
        looks, evidence = self.stage.looks or 0, self.evidence
        if not looks or evidence.since is None:
            return 0
        hours = (moment_of(evidence.now) - moment_of(evidence.since)).total_seconds() / 3600
        interval = self.stage.maximum_hours / looks
        number = min(int(hours / interval), looks)
        return number if hours - number * interval < self.online.look_every_hours else 0


Judge = Callable[[Question], tuple[Reason, ...]]


@dataclass(frozen=True)
class RuleKind:
    """What a policy may ask of one metric. A policy that asks anything else is refused when it is read."""

    metric: str
    about: str
    """One sentence for people who write a policy."""
    unit: str
    judge: Judge
    """One reason, or one a slice; INCONCLUSIVE, named, where the evidence lacks what it needs."""
    roles: tuple[OnlineRole, ...]
    needs: Literal["has_traffic", "mirrors", "whole_rollout"] | None = None
    """What a stage must have: requests of users, both sides' answers to one of them, or labels of the whole rollout."""
    direction: Direction = "lower"
    """Which way is good."""
    relative: tuple[OnlineRole, ...] = ()
    """Comparing roles that take ``relative_margin``."""
    absolute: bool = True
    """Whether comparing roles take ``margin``."""
    limits: tuple[float, float] | None = (0.0, 1.0)
    """Range of ``limit``; ``None`` where a quality rule takes none."""
    open_limits: bool = False
    """Whether the ends of ``limits`` can never be kept: an interval never touches them."""
    interval: bool = True
    """Whether it has an interval, and with it takes ``alpha``."""
    counted: bool = True
    """Whether it takes ``minimum_n``."""
    sliced: bool = False
    """Whether it takes ``per_slice``."""
    has_stop: bool = False
    """Whether it takes ``stop_at``: it counts minutes that failed."""
    finest: float = 0.0
    """Relative margins up to this can never be shown to be kept: the evidence is coarser."""
    widest: float | None = None
    """Margins from this on can never be broken."""
    pooled: bool = False
    """Whether it compares on requests of the stages before too, where the stage asks of the whole rollout."""
    planned: bool = False
    """Whether it rests on a mean, so that it can be planned: ``beta``, and stages of fixed looks."""

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages in which it can be asked."""
        stages = (stage for stage in STAGES.values() if stage.judge in ("rules", "servers"))
        return tuple(stage.name for stage in stages if self.needs is None or getattr(stage, self.needs))

    def takes(self, role: str) -> frozenset[str]:
        """Keys beside metric, role, direction and maximum_hours that a rule in this role may have."""
        comparing = role in COMPARING
        keys = {
            "margin": comparing and self.absolute,
            "relative_margin": role in self.relative,
            "limit": not comparing and self.limits is not None,
            "alpha": self.interval,
            "beta": self.planned and role == "guardrail",
            "minimum_n": self.counted,
            "per_slice": self.sliced and role != "success",
            "stop_at": self.has_stop,
        }
        return frozenset(key for key, allowed in keys.items() if allowed)
