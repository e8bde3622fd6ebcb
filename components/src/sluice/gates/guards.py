"""
What evidence must be before anything is read from it.

Evidence that breaks a guard is named and answered with INCONCLUSIVE, whatever its numbers say: a gate that reads the
wrong numbers well is still wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta

from sluice.gates.policy import GatePolicy
from sluice.gates.verdict import Reason, Verdict
from sluice.monitoring.evidence import Arm, Evidence, Moments
from sluice.release.state import ReleaseState, moment_of

_ABOUT = ("task", "environment", "rollout", "stage", "step", "since")


def refusals(evidence: Evidence, state: ReleaseState, policy: GatePolicy, now: str) -> tuple[Reason, ...]:
    """One INCONCLUSIVE reason for each guard that the evidence breaks, ``evidence.<guard>``; none: it may be read."""
    found = (
        *_about(evidence, state),
        *_timely(evidence, state, policy, now),
        *((f"evidence.{name}", text) for name, text in _finite(evidence)),
        *_some(evidence),
    )
    return tuple(
        Reason(rule=rule, verdict=Verdict.INCONCLUSIVE, observed=None, bound=None, n=0, text=text)
        for rule, text in found
    )


def _about(evidence: Evidence, state: ReleaseState) -> Iterator[tuple[str, str]]:
    for key in _ABOUT:
        seen, asked = getattr(evidence, key), getattr(state, key)
        if seen != asked:
            yield f"evidence.{key}", f"the evidence is about {key} {seen}, the state is in {key} {asked}"
    for side in ("candidate", "stable"):
        arm: Arm | None = getattr(evidence, side)
        seen, asked = arm.digest if arm else None, getattr(state, side)
        if seen != asked:
            yield "evidence.digest", f"the evidence is about {side} {seen}, the state has {asked}"


def _timely(evidence: Evidence, state: ReleaseState, policy: GatePolicy, now: str) -> Iterator[tuple[str, str]]:
    moment, taken = moment_of(now), moment_of(evidence.now)
    hours = policy.online.evidence_hours or policy.online.look_every_hours
    arms = [arm for arm in (evidence.candidate, evidence.stable) if arm]
    if taken > moment:
        yield "evidence.future", f"the evidence was taken at {evidence.now}, after {now}"
    for arm in arms:
        if arm.last and moment_of(arm.last) > taken:
            yield "evidence.future", f"a request of {arm.last} is counted in evidence taken at {evidence.now}"
        if arm.first and state.since and moment_of(arm.first) < moment_of(state.since):
            yield "evidence.window", f"a request of {arm.first} is counted in a stage that began at {state.since}"
    newest = max((moment_of(arm.last) for arm in arms if arm.last), default=taken)
    age = moment - min(taken, newest)
    if age > timedelta(hours=hours):
        text = f"its newest request is {age.total_seconds() / 3600:g} hours old, at most {hours:g} are allowed"
        yield "evidence.age", text


def _finite(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Documents with NaN cannot be read at all; this holds for evidence that was built without that check too."""
    numbers = {f"skew.{name}": value for name, value in evidence.skew.items()}
    for name, moments in _moments(evidence):
        if moments:
            numbers |= {f"{name}.mean": moments.mean, f"{name}.variance": moments.variance}
    for name, value in numbers.items():
        if not math.isfinite(value):
            yield "finite", f"{name} is {value}"


def _moments(evidence: Evidence) -> Iterator[tuple[str, Moments | None]]:
    for side in ("candidate", "stable"):
        arm: Arm | None = getattr(evidence, side)
        yield f"{side}.loss", arm.loss if arm else None
        yield f"timings.{side}", getattr(evidence.timings, side)
    yield "pairs.shift", evidence.pairs.shift
    yield "pairs.loss", evidence.pairs.loss
    for stratum in evidence.strata:
        yield f"strata.{stratum.window}.candidate", stratum.candidate
        yield f"strata.{stratum.window}.stable", stratum.stable


def _some(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Not one request on either side. A candidate that gets none while stable gets some is a broken split instead."""
    if not sum(evidence.split) and not any(arm.n for arm in (evidence.candidate, evidence.stable) if arm):
        yield "evidence.empty", "the evidence is empty: not one request was seen in this stage"
