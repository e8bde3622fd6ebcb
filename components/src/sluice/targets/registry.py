"""Every kind of target. A new one is a file here and a line in ``TARGETS``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from sluice.documents.evaluation import Evaluation, TaskMetric
from sluice.documents.model import first_violation
from sluice.errors import BadInput
from sluice.targets import binary, counts, multi_class, multi_label, regression
from sluice.targets.kind import TargetKind
from sluice.targets.metric import LOSS, OWN, Metric, MetricList

_WITHIN = {"<n>": "[1-9][0-9]*", "<name>": ".+"}


def _varies(form: str) -> bool:
    return "<" in form


def _pattern(form: str) -> str:
    parts = re.split("(<n>|<name>)", form)
    return "".join(_WITHIN.get(part, re.escape(part)) for part in parts)


TARGETS: Mapping[str, type[TargetKind]] = {
    "binary": binary.Binary,
    "multi-class": multi_class.MultiClass,
    "multi-label": multi_label.MultiLabel,
    "regression": regression.Regression,
    "counts": counts.Counts,
}
BINARY = binary.Binary()
LOSS_NAMES = (LOSS, *dict.fromkeys(name for kind in TARGETS.values() for name in kind.loss_names))
"""What rules about a target's loss may call it: ``loss``, or by the name that some kind has for its own."""
_SHARES = tuple(dict.fromkeys(form for kind in TARGETS.values() for form in kind.shares))
_NUMBERS = tuple(dict.fromkeys(form for kind in TARGETS.values() for form in kind.numbers))
_OWN = re.escape(OWN) + "[a-z][a-z0-9_]*"
METRIC_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"enum": [LOSS, *(form for form in (*_SHARES, *_NUMBERS) if "<" not in form)]},
        {"pattern": "^(" + "|".join([*(map(_pattern, filter(_varies, (*_SHARES, *_NUMBERS)))), _OWN]) + ")$"},
    ],
    "type": "string",
}
"""Names that some target's metric can have, for JSON Schema."""


def known_metric(name: str) -> str:
    """
    The name, if a metric of some target can have it.

    Raises:
        ValueError: none can.
    """
    forms = (*_SHARES, *_NUMBERS)
    if name == LOSS or any(re.fullmatch(pattern, name) for pattern in (*map(_pattern, forms), _OWN)):
        return name
    raise ValueError(f"no target has a metric {name!r:.60}; choose from {LOSS}, {', '.join(forms)}, {OWN}<name>")


def is_share(name: str) -> bool:
    """Whether it is a metric that lies between 0 and 1."""
    return any(re.fullmatch(_pattern(form), name) for form in _SHARES)


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


def metric_list(target: TargetKind, own: Iterable[TaskMetric] = (), loss: str | None = None) -> MetricList:
    """The metrics of a target, then a task's own; ``loss`` names the one of them that is the loss instead."""
    metrics = (Metric(**metric.model_dump(), low=None) for metric in own)
    return MetricList((*target.metrics, *metrics), loss or target.loss_metric, target.ranking, target.can_agree)


def metrics_of(evaluation: Evaluation) -> MetricList:
    """What an evaluation can have measured."""
    return metric_list(target_of(evaluation.target), evaluation.task_metrics, evaluation.loss)
