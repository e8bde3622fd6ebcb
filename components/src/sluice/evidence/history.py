"""The history of blocks that a candidate was proposed with, beside the evidence that is judged by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from sluice.documents.evidence import Evidence
from sluice.documents.loss_history import LossHistory
from sluice.gates.block_length import HISTORIES


def with_history(evidence: Evidence, evaluation: Mapping[str, Any]) -> Evidence:
    """
    The evidence with the history of blocks as long as its own.

    Args:
        evaluation: as it was recorded with the proposal; from before there were histories it has none.
    """
    try:
        history = recorded_history(evaluation, evidence.block_hours)
    except ValidationError:
        return evidence.model_copy(update={"problems": (*evidence.problems, "the recorded history of blocks is none")})
    return evidence.model_copy(update={"history": history})


def recorded_history(evaluation: Mapping[str, Any], hours: float | None) -> LossHistory | None:
    """
    The history of blocks of this length; ``None`` where there is none.

    Raises:
        ValidationError: what is recorded is no history.
    """
    histories = HISTORIES.validate_python(evaluation.get("histories", ()))
    return next((history for history in histories if history.hours == hours), None)
