"""The evaluation of a bundle that is there already, on a frame: it reads the rows as it will read requests."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from sluice.documents.evaluation import Evaluation
from sluice.evaluation.evaluate import evaluate
from sluice.evaluation.holdout import read_holdout
from sluice.targets.predictions import prediction_column
from sluice.tasks.task import Task
from sluice.training.baselines import baseline_scores
from sluice.training.frame import prepared_frame

if TYPE_CHECKING:
    from sluice.models.bundle import Bundle


def evaluate_bundle(
    task: Task, frame_dir: Path, bundle: Bundle, production: Bundle | None, *, own_threshold: bool = True
) -> Evaluation:
    """
    Judge a bundle on split test, beside baselines that learn from split train and beside production.

    It has no teacher here, keeps the threshold that it serves with unless ``own_threshold`` is off (then one is chosen
    on split tune), and is asked about the raw frame.

    Raises:
        BadInput, BadArtifact: the frame cannot be read, has an empty split, or lacks a feature.
    """
    manifest = bundle.manifest
    prepared = prepared_frame(frame_dir, manifest.recipe, task.target)
    names = manifest.features.names
    parts = [read_holdout(frame_dir, split, names, task.target).frame for split in ("tune", "test")]
    scores = [part.select("example_id", "split", _scores(bundle, part)) for part in parts]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pl.concat(scores).write_parquet(folder / "scores.parquet")
        seed, threshold = manifest.recipe.seed, manifest.threshold if own_threshold else None
        baselines = baseline_scores(prepared, manifest.features, task.baseline_keys, seed, task.target)
        baselines.write_parquet(folder / "baselines.parquet")
        return evaluate(task, frame_dir, folder, folder, manifest.variant, production, seed=seed, threshold=threshold)


def _scores(bundle: Bundle, rows: pl.DataFrame) -> pl.Series:
    predictions = bundle.predict(rows.select(bundle.manifest.features.names))
    return prediction_column(bundle.manifest.variant, predictions.reshape(rows.height, -1))
