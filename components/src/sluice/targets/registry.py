"""Every kind of target. A new one is a file here and a line in ``TARGETS``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from sluice.documents.evaluation import Evaluation
from sluice.documents.model import first_violation
from sluice.errors import BadInput
from sluice.targets import binary
from sluice.targets.kind import TargetKind
from sluice.targets.metric import Metric, MetricList

TARGETS: Mapping[str, type[TargetKind]] = {
    "binary": binary.Binary,
}
BINARY = binary.Binary()


def target_of(document: Mapping[str, Any]) -> TargetKind:
    """
    The target that a document describes.

    Raises:
        BadInput: no such kind, or one that is described otherwise.
    """
    name = str(document.get("kind"))
    if name not in TARGETS:
        raise BadInput(f"target {name!r}", "is no kind of target", f"choose from {', '.join(TARGETS)}")
    try:
        return TARGETS[name].model_validate(document)
    except ValidationError as error:
        key, rule, value = first_violation(error)
        raise BadInput(f"target {name}: {key or 'the document'}", f"{rule}, got {value!r:.80}", "mend it") from error


def metrics_of(evaluation: Evaluation) -> MetricList:
    """What an evaluation can have measured."""
    target = target_of(evaluation.target)
    own = (Metric(**metric.model_dump(), low=None) for metric in evaluation.task_metrics)
    return MetricList((*target.metrics, *own), evaluation.loss or target.loss, target.ranking)
