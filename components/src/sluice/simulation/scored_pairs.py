"""Pairs of predictions of any kind of target: what they are of, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
import polars as pl

from sluice.arrays import Floats
from sluice.errors import BadInput, SluiceError
from sluice.evaluation.pairs import LOSS_KEY, TARGET_KEY
from sluice.targets.kind import LabelCodes, TargetKind
from sluice.targets.predictions import predictions_in
from sluice.targets.registry import BINARY, target_of
from sluice.targets.yardstick import Yardstick
from sluice.tasks.task import Task

LABEL, STABLE, CANDIDATE = "label", "stable_score", "candidate_score"
_LARGEST = 1e12
"""Sums of squares of larger numbers say nothing exact."""
_TASK = "say by --task of which target they are, or write losses"


class Judgement(NamedTuple):
    """(n,) each: stable's loss, the candidate's minus it, and what is known of stable and the label alone."""

    stable: Floats
    difference: Floats
    covariates: Mapping[str, Floats]


def yardstick_of(path: Path, task: Task | None) -> Yardstick:
    """
    By what the pairs in a parquet file are judged: the task's, else what the file says itself, else yes and no.

    Raises:
        BadInput: the file is of another target than the task, or of a loss that only a task knows.
    """
    metadata = pl.read_parquet_metadata(path)
    try:
        target = target_of(orjson.loads(metadata[TARGET_KEY])) if TARGET_KEY in metadata else None
    except (orjson.JSONDecodeError, AttributeError, SluiceError) as error:
        raise BadInput(f"{path}: {TARGET_KEY}", f"is no target ({error})", "write the pairs again") from error
    if task is None:
        if own := metadata.get(LOSS_KEY):
            rule = f"are judged by {own!r}, a loss of their task's own"
            raise BadInput(str(path), rule, "name the task by --task")
        return Yardstick(target or BINARY)
    if target and target != task.target:
        rule = f"are of a {target.kind} target, and task {task.name!r} has another ({task.target.kind})"
        raise BadInput(str(path), rule, "name the task that they are of, or leave --task out")
    return task.yardstick


def judgement(frame: pl.DataFrame, path: Path, yardstick: Yardstick) -> Judgement:
    """
    What both models' answers cost.

    Args:
        frame: ``label`` as the target has it; ``stable_score``, ``candidate_score``: predictions, arrays where one has
            several numbers.

    Raises:
        BadInput: a label or a prediction is none of the target's.
    """
    target = yardstick.target
    labels = _labels(frame[LABEL], path, target)
    stable, candidate = (_predictions(frame[name], path, target) for name in (STABLE, CANDIDATE))
    losses = yardstick.losses(labels, stable)
    difference = yardstick.losses(labels, candidate) - losses
    if not max(np.abs(losses).max(), np.abs(difference).max()) <= _LARGEST:
        raise BadInput(str(path), f"has losses beyond {_LARGEST:g}", "give labels and scores in a larger unit")
    return Judgement(losses, difference, target.covariates(labels, stable))


def _labels(labels: pl.Series, path: Path, target: TargetKind) -> LabelCodes:
    numbers = labels.cast(pl.Int8) if labels.dtype == pl.Boolean else labels
    if fault := target.label_fault(numbers):
        raise BadInput(f"{path}: column {LABEL}", f"has {fault.rule}", _TASK)
    return target.codes(numbers)


def _predictions(scores: pl.Series, path: Path, target: TargetKind) -> Floats:
    where, width = f"{path}: column {scores.name}", len(target.columns)
    inner = scores.dtype.inner if isinstance(scores.dtype, pl.List | pl.Array) else scores.dtype
    if not inner.is_numeric():
        raise BadInput(where, f"is {scores.dtype}, not a number", "write numbers, or arrays of them")
    numbers = scores
    if isinstance(scores.dtype, pl.List):
        if not (scores.list.len() == width).all():
            raise BadInput(where, f"has lists of other lengths than {width}", _TASK)
        numbers = scores.cast(pl.Array(inner, width))
    predictions = predictions_in(numbers)
    if predictions.shape[1] != width:
        has = f"has {predictions.shape[1]} numbers a row"
        raise BadInput(where, f"{has}, a {target.kind} target {width} ({', '.join(target.columns)[:120]})", _TASK)
    if wrong := int((~target.are_predictions(predictions)).sum()):
        raise BadInput(where, f"has what are not {target.noun} in {wrong:,} rows", _TASK)
    return predictions
