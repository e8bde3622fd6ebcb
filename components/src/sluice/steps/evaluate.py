"""Evaluate the selected variant, and put every document that the verdict rests on beside the evaluation."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from sluice.content import write_json
from sluice.documents.evaluation import ConfusionTable, Evaluation
from sluice.evaluation.evaluate import evaluate as evaluate_variant
from sluice.models.store import read_bundle
from sluice.steps.select import SELECTION, VARIANTS, selected
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import load_task

EVALUATION = "evaluation.json"
SPAN, VALIDATION = "span.json", "validation.json"
MANIFEST, CHOSEN = "manifest.json", "model"
"""What reads a request, and the folder of what serves: an evaluation has those of the variant that it is about."""
INPUTS = "inputs.json"
PAIRS = "pairs.parquet"
"""What candidate and production said of each row of the holdout; there where both can be measured."""
DOCUMENTS = {
    SPAN: "frame",
    VALIDATION: "frame",
    "frame.json": "frame",
    "history.json": "teacher",
    VARIANTS: "selection",
    SELECTION: "selection",
}
"""In which step's directory each document lies; an evaluation's holds a copy of each."""


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
        inputs: directories of the earlier stages: frame, teacher, ladder, selection.
        out: receives ``evaluation.json``, ``pairs.parquet``, ``DOCUMENTS``, what serves the variant, and
            ``inputs.json``, which says where the directories lay on the machine of this stage.
    """
    out.mkdir(parents=True, exist_ok=True)
    stable = read_bundle(bundles, production, os.environ) if production else None
    result = evaluate_variant(
        load_task(task),
        inputs["frame"],
        inputs["teacher"],
        inputs["ladder"],
        selected(inputs["selection"]),
        production=stable,
        seed=recipe.seed,
        pairs=out / PAIRS,
    )
    for name, step in DOCUMENTS.items():
        shutil.copyfile(inputs[step] / name, out / name)
    shutil.copyfile(inputs["teacher"] / MANIFEST, out / MANIFEST)
    shutil.copytree(inputs["ladder"] / selected(inputs["selection"]), out / CHOSEN, dirs_exist_ok=True)
    before = json.loads((inputs["frame"] / INPUTS).read_bytes())
    write_json(out / INPUTS, {**before, **{name: str(path) for name, path in inputs.items()}})
    write_json(out / EVALUATION, result.model_dump(mode="json"))
    return result


def confusion_table(evaluation: Evaluation) -> tuple[list[str], list[list[int]]] | None:
    """Names of the classes, and rows by label, each by decision; ``None`` where the target has no classes."""
    if evaluation.confusion:
        return ["negative", "positive"], evaluation.confusion.rows
    tables = (picture for picture in evaluation.pictures if isinstance(picture, ConfusionTable))
    return next(((list(table.classes), [list(row) for row in table.rows]) for table in tables), None)


def pass_on(span: Path, validation: Path, frame: Path) -> None:
    """Lay the documents of a frame's origin beside it, so that who has the frame needs neither directory."""
    shutil.copyfile(span / SPAN, frame / SPAN)
    shutil.copyfile(validation / VALIDATION, frame / VALIDATION)
    write_json(frame / INPUTS, {"span": str(span), "validation": str(validation)})


def read_inputs(evaluation: Path) -> dict[str, Path]:
    """Where the directories of the earlier stages lay, for who is on the same machine."""
    return {name: Path(path) for name, path in json.loads((evaluation / INPUTS).read_bytes()).items()}
