"""Put everything that serving needs into one content-addressed bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import TypeAdapter

from sluice.content import canonical_json, digest_of_value
from sluice.data.divergence import FeatureProfile, profile_of
from sluice.evaluation.card import card_html, card_json
from sluice.evaluation.document import Evaluation, VariantMeasurement
from sluice.features.manifest import FeatureManifest
from sluice.models.bundle import MODEL, Bundle, BundleManifest, Provenance, load_bundle, write_bundle
from sluice.models.encoder import Encoder
from sluice.models.recipe import Recipe
from sluice.stages.evaluate import EVALUATION, read_inputs
from sluice.stages.select import VARIANTS, selected
from sluice.tasks.task import Task, load_task
from sluice.training.frame import prepared_frame
from sluice.workspace import bundle_directory

_MEASUREMENTS = TypeAdapter(tuple[VariantMeasurement, ...])


def package(task: str, recipe: str, run: str, bundles: Path, evaluation: Path) -> Bundle:
    """
    Write the selected variant's bundle into the store ``bundles``.

    Args:
        task: the task's name.
        recipe: the candidate's recipe, as JSON.
        run: the run, as JSON; its code digest goes into the provenance.
        bundles: the bundle store.
        evaluation: directory of the evaluation stage, which names all others.
    """
    made_from = Recipe.model_validate_json(recipe)
    inputs = read_inputs(evaluation)
    result = Evaluation.model_validate_json((evaluation / EVALUATION).read_bytes())
    manifest = _manifest(load_task(task), made_from, json.loads(run), inputs, result)
    measurements = _MEASUREMENTS.validate_json((inputs["selection"] / VARIANTS).read_bytes())
    card = card_json(load_task(task), made_from, result, measurements, manifest.provenance.model_dump(mode="json"))
    files = {
        MODEL: (inputs["ladder"] / f"{manifest.variant}.tflite").read_bytes(),
        "card.json": canonical_json(card),
        "card.html": card_html(card).encode(),
    }
    digest = write_bundle(bundles, manifest, files)
    return load_bundle(bundle_directory(bundles, digest), digest)


def _manifest(
    task: Task, recipe: Recipe, run: dict[str, Any], inputs: dict[str, Path], result: Evaluation
) -> BundleManifest:
    train = prepared_frame(inputs["frame"], recipe).filter(pl.col("split") == "train")
    features = FeatureManifest.model_validate_json((inputs["teacher"] / "manifest.json").read_bytes())
    return BundleManifest(
        task=task.name,
        variant=selected(inputs["selection"]),
        recipe=recipe,
        features=features,
        encoder=Encoder.model_validate_json((inputs["teacher"] / "encoder.json").read_bytes()),
        threshold=result.threshold,
        provenance=Provenance(
            data=_digest(inputs["span"] / "span.json"),
            frame=_digest(inputs["frame"] / "frame.json"),
            recipe=digest_of_value(recipe.model_dump(mode="json")),
            code=run["code"],
            window=(task.splits.train.isoformat(), task.splits.tune.isoformat()),
        ),
        profiles=_profiles(train, features),
    )


def _profiles(train: pl.DataFrame, features: FeatureManifest) -> dict[str, FeatureProfile]:
    return {name: profile_of(train[name]) for name in features.names}


def _digest(record: Path) -> str:
    return str(json.loads(record.read_bytes())["digest"])
