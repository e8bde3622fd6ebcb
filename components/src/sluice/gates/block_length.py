"""How long a block of event time is: as the policy names it, else as the history of the pair has it, else a day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from sluice.documents.loss_history import LossHistory
from sluice.documents.state import ReleaseState
from sluice.gates.blocks import MINIMUM_HISTORY
from sluice.gates.online_policy import Online
from sluice.targets.registry import LOSS_NAMES

DAY_HOURS = 24.0
"""A block's length where nobody knows better: service and users do the same the next day."""
BY_BLOCK = frozenset({*LOSS_NAMES, "score_shift", "agreement"})
"""Metrics that are judged by block of event time."""
HISTORIES = TypeAdapter(tuple[LossHistory, ...])


class BlockLength(NamedTuple):
    """A length, and why it is that."""

    hours: float
    why: str


def block_hours_of(online: Online, state: ReleaseState) -> float:
    """Of a rollout that is going on: what the policy names, else what was chosen when it began."""
    return online.block_hours or state.block_hours or DAY_HOURS


def chosen_length(online: Online, evaluation: Mapping[str, Any], stable: str | None) -> BlockLength | None:
    """
    The length for a rollout that begins; ``None`` where the policy names one, or nothing is judged by block.

    Args:
        evaluation: as it is recorded with the proposal; what is no history counts for none, and each look names it.
        stable: digest of the model that the candidate will be compared with.
    """
    rules = [rule for stage in online.stages.values() for rule in stage.rules]
    if online.block_hours is not None or stable is None or not any(rule.metric in BY_BLOCK for rule in rules):
        return None
    histories = [one for one in _histories(evaluation) if one.stable == stable]
    if histories:
        return length_of_history(histories, evaluation.get("block_hours"))
    if online.design_effect is not None:
        return None
    wait = f"state a design_effect, or wait until {MINIMUM_HISTORY} are in"
    return BlockLength(DAY_HOURS, f"a day, since no history of this pair says how long one must be: {wait}")


def length_of_history(histories: Sequence[LossHistory], shortest: object) -> BlockLength:
    """
    The shortest that will do; where none does a day, or the longest that there is.

    Args:
        histories: of one pair, one a length; at least one.
        shortest: ``block_hours`` of the evaluation.
    """
    lengths_tried = sorted(history.hours for history in histories)
    span = f"{lengths_tried[0]:g} to {lengths_tried[-1]:g} h" if len(lengths_tried) > 1 else f"{lengths_tried[0]:g} h"
    if isinstance(shortest, int | float) and shortest in lengths_tried:
        return BlockLength(
            float(shortest), f"the shortest of {span} whose residuals depend little on their neighbours in history"
        )
    hours = DAY_HOURS if DAY_HOURS in lengths_tried else lengths_tried[-1]
    return BlockLength(hours, f"none of {span} leaves neighbours independent in history, so their variance is long-run")


def _histories(evaluation: Mapping[str, Any]) -> tuple[LossHistory, ...]:
    try:
        return HISTORIES.validate_python(evaluation.get("histories", ()))
    except ValidationError:
        return ()
