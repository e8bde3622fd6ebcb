"""Put everything that serving needs into one content-addressed bundle."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import TypeAdapter

from sluice.content import canonical_json, digest_of_value
from sluice.documents.evaluation import Evaluation, VariantMeasurement
from sluice.errors import BadArtifact
from sluice.evaluation.card import card_html, card_json
from sluice.features.manifest import FeatureManifest
from sluice.models.bundle import Bundle, BundleManifest, Provenance, feature_profiles, load_bundle, write_bundle
from sluice.models.encoder import Encoder
from sluice.models.runtime import FORMATS, FormatName
from sluice.steps.evaluate import CHOSEN, EVALUATION, MANIFEST
from sluice.steps.gate import digest_in
from sluice.steps.select import VARIANTS, selected
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import Task, load_task
from sluice.training.families.family import ENCODER
from sluice.training.frame import prepared_frame
from sluice.workspace import bundle_directory

_MEASUREMENTS = TypeAdapter(tuple[VariantMeasurement, ...])


def package(task: str, recipe: str, code: str, inputs: tuple[Path, Path], out: Path) -> Bundle:
    """
    Write the selected variant's bundle to ``out/sha256-<hex>``.

    Args:
        task: the task's name.
        recipe: the candidate's recipe, as JSON.
        code: digest of the code, for the provenance; of the run nothing goes into a bundle.
        inputs: directories of the frame and of its evaluation.
    """
    made_from = Recipe.model_validate_json(recipe)
    frame, evaluation = inputs
    model = {path.name: path.read_bytes() for path in sorted((evaluation / CHOSEN).iterdir())}
    encoder = Encoder.model_validate_json(model.pop(ENCODER))
    manifest = _manifest(load_task(task), made_from, code, (frame, evaluation), (format_of(model), encoder))
    card = card_of(load_task(task), made_from, evaluation, manifest.provenance)
    files = {
        **model,
        "card.json": canonical_json(card),
        "card.html": card_html(card).encode(),
    }
    digest = write_bundle(out, manifest, files)
    return load_bundle(bundle_directory(out, digest), digest)


def card_of(task: Task, recipe: Recipe, evaluation: Path, provenance: Provenance) -> dict[str, Any]:
    """The model card, from the documents in an evaluation's directory."""
    result = Evaluation.model_validate_json((evaluation / EVALUATION).read_bytes())
    measurements = _MEASUREMENTS.validate_json((evaluation / VARIANTS).read_bytes())
    return card_json(task, recipe, result, measurements, provenance.model_dump(mode="json"))


def provenance_of(task: Task, recipe: Recipe, code: str, evaluation: Path) -> Provenance:
    """Where a candidate comes from: the code, and the digests in the evaluation's documents."""
    return Provenance(
        data=digest_in(evaluation / "span.json"),
        frame=digest_in(evaluation / "frame.json"),
        recipe=digest_of_value(recipe.model_dump(mode="json")),
        code=code,
        tables=json.loads((evaluation / "frame.json").read_bytes()).get("tables"),
        window=(task.splits.train.isoformat(), task.splits.tune.isoformat()),
    )


def format_of(files: Iterable[str]) -> FormatName:
    """
    The format whose model is among files of these names.

    Raises:
        BadArtifact: there is none.
    """
    for name, each in FORMATS.items():
        if each.file in files:
            return name
    known = ", ".join(each.file for each in FORMATS.values())
    raise BadArtifact(f"evaluation: folder {CHOSEN!r}", f"has none of {known}", "evaluate the candidate again")


def _manifest(
    task: Task, recipe: Recipe, code: str, inputs: tuple[Path, Path], model: tuple[FormatName, Encoder]
) -> BundleManifest:
    frame, evaluation = inputs
    result = Evaluation.model_validate_json((evaluation / EVALUATION).read_bytes())
    train = prepared_frame(frame, recipe, task.target).filter(pl.col("split") == "train")
    features = FeatureManifest.model_validate_json((evaluation / MANIFEST).read_bytes())
    return BundleManifest(
        task=task.name,
        variant=selected(evaluation),
        recipe=recipe,
        features=features,
        format=model[0],
        encoder=model[1],
        target=task.target.model_dump(mode="json"),
        threshold=result.threshold,
        provenance=provenance_of(task, recipe, code, evaluation),
        profiles=feature_profiles(train, features),
    )
