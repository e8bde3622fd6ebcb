"""
What evidence must be before anything is read from it.

Evidence that breaks a guard is named and answered with INCONCLUSIVE, whatever its numbers say: a gate that reads the
wrong numbers well is still wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cache
from typing import Any

from pydantic import BaseModel

from sluice.documents.event_time import moment_of
from sluice.documents.evidence import ABOUT, SIDES, Arm, Evidence
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Reason, Verdict
from sluice.gates.policy import GatePolicy
from sluice.gates.sequential import is_broken

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_FLOW_ALPHA = 0.001
_TO_THE_SECOND = len("2020-01-01T00:00:00")


def refusals(evidence: Evidence, state: ReleaseState, policy: GatePolicy, now: str) -> tuple[Reason, ...]:
    """One INCONCLUSIVE reason for each guard that the evidence breaks, ``evidence.<guard>``; none: it may be read."""
    breaches = (
        *(("evidence.problem", problem) for problem in evidence.problems),
        *_about(evidence, state),
        *_timely(evidence, state, policy, now),
        *_believable(evidence),
        *_some(evidence),
    )
    return tuple(Reason.plain(rule, Verdict.INCONCLUSIVE, text) for rule, text in breaches)


def irregular_flow(evidence: Evidence, state: ReleaseState, policy: GatePolicy, now: str) -> tuple[Reason, ...]:
    """
    INCONCLUSIVE where a side that has weight or mirror is silent, or requests since the last look went elsewhere.

    Beside the rules, not in their place: what a side answered before it fell silent may fail it.
    """
    texts = (*_silent_sides(evidence, state, policy, now), *_astray(evidence, state))
    return tuple(Reason.plain("flow", Verdict.INCONCLUSIVE, text) for text in texts)


def silent_preview(evidence: Evidence, policy: GatePolicy, now: str) -> tuple[Reason, ...]:
    """INCONCLUSIVE where nobody asked the preview lately: what it answered before says little of what it is now."""
    last = evidence.candidate.last if evidence.candidate else None
    age = _hours_between(moment_of(last), moment_of(now)) if last else None
    if age is None or age <= policy.online.oldest_hours:
        return ()  # not asked at all, it has too few requests for any rule
    limit = f"at most {policy.online.oldest_hours:g} are allowed"
    text = f"the newest request to the preview is {age:g} hours old, {limit}"
    return (Reason.plain("flow", Verdict.INCONCLUSIVE, text),)


def _silent_sides(evidence: Evidence, state: ReleaseState, policy: GatePolicy, now: str) -> Iterator[str]:
    for role in SIDES:
        arm, planned = evidence.arms.get(role), state.arm(role)
        if not (planned.weight or planned.mirror) or arm is None:
            continue
        share = f"{planned.weight} % of the requests" if planned.weight else f"copies of {planned.mirror} %"
        if not arm.n or arm.last is None:
            yield f"no request to {role} is known in this stage, and it gets {share}"
        elif (age := _hours_between(moment_of(arm.last), moment_of(now))) > policy.online.oldest_hours:
            limit = f"at most {policy.online.oldest_hours:g} are allowed"
            yield f"the newest request to {role} is {age:g} hours old, {limit}, and it gets {share}"


def _astray(evidence: Evidence, state: ReleaseState) -> Iterator[str]:
    when, split = ("since the last look", evidence.recent) if evidence.recent else ("of this stage", evidence.split)
    if is_broken(split, state.candidate_share, _FLOW_ALPHA):
        what = "mirrored to the candidate" if state.is_mirrored else "sent to the candidate"
        planned = f"{state.candidate_share} % were planned"
        yield f"{split[1]} of {sum(split)} requests {when} were {what}, {planned}: they did not go as decided"


def _about(evidence: Evidence, state: ReleaseState) -> Iterator[tuple[str, str]]:
    for key in ABOUT:
        in_evidence, in_state = getattr(evidence, key), getattr(state, key)
        if in_evidence != in_state:
            yield f"evidence.{key}", f"the evidence is about {key} {in_evidence}, the state is in {key} {in_state}"
    for side in ("candidate", "stable"):
        arm: Arm | None = getattr(evidence, side)
        in_evidence, in_state = arm.digest if arm else None, getattr(state, side)
        if in_evidence != in_state:
            yield "evidence.digest", f"the evidence is about {side} {in_evidence}, the state has {in_state}"


def _timely(evidence: Evidence, state: ReleaseState, policy: GatePolicy, now: str) -> Iterator[tuple[str, str]]:
    moment, evidence_moment = moment_of(now), moment_of(evidence.now)
    hours = policy.online.oldest_hours
    arms = [arm for arm in (evidence.candidate, evidence.stable) if arm]
    if evidence_moment > moment:
        yield "evidence.future", f"the evidence was taken at {evidence.now}, after {now}"
    for arm in arms:
        if arm.first and state.since and moment_of(arm.first) < moment_of(state.since):
            yield "evidence.window", f"a request of {arm.first} is counted in a stage that began at {state.since}"
    newest = max((moment_of(arm.last) for arm in arms if arm.last), default=evidence_moment)
    ages = {"its newest request": min(evidence_moment, newest)}
    for source in evidence.sources:
        ages[f"what {source.name} was asked"] = moment_of(source.taken)
        ages[f"what {source.name} was asked about"] = moment_of(source.last or source.taken)
    for what, then in ages.items():
        age = _hours_between(then, moment)
        if age > hours:
            yield "evidence.age", f"{what} is {age:g} hours old, at most {hours:g} are allowed"


def _hours_between(then: datetime, now: datetime) -> float:
    return (now - then).total_seconds() / 3600


def _believable(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """
    Every number finite, every moment at or before the one at which the evidence was taken, wherever they stand.

    Documents with NaN cannot be read at all; this holds for evidence that was built without that check too.
    """
    if not _suspicious(evidence):
        return
    for name, value in _leaves(evidence, ""):
        if isinstance(value, float) and not math.isfinite(value):
            yield "evidence.finite", f"{name} is {value}"
        if isinstance(value, str) and _MOMENT.fullmatch(value) and moment_of(value) > moment_of(evidence.now):
            yield "evidence.future", f"{name} is {value}, in evidence that was taken at {evidence.now}"


def _suspicious(evidence: Evidence) -> bool:
    """Whether a closer look is worth it; this one is taken thousands of times a second in a simulation."""
    now = evidence.now
    rest: list[Iterable[Any]] = [evidence.__dict__.values()]
    while rest:
        for value in rest.pop():
            if value is None or value.__class__ is int:
                continue
            if isinstance(value, BaseModel):
                inside = value.__dict__.values()
                if not _only_numbers(value.__class__):
                    rest.append(inside)
                elif not math.isfinite(sum(inside)):
                    return True
            elif isinstance(value, dict):
                rest.append(value.values())
            elif isinstance(value, tuple | list):
                rest.append(value)
            elif _is_suspect(value, now):
                return True
    return False


def _is_suspect(value: Any, now: str) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    late = isinstance(value, str) and value[-1:] == "Z" and value[:_TO_THE_SECOND] >= now[:_TO_THE_SECOND]
    return late and value != now


@cache
def _only_numbers(document: type[BaseModel]) -> bool:
    return all(field.annotation in (int, float) for field in document.model_fields.values())


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Everything in a document that holds nothing else, by its keys from the top."""
    if isinstance(value, BaseModel):
        parts = list(value.__dict__.items())
    elif isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, tuple | list):
        parts = [(str(index), part) for index, part in enumerate(value)]
    else:
        yield name, value
        return
    for key, part in parts:
        yield from _leaves(part, f"{name}.{key}" if name else key)


def _some(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Not one request on either side. A candidate that gets none while stable gets some is a broken split instead."""
    if not sum(evidence.split) and not any(arm.n for arm in (evidence.candidate, evidence.stable) if arm):
        yield "evidence.empty", "the evidence is empty: not one request was seen in this stage"
