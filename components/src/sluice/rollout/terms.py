"""What the policy asks of a rollout's stage beside numbers: how long at least, how long at most, and whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sluice.documents.event_time import iso, moment_of
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Reason, Verdict
from sluice.gates.freeze import Freeze, frozen_hours, standing
from sluice.gates.policy import GatePolicy
from sluice.stages.registry import STAGES, strategy_at
from sluice.stages.section import OnlineRule

_MOST_FREEZES = 100
"""One after the other, each within what the one before added to a stage; more are as good as no end."""


@dataclass(frozen=True)
class Terms:
    """
    One stage's.

    Attributes:
        soak_hours: event hours that it lasts at least.
        maximum_hours: event hours after which it ends without an answer.
        approval: whether a person must agree to the next step.
        rules: those that may have a wait of their own.
        freezes: days on which the clock of ``maximum_hours`` stands still.
    """

    soak_hours: float
    maximum_hours: float
    approval: bool
    rules: tuple[OnlineRule, ...] = ()
    freezes: tuple[Freeze, ...] = ()


def terms_of(state: ReleaseState, policy: GatePolicy) -> Terms | None:
    """The terms of the state's stage; ``None`` where the policy has no such stage, or none is going on."""
    stage = STAGES[state.stage]
    section = stage.section_of(policy.online)
    if section is None or strategy_at(stage, policy.online) is None:
        return None
    judging = policy.online.stages.get(stage.name)
    rules = judging.rules if judging else ()
    soak_hours, approval = (section.soak_hours, section.approval) if stage.has_pause else (0, False)
    return Terms(soak_hours, section.maximum_hours, approval, rules, policy.freeze)


def deadline_of(state: ReleaseState, policy: GatePolicy) -> str | None:
    """The event time at which the stage times out; ``None`` where it never does: no rollout, or beyond the calendar."""
    terms = terms_of(state, policy)
    end = None if terms is None else _after(state, terms.maximum_hours)
    for _ in range(_MOST_FREEZES):
        if terms is None or end is None:
            return None
        frozen = frozen_hours(terms.freezes, moment_of(state.since or ""), moment_of(end))
        later = _after(state, terms.maximum_hours + frozen)
        if later == end:
            return end
        end = later
    return None


def soaked_at(state: ReleaseState, policy: GatePolicy) -> str | None:
    """The event time until which the stage lasts at least; ``None`` where the policy asks for no such time."""
    terms = terms_of(state, policy)
    return _after(state, terms.soak_hours) if terms and terms.soak_hours else None


def frozen(policy: GatePolicy, now: str) -> Reason | None:
    """Why nothing goes forward at ``now``; ``None`` where the policy freezes nothing then."""
    freeze = standing(policy.freeze, moment_of(now))
    if freeze is None:
        return None
    text = f"nothing goes forward until {iso(freeze[1])} ({freeze[0].reason}); what fails is rolled back all the same"
    return Reason.plain("freeze", Verdict.INCONCLUSIVE, text)


def soak(state: ReleaseState, terms: Terms, now: str) -> Reason | None:
    """Whether the stage has lasted its ``soak_hours``; ``None`` where the policy asks for none."""
    if not terms.soak_hours:
        return None
    hours = hours_spent(state, now)
    over = hours >= terms.soak_hours
    return Reason(
        rule="soak",
        verdict=Verdict.PASS if over else Verdict.INCONCLUSIVE,
        observed=hours,
        bound=terms.soak_hours,
        n=0,
        text=f"{hours:g} hours in this stage, {terms.soak_hours:g} are asked for",
    )


def overdue(state: ReleaseState, terms: Terms, reasons: Sequence[Reason], now: str) -> Reason | None:
    """
    Why the stage ends without an answer at ``now``: its time is over, or that of a rule that still cannot tell.

    A stage that waits for a person has its answer, so there only its own time counts.
    """
    hours = hours_counted(state, terms, now)
    if hours >= terms.maximum_hours:
        what = "an approval" if state.paused else "an answer"
        text = f"timed out: {hours:g} of at most {terms.maximum_hours:g} hours without {what}"
        return Reason.plain("maximum_hours", Verdict.INCONCLUSIVE, text)
    limits = [rule for rule in terms.rules if rule.maximum_hours is not None and hours >= rule.maximum_hours]
    for reason in () if state.paused else _open(reasons):
        if any(_asks(rule, reason) for rule in limits):
            text = f"timed out: {reason.rule} still cannot tell after {hours:g} hours, longer than its rule may wait"
            return Reason.plain(f"maximum_hours[{reason.rule}]", Verdict.INCONCLUSIVE, text)
    return None


def hours_spent(state: ReleaseState, now: str) -> float:
    """Event hours since the stage or step began; below 0 for a ``now`` before that."""
    return (moment_of(now) - moment_of(state.since or now)).total_seconds() / 3600


def hours_counted(state: ReleaseState, terms: Terms, now: str) -> float:
    """As ``hours_spent``, without those that were frozen: what ``maximum_hours`` is held against."""
    since, end = moment_of(state.since or now), moment_of(now)
    return hours_spent(state, now) - frozen_hours(terms.freezes, since, end)


def _open(reasons: Sequence[Reason]) -> list[Reason]:
    """Those that cannot tell yet, and are still asked: success in one rule answers for all rules of success."""
    better = any(reason.role == "success" and reason.verdict is Verdict.PASS for reason in reasons)
    unsure = [reason for reason in reasons if reason.verdict is Verdict.INCONCLUSIVE]
    return [reason for reason in unsure if not (better and reason.role == "success")]


def _asks(rule: OnlineRule, reason: Reason) -> bool:
    name, _, about = reason.rule.partition("[")
    sliced = "=" in about or about == "slices]"  # in brackets there may be a feature too
    return name == rule.metric and reason.role == rule.role and sliced == rule.per_slice


def _after(state: ReleaseState, hours: float) -> str | None:
    try:
        return iso(moment_of(state.since or "") + timedelta(hours=hours))
    except OverflowError:
        return None
