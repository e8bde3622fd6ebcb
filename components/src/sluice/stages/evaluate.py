"""Evaluate the selected variant, and remember where everything that it rests on lies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from sluice.content import write_json
from sluice.evaluation.document import Evaluation
from sluice.evaluation.evaluate import evaluate as evaluate_variant
from sluice.models.bundle import load_bundle
from sluice.models.recipe import Recipe
from sluice.stages.select import selected
from sluice.tasks.task import load_task
from sluice.workspace import bundle_directory

EVALUATION = "evaluation.json"
INPUTS = "inputs.json"


def evaluate(
    task: str, recipe: Recipe, production: str, bundles: Path, inputs: Mapping[str, Path], out: Path
) -> Evaluation:
    """
    Judge the variant in ``inputs["selection"]`` on the frame's untouched test split.

    Args:
        task: the task's name.
        recipe: the candidate's recipe; its seed draws the bootstrap.
        production: digest of the bundle in production, or empty.
        bundles: the bundle store.
        inputs: directories of the earlier stages: span, report, frame, teacher, ladder, selection.
        out: receives ``evaluation.json`` and ``inputs.json``.
    """
    stable = load_bundle(bundle_directory(bundles, production), production) if production else None
    result = evaluate_variant(
        load_task(task),
        inputs["frame"],
        inputs["teacher"],
        inputs["ladder"],
        selected(inputs["selection"]),
        production=stable,
        seed=recipe.seed,
    )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / EVALUATION, result.model_dump(mode="json"))
    write_json(out / INPUTS, {name: str(path) for name, path in inputs.items()})
    return result


def read_inputs(evaluation: Path) -> dict[str, Path]:
    """The directories that an evaluation rests on."""
    return {name: Path(path) for name, path in json.loads((evaluation / INPUTS).read_bytes()).items()}
