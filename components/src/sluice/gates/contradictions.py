"""What an online policy may not ask: unknown, superfluous, or never to be answered."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple

from sluice.gates.blocks import FIRST_LOOK
from sluice.gates.online_policy import Online
from sluice.gates.registry import KINDS
from sluice.gates.roles import COMPARING
from sluice.gates.rule_kind import RuleKind
from sluice.stages.registry import STAGES, strategy_of
from sluice.stages.section import OnlineRule, OnlineStage
from sluice.stages.stage import CANDIDATE_ROLE, STABLE_ROLE, RolloutStage, Traffic, arm_in
from sluice.targets.metric import LOSS
from sluice.targets.registry import LOSS_NAMES

_OPTIONAL_KEYS = ("margin", "relative_margin", "limit", "alpha", "beta", "per_slice", "minimum_n", "stop_at")


class Contradiction(NamedTuple):
    """What is wrong, where, and what to write instead."""

    at: tuple[str | int, ...]
    """Keys from the stage down."""
    rule: str
    fix: str


def policy_contradictions(online: Online) -> Iterator[Contradiction]:
    """Everything that is wrong with an online policy, stage by stage."""
    every = online.look_every_hours
    if online.evidence_hours is not None and online.evidence_hours < every:
        text = f"evidence is too old after {online.evidence_hours:g} hours and looked at every {every:g}"
        yield Contradiction(("evidence_hours",), text, "let it be at least look_every_hours")
    for name, timing in online.sections.items():
        if timing.soak_hours > timing.maximum_hours:
            text = f"soaks {timing.soak_hours:g} hours and ends after {timing.maximum_hours:g}: it could only time out"
            yield Contradiction((name, "soak_hours"), text, "let maximum_hours be the longer one")
        if timing.maximum_hours < every:
            text = f"ends after {timing.maximum_hours:g} hours, before the first look at {every:g}"
            yield Contradiction((name, "maximum_hours"), text, "let it be at least look_every_hours")
    yield from _of_blocks(online)
    for name, stage in online.stages.items():
        key = str(STAGES[name].section)
        if stage.looks is not None and stage.maximum_hours / stage.looks < every:
            text = f"asks for {stage.looks} looks in {stage.maximum_hours:g} hours, and looks every {every:g}"
            most = int(stage.maximum_hours / every)
            yield Contradiction((key, "looks"), text, f"ask for at most {most}" if most > 1 else "leave it out")
        for contradiction in (*_stage_contradictions(name, stage), *_endless(online, name, stage)):
            yield contradiction._replace(at=(key, *contradiction.at))


def _of_blocks(online: Online) -> Iterator[Contradiction]:
    """A block that the policy names itself and that is too long for a stage which compares losses in its own time."""
    if online.block_hours is None or online.design_effect is not None:
        return
    needed = FIRST_LOOK * online.block_hours + online.label_maturity_hours
    for name, stage in online.stages.items():
        compares = any(rule.metric in LOSS_NAMES and not rule.per_slice for rule in stage.rules)
        if compares and not STAGES[name].whole_rollout and stage.maximum_hours < needed:
            text = f"is {online.block_hours:g}: {FIRST_LOOK} blocks and their labels take {needed:g} hours"
            ends = f"{name} ends after {stage.maximum_hours:g}"
            yield Contradiction(("block_hours",), f"{text}, {ends}", f"shorten it, or let {name} last")


def _stage_contradictions(name: str, stage: OnlineStage) -> Iterator[Contradiction]:
    """Everything that is wrong with the rules of one stage, in the order of the file."""
    earlier: set[tuple[str, str, bool]] = set()
    for index, rule in enumerate(stage.rules):
        metric = LOSS if rule.metric in LOSS_NAMES else rule.metric
        key = (metric, rule.role, rule.per_slice)
        if key in earlier:
            text = f"{rule.metric} is asked as {rule.role} twice in this stage"
            yield Contradiction(("rules", index, "metric"), text, "keep the stricter one")
        earlier.add(key)
        for contradiction in _of_rule(name, stage, rule):
            yield contradiction._replace(at=("rules", index, *contradiction.at))


def _endless(online: Online, name: str, section: OnlineStage) -> Iterator[Contradiction]:
    """Rules that compare with a stable side that answers nothing in this stage, and not enough in those before."""
    stage = STAGES[name]
    if not stage.has_traffic:
        for index, rule in enumerate(section.rules):
            if rule.role in COMPARING:
                text = f"compares with stable, which answers other requests than a {name}"
                yield Contradiction(("rules", index, "role"), text, "use limit, or ask it where both answer users")
        return
    if stage.mirrors or any(arm_in(STABLE_ROLE, traffic).weight for traffic in stage.steps(section)):
        return
    for index, rule in enumerate(section.rules):
        kind = KINDS.get(rule.metric)
        if kind is None or rule.role not in COMPARING:
            continue
        n = rule.minimum_n or section.minimum_n
        expected = _compared_before(online, name, rule.metric) if kind.pooled else 0
        if expected < (1 if rule.per_slice else n):
            text = f"compares with stable, which answers nothing in {name}"
            if kind.pooled:
                text += f"; {n} requests are needed, and the stages before may pass on {expected}: it might never end"
            fix = f"add holdback to {name}, the percent that stable still answers, or ask less here or more before"
            yield Contradiction(("rules", index, "metric"), text, fix)


def _compared_before(online: Online, name: str, metric: str) -> int:
    """Requests that both sides of the stages before must have answered to come to this one, by the policy."""
    strategy = strategy_of(online)
    stages = strategy.stages[: [stage.name for stage in strategy.stages].index(name)] if strategy else ()
    n = 0.0
    for section, traffic in ((section, step) for stage in stages for section, step in _steps(online, stage)):
        weight = arm_in(CANDIDATE_ROLE, traffic).weight
        if 0 < weight < 100:
            asked = [rule.minimum_n or section.minimum_n for rule in section.rules if rule.metric == metric]
            n += max([section.minimum_n * 100 / weight, *asked])
    return int(n)


def _steps(online: Online, stage: RolloutStage[Any]) -> Iterator[tuple[OnlineStage, Traffic]]:
    section = online.stages.get(stage.name)
    return ((section, traffic) for traffic in stage.steps(section)) if section else iter(())


def _of_rule(name: str, stage: OnlineStage, rule: OnlineRule) -> Iterator[Contradiction]:
    kind = KINDS.get(rule.metric)
    if kind is None:
        near = difflib.get_close_matches(rule.metric, KINDS, 1)
        known = f"use one of {', '.join(KINDS)}"
        yield Contradiction(("metric",), f"{rule.metric!r} is not known", f"did you mean {near[0]}?" if near else known)
        return
    if name not in kind.stages:
        text = f"{rule.metric} cannot be asked in {name}"
        yield Contradiction(("metric",), text, f"ask it in {' or '.join(kind.stages)}")
    if rule.role not in kind.roles:
        text = f"{rule.metric} cannot be {rule.role}"
        yield Contradiction(("role",), text, f"use {' or '.join(kind.roles)}")
        return
    yield from _of_direction(kind, rule)
    yield from _of_keys(kind, rule)
    yield from _of_bounds(kind, rule)
    yield from _of_looks(stage, kind, rule)
    if rule.maximum_hours is not None and rule.maximum_hours > stage.maximum_hours:
        text = f"waits {rule.maximum_hours:g} hours in a stage that ends after {stage.maximum_hours:g}"
        yield Contradiction(("maximum_hours",), text, "leave it out, or let it be less than the stage's")


def _of_direction(kind: RuleKind, rule: OnlineRule) -> Iterator[Contradiction]:
    if rule.direction not in (None, kind.direction):
        text = f"says that {rule.direction} {kind.metric} is better; {kind.direction} is"
        yield Contradiction(("direction",), text, f"write {kind.direction}, or leave it out")


def _of_keys(kind: RuleKind, rule: OnlineRule) -> Iterator[Contradiction]:
    """Keys that this metric does not take in this role, and the bound that it needs."""
    keys = kind.takes(rule.role)
    for key in _OPTIONAL_KEYS:
        value = getattr(rule, key)
        if value is not None and value is not False and key not in keys:
            others = f"it takes {', '.join(sorted(keys))}" if keys else "it takes no bound"
            text = f"{kind.metric} as {rule.role} takes no {key}{_why(kind, rule, key)}"
            yield Contradiction((key,), text, f"leave it out; {others}")
    bounds = [key for key in ("margin", "relative_margin", "limit") if key in keys]
    present = [key for key in bounds if getattr(rule, key) is not None]
    if bounds and not present:
        text = f"{kind.metric} as {rule.role} needs {' or '.join(bounds)}"
        yield Contradiction((), text, f"add one, in {kind.unit}" if bounds != ["relative_margin"] else "add it")
    if rule.per_slice and rule.stop_at is not None and kind.has_stop:
        text = "counts minutes in which the candidate failed, whatever the slice"
        yield Contradiction(("stop_at",), text, "let the rule on all requests have it")
    if len(present) > 1:
        yield Contradiction((present[1],), f"has both {present[0]} and {present[1]}", "keep one of them")


def _why(kind: RuleKind, rule: OnlineRule, key: str) -> str:
    if key == "relative_margin" and rule.role in COMPARING and kind.relative:
        return ": stable's value may be 0, and nothing can be shown to keep a multiple of 0"
    if key == "per_slice" and kind.sliced:
        return ": one slice that is better says nothing of the others"
    return ""


def _of_bounds(kind: RuleKind, rule: OnlineRule) -> Iterator[Contradiction]:
    """Bounds that no candidate keeps, or that none breaks."""
    if rule.limit is not None and kind.limits is not None:
        low, high = kind.limits
        inside = low < rule.limit < high if kind.open_limits else low <= rule.limit <= high
        if not inside:
            way = "between" if kind.open_limits else "from"
            to = "and" if kind.open_limits else "to"
            text = f"is {rule.limit:g}; {kind.metric} can keep and break only limits {way} {low:g} {to} {high:g}"
            yield Contradiction(("limit",), text, "write one of those")
    if rule.role == "guardrail" and rule.margin == 0:
        text = "is 0: an equal candidate can never be shown to be no worse at all"
        yield Contradiction(("margin",), text, "allow a margin, or ask for success")
    if rule.margin is not None and kind.widest is not None and rule.margin >= kind.widest:
        text = f"is {rule.margin:g}; no candidate is {kind.widest:g} {kind.unit} from stable"
        yield Contradiction(("margin",), text, f"write less than {kind.widest:g}")
    if rule.relative_margin is not None:
        yield from _of_relative(kind, rule, rule.relative_margin)


def _of_relative(kind: RuleKind, rule: OnlineRule, margin: float) -> Iterator[Contradiction]:
    if rule.role == "success" and margin >= 1:
        text = f"is {margin:g}: nothing is better by all of stable's value"
        yield Contradiction(("relative_margin",), text, "write less than 1")
    if rule.role != "deterioration" and margin <= kind.finest:
        text = f"is {margin:g}; {kind.metric} is counted in bins that are {kind.finest:.0%} wide, so it is never shown"
        yield Contradiction(("relative_margin",), text, f"write more than {kind.finest:.2f}, or use latency, the mean")


def _of_looks(stage: OnlineStage, kind: RuleKind, rule: OnlineRule) -> Iterator[Contradiction]:
    if stage.looks is not None and rule.per_slice:
        text = "cannot be asked in a stage of fixed looks: nobody knows beforehand how many slices will be large enough"
        yield Contradiction(("per_slice",), text, f"leave out looks, or ask {kind.metric} of all requests together")
