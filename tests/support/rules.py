"""A policy of the rules under test, and evidence that each of them reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from sluice.documents.evidence import (
    LATENCY_BOUNDS_MS,
    Arm,
    Histogram,
    Moments,
    Pairs,
    Share,
    Stratum,
    Timings,
)
from sluice.documents.verdict import Reason
from sluice.gates.online import judge_look
from sluice.gates.policy import GatePolicy, parse_policy
from tests.support.release import A, B, arm, evidence_of, state_in

_HEAD = """
apiVersion: sluice.dev/v1
kind: GatePolicy
task: toy
environment: dev
select: {}
offline: [{metric: auc, role: success, against: best-baseline}]
online:
  design_effect: 1
  alpha: 0.05
  look_every_hours: 12
"""
_OTHER = "minimum_n: 500, maximum_hours: 72, rules: [{metric: error_rate, role: limit, limit: 0.5}]"


def policy_with(stage: str, *rules: str, more: str = "") -> GatePolicy:
    """A policy that asks these rules in one stage."""
    asked = f"minimum_n: 500, maximum_hours: 72, {more} rules: [{', '.join(f'{{{rule}}}' for rule in rules)}]"
    bodies = {name: asked if name == stage else _OTHER for name in ("shadow", "canary", "confirm")}
    lines = [f"  {name}: {{{'steps: [10, 50], ' if name == 'canary' else ''}{body}}}" for name, body in bodies.items()]
    return parse_policy((_HEAD + "\n".join(lines)).encode(), "policy")


def spoken(stage: str, *rules: str, more: str = "", **changed: Any) -> tuple[Reason, ...]:
    """What the rules say to evidence that is fine but for ``changed``, without what every look is asked."""
    state, policy = state_in(stage), policy_with(stage, *rules, more=more)
    reasons = judge_look(evidence_of(state, **changed), policy.online.stages[stage], policy, state)
    return tuple(reason for reason in reasons if reason.rule != "minimum_n")


def bins(fast: float, slow: float, n: int = 4000) -> Histogram:
    """Nine of ten answers at ``fast`` milliseconds, one at ``slow``."""
    counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    for value, share in ((fast, 0.9), (slow, 0.1)):
        counts[int(np.searchsorted(LATENCY_BOUNDS_MS, value))] += round(share * n)
    return Histogram(counts=tuple(counts))


def timings_of(mean: float, *, n: int = 4000, paired: float | None = None, slow: float = 20.0) -> Timings:
    """Stable answers in 10 ms, one of ten in 20; the candidate in ``mean``, and ``slow``."""
    return Timings(
        candidate=Moments(n=n, mean=mean, variance=4.0),
        stable=Moments(n=n, mean=10.0, variance=4.0),
        difference=None if paired is None else Moments(n=n, mean=paired, variance=0.5),
        candidate_bins=bins(mean, slow, n),
        stable_bins=bins(10.0, 20.0, n),
    )


def pairs_of(*, shift: float = 0.05, worse: float = 0.0, same: int = 3900) -> Pairs:
    """Four thousand requests that both sides answered."""
    return Pairs(
        shift=Moments(n=4000, mean=shift, variance=0.01),
        loss=Moments(n=4000, mean=worse, variance=0.04),
        agreement=Share(n=4000, hits=same),
    )


def strata_of(worse: float, n: int = 2000) -> tuple[Stratum, ...]:
    """One window with ``n`` labelled requests of each side."""
    candidate, stable = (Moments(n=n, mean=0.4 + gap, variance=0.09) for gap in (worse, 0.0))
    return (Stratum(window="1", candidate=candidate, stable=stable),)


def refusing(digest: str, n: int, refused: int, *, alone: int = 0) -> Arm:
    """An arm that refused some of its requests, ``alone`` those that the other side answered."""
    return arm(digest, n).model_copy(update={"refused": refused, "refused_alone": alone, "errors": alone})


def restarts_of(ours: int, theirs: int = 2, hours: float = 100.0) -> dict[str, Any]:
    """Both arms with their restarts counted."""
    return {
        side: arm(digest, 4000).model_copy(update={"restarts": count, "hours": hours})
        for side, digest, count in (("candidate", B, ours), ("stable", A, theirs))
    }
