"""How long a shadow needs for a policy's margin on a user's own days, and which margin a week reaches."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sluice.errors import BadInput
from sluice.gates.block_length import DAY_HOURS
from sluice.gates.blocks import FIRST_LOOK, shortest_length
from sluice.gates.loss_history import block_history, loss_history
from sluice.gates.planning import BETA, blocks_needed, reachable_margin
from sluice.gates.policy import read_policy
from sluice.simulation.replay import lengths_of
from sluice.simulation.replay_command import ReplayOptions, loss_rule, pairs_for, shadow_terms

_WEEK_HOURS = 168
_DAY_HOURS = 24


@dataclass(frozen=True)
class ShadowPlan:
    """For a candidate as good as stable, through with chance 1 − ``beta``."""

    pairs: int
    days: int
    requests_a_day: float
    """Labelled pairs a day."""
    block_hours: float
    """The shortest block that depends little on its neighbours; the policy's where there is none."""
    is_short_enough: bool
    """Whether there is one."""
    design_effect: float
    alpha: float
    beta: float
    loss: str
    """As the policy calls it."""
    margin: float
    """The policy's."""
    hours: float
    """From the beginning of the shadow to the look at which the margin is shown to be kept."""
    margin_in_a_week: float | None
    """``None`` where a week has too few blocks."""

    def policy_lines(self) -> str:
        """What to write into the policy."""
        days = math.ceil(2 * self.hours / _DAY_HOURS)
        return (
            f"online:\n  block_hours: {self.block_hours:g}\n  shadow:\n"
            f"    maximum_hours: {days * _DAY_HOURS}   # twice what it needs\n    rules:\n"
            f"      - {{metric: {self.loss}, role: guardrail, margin: {self.margin:g}}}"
        )

    def document(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"policy_lines": self.policy_lines()}


def plan_shadow(policy_path: Path, pairs_path: Path, part: str | None = None, task: str | None = None) -> ShadowPlan:
    """
    Plan the shadow of a policy on pairs.

    Args:
        part: ``COLUMN=TEXT`` plans for one slice.
        task: whose target the pairs are of, where they do not say it.

    Raises:
        BadInput: policy or pairs cannot be read or do not fit, or the days are too few.
    """
    policy, _ = read_policy(policy_path)
    terms = shadow_terms(policy, ReplayOptions(0, 0, None, None, None, part, False))
    pairs = pairs_for(policy, pairs_path, part, task)
    lengths = lengths_of(pairs)
    shortest = shortest_length(lengths)
    hours = shortest or policy.online.block_hours or DAY_HOURS
    variance = float(pairs.difference.var())
    document = loss_history(lengths[hours], hours, variance, None) if hours in lengths and variance > 0 else None
    if document is None:
        rule = f"says nothing of blocks of {hours:g} h: {pairs.days} days, variance {variance:g}"
        raise BadInput(str(pairs_path), rule, "give more days of two unlike models")
    history = block_history(document)
    needed = blocks_needed(history, policy.online.margin_to_show(terms.margin), terms.alpha, BETA)
    in_a_week = int((_WEEK_HOURS - terms.maturity_hours) // hours)
    return ShadowPlan(
        pairs=pairs.day.size,
        days=pairs.days,
        requests_a_day=pairs.day.size / pairs.days,
        block_hours=hours,
        is_short_enough=shortest is not None,
        design_effect=document.design_effect,
        alpha=terms.alpha,
        beta=BETA,
        loss=loss_rule(policy)[1].metric,
        margin=terms.margin,
        hours=needed * hours + terms.maturity_hours,
        margin_in_a_week=reachable_margin(history, in_a_week, terms.alpha, BETA) / (1 - policy.online.reserve)
        if in_a_week >= FIRST_LOOK
        else None,
    )


def describe(plan: ShadowPlan) -> list[str]:
    """For people."""
    week, shown = plan.margin_in_a_week, f"in {1 - plan.beta:.0%} of rollouts an equal candidate has shown it"
    every = f"{plan.pairs:,} pairs of {plan.days} days, {plan.requests_a_day:,.0f} a day"
    lines = [
        f"{every}, in blocks of {plan.block_hours:g} h",
        f"  {plan.design_effect:.3g} requests of a block tell as much as one that is independent of all others",
        f"  margin {plan.margin:g}: {shown} after {plan.hours / _DAY_HOURS:.1f} days",
    ]
    if week is not None:
        lines.append(f"  in a week: a margin of {week:.3g}")
    if not plan.is_short_enough:
        lines.append("  no length that was tried leaves neighbouring blocks independent: the policy's was taken")
    return [*lines, "", plan.policy_lines()]
