"""When a shadow will probably have shown that its candidate is no worse, by what the proposal says of earlier days."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from sluice.documents.event_time import iso, moment_of
from sluice.documents.loss_history import LossHistory
from sluice.documents.state import ReleaseState
from sluice.evidence.history import recorded_history
from sluice.gates.block_length import block_hours_of
from sluice.gates.loss_history import block_history
from sluice.gates.online_policy import Online
from sluice.gates.planning import BETA, blocks_needed
from sluice.stages.registry import STAGES
from sluice.stages.section import OnlineRule
from sluice.targets.registry import LOSS_NAMES


def expected_end(state: ReleaseState, online: Online, evaluation: Mapping[str, Any]) -> str | None:
    """
    The event time by which a candidate as good as stable keeps each margin of the loss with chance 1 − ``beta``.

    As ``sluice plan`` has it; ``None`` outside of a shadow, without such a rule, and without a history of this pair.

    Args:
        evaluation: as it was recorded with the proposal.
    """
    section = online.stages.get(state.stage)
    history = _history(evaluation, block_hours_of(online, state))
    if section is None or state.since is None or not STAGES[state.stage].mirrors or section.looks is not None:
        return None
    if history is None or history.stable != state.stable:
        return None
    blocks = [_blocks(history, rule, online) for rule in section.rules if _shows(rule)]
    if not blocks:
        return None
    hours = max(section.soak_hours, max(blocks) * block_hours_of(online, state) + online.label_maturity_hours)
    return iso(moment_of(state.since) + timedelta(hours=hours))


def _history(evaluation: Mapping[str, Any], hours: float) -> LossHistory | None:
    """A look names what is wrong with a record; this only leaves it out."""
    try:
        return recorded_history(evaluation, hours)
    except ValidationError:
        return None


def _shows(rule: OnlineRule) -> bool:
    return rule.metric in LOSS_NAMES and rule.role == "guardrail" and not rule.per_slice


def _blocks(history: LossHistory, rule: OnlineRule, online: Online) -> int:
    margin, alpha, beta = online.margin_to_show(rule.margin or 0.0), rule.alpha or online.alpha, rule.beta or BETA
    return blocks_needed(block_history(history), margin, alpha, beta)
