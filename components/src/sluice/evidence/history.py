"""The history of blocks that a candidate was proposed with, beside the evidence that is judged by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sluice.documents.evidence import Evidence
from sluice.documents.loss_history import LossHistory

_HISTORIES = TypeAdapter(tuple[LossHistory, ...])


def with_history(evidence: Evidence, evaluation: Mapping[str, Any]) -> Evidence:
    """
    The evidence with the history of blocks as long as its own.

    Args:
        evaluation: as it was recorded with the proposal; from before there were histories it has none.
    """
    try:
        histories = _HISTORIES.validate_python(evaluation.get("histories", ()))
    except ValidationError:
        return evidence.model_copy(update={"problems": (*evidence.problems, "the recorded history of blocks is none")})
    fitting = (history for history in histories if history.hours == evidence.block_hours)
    return evidence.model_copy(update={"history": next(fitting, None)})
