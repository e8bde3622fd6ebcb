"""Train the teacher of a recipe, by its family, and the baselines beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sluice.content import whole_directory, write_json
from sluice.targets.kind import TargetKind
from sluice.targets.registry import BINARY
from sluice.tasks.recipe import Recipe
from sluice.training.baselines import baseline_scores, check_keys
from sluice.training.curve import LinePrinter, print_line
from sluice.training.families.family import ENCODER
from sluice.training.families.registry import family_of
from sluice.training.frame import encoded_splits, prepared_frame, reduced_manifest
from sluice.training.objective import objective_of
from sluice.training.setup import ALONE, TrainingRecord, TrainingSetup

__all__ = ["TrainingRecord", "TrainingSetup", "train_teacher"]


def train_teacher(
    frame_dir: Path,
    recipe: Recipe,
    out: Path,
    baseline_keys: Sequence[str] = (),
    progress: LinePrinter | None = None,
    setup: TrainingSetup = ALONE,
    target: TargetKind = BINARY,
) -> TrainingRecord:
    """
    Train the recipe's teacher and the baselines.

    Args:
        frame_dir: holds ``frame.parquet`` and ``manifest.json``.
        recipe: what to train.
        out: gets encoder.json, manifest.json, history.json, baselines.parquet, spec.json and the model in its family's
            own form; of several workers the chief writes it, the others write nothing.
        baseline_keys: columns whose combinations give the rate baseline.
        progress: called with one line an epoch; by default the line goes to standard output.
        setup: devices and checkpoints.
        target: what the labels are.

    Raises:
        BadInput: the recipe does not fit the frame or its family, the frame cannot be trained on, or the setup does
            not fit.
    """
    family = family_of(recipe)
    family.check(recipe, setup)
    manifest = reduced_manifest(frame_dir, recipe)
    frame = prepared_frame(frame_dir, recipe, target)
    writes = setup.chief
    check_keys(frame, baseline_keys)
    encoder = family.fit_encoder(frame.filter(split="train"), manifest)
    splits = encoded_splits(frame, encoder, target)
    objective = objective_of(target, splits["train"].y)
    if not writes:
        return family.train(splits, encoder, recipe, objective, _unsaid, setup, None)
    with whole_directory(out) as directory:
        record = family.train(splits, encoder, recipe, objective, progress or print_line, setup, directory)
        baselines = baseline_scores(frame, manifest, baseline_keys, recipe.seed, target)
        baselines.write_parquet(directory / "baselines.parquet")
        write_json(directory / ENCODER, encoder.model_dump(mode="json"))
        write_json(directory / "manifest.json", manifest.model_dump(mode="json"))
        write_json(directory / "history.json", record.model_dump(mode="json"))
    if setup.store:
        setup.store.forget()
    return record


def _unsaid(_line: str) -> None:
    """The chief says it."""
