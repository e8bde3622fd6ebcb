"""Measuring the compression ladder: every variant on the same rows and the same resampled days."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sluice.arrays import Floats
from sluice.documents.evaluation import VariantMeasurement
from sluice.errors import BadArtifact
from sluice.evaluation.holdout import Holdout, read_holdout, read_scores, unusable
from sluice.evaluation.intervals import DayResamples, Performance, ScoredModel, measure
from sluice.evaluation.select import TEACHER
from sluice.targets.yardstick import Yardstick

_BINARY = Yardstick()


def measure_ladder(
    frame_dir: Path, ladder_dir: Path, seed: int, yardstick: Yardstick = _BINARY
) -> tuple[VariantMeasurement, ...]:
    """
    Quality of every variant in ``ladder_dir`` on split tune, beside the size and latency that the ladder recorded.

    A variant whose scores are no predictions has no metrics; it cannot be selected then.

    Raises:
        BadArtifact: ``ladder.json`` or ``scores.parquet`` is unreadable or incomplete.
    """
    target = yardstick.target
    holdout = read_holdout(frame_dir, "tune", target=target)
    scores = read_scores(ladder_dir / "scores.parquet", holdout)
    rungs = _read_ladder(ladder_dir / "ladder.json")
    if missing := [rung["name"] for rung in rungs if rung["name"] not in scores]:
        raise BadArtifact(str(ladder_dir / "scores.parquet"), f"has no column {missing[0]!r}", "build the ladder again")
    names = [rung["name"] for rung in rungs]
    usable = {name: scores[name] for name in names if not unusable(name, scores[name], target)}
    losses = (yardstick.losses(holdout.labels, values) for values in usable.values())
    resamples = DayResamples.draw(holdout.days, losses, seed)
    models = {name: _performance(name, values, holdout, resamples, yardstick) for name, values in usable.items()}
    teacher = models.get(TEACHER)
    return tuple(_measurement(rung, models.get(rung["name"]), teacher) for rung in rungs)


def _performance(
    name: str, predictions: Floats, holdout: Holdout, resamples: DayResamples, yardstick: Yardstick
) -> Performance:
    threshold = yardstick.target.threshold(holdout.labels, predictions)
    model = ScoredModel.of(name, predictions, threshold, yardstick)
    return measure(holdout.labels, model, resamples, yardstick=yardstick)


def _measurement(rung: dict[str, Any], model: Performance | None, teacher: Performance | None) -> VariantMeasurement:
    recorded = {key: rung[key] for key in VariantMeasurement.model_fields if key in rung}
    return VariantMeasurement(
        **recorded,
        metrics=model.estimates() if model else {},
        versus_teacher=model.minus(teacher) if model and teacher else {},
    )


def _read_ladder(path: Path) -> list[dict[str, Any]]:
    needed = set(VariantMeasurement.model_fields) - {"metrics", "versus_teacher", "format"}
    try:
        rungs = json.loads(path.read_bytes())
        complete = isinstance(rungs, list) and all(needed <= set(rung) for rung in rungs)
    except (OSError, ValueError, TypeError) as error:
        raise BadArtifact(str(path), f"cannot be read ({error})", "build the ladder again") from error
    if not complete:
        raise BadArtifact(str(path), f"is not a list of variants with {sorted(needed)}", "build the ladder again")
    return list(rungs)
