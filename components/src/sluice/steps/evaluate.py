"""Evaluate the selected variant, and put every document that the verdict rests on beside the evaluation."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from sluice.content import write_json
from sluice.documents.evaluation import Evaluation
from sluice.evaluation.evaluate import evaluate as evaluate_variant
from sluice.models.store import read_bundle
from sluice.steps.select import SELECTION, VARIANTS, selected
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import load_task

EVALUATION = "evaluation.json"
INPUTS = "inputs.json"
DOCUMENTS = {
    "span.json": "span",
    "validation.json": "report",
    "frame.json": "frame",
    "history.json": "teacher",
    VARIANTS: "selection",
    SELECTION: "selection",
}
"""Which step wrote which document; an evaluation's directory holds a copy of each."""


def evaluate(
    task: str, recipe: Recipe, production: str, bundles: str, inputs: Mapping[str, Path], out: Path
) -> Evaluation:
    """
    Judge the variant in ``inputs["selection"]`` on the frame's untouched test split.

    Args:
        task: the task's name.
        recipe: the candidate's recipe; its seed draws the bootstrap.
        production: digest of the bundle in production, or empty.
        bundles: the bundle store, a folder or URL; read only where there is a production.
        inputs: directories of the earlier stages: span, report, frame, teacher, ladder, selection.
        out: receives ``evaluation.json``, ``DOCUMENTS`` and ``inputs.json``, which says where the directories lay on
            the machine of this stage.
    """
    stable = read_bundle(bundles, production, os.environ) if production else None
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
    for name, step in DOCUMENTS.items():
        shutil.copyfile(inputs[step] / name, out / name)
    write_json(out / INPUTS, {name: str(path) for name, path in inputs.items()})
    write_json(out / EVALUATION, result.model_dump(mode="json"))
    return result


def read_inputs(evaluation: Path) -> dict[str, Path]:
    """Where the directories of the earlier stages lay, for who is on the same machine."""
    return {name: Path(path) for name, path in json.loads((evaluation / INPUTS).read_bytes()).items()}
