"""Bundles of tasks whose requests carry images or texts, trained by the steps that a pipeline has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sluice.arrays import Floats
from sluice.compression.ladder import build_ladder
from sluice.data.ingest import ingest
from sluice.features.build import build_features
from sluice.models.bundle import Bundle, BundleManifest, Provenance, feature_profiles, load_bundle, write_bundle
from sluice.models.encoder import Encoder
from sluice.tasks.task import Task
from sluice.training.frame import reduced_manifest
from sluice.training.teacher import train_teacher
from sluice.workspace import bundle_directory
from tests.support.tiny_bundle import ZERO


@dataclass(frozen=True)
class Trained:
    """What training a task's recipe left in a folder."""

    task: Task
    folder: Path

    @property
    def frame(self) -> Path:
        """Directory of the features step."""
        return self.folder / "frame"

    def scores(self, column: str, of: str = "ladder/scores.parquet") -> tuple[Floats, Floats]:
        """Labels of split test and what was scored, (n,) each."""
        labels = pl.read_parquet(self.frame / "frame.parquet").select("example_id", "label")
        rows = pl.read_parquet(self.folder / of).join(labels, on="example_id").filter(split="test")
        return rows["label"].cast(pl.Float64).to_numpy(), rows[column].to_numpy()

    def bundle(self, variant: str) -> Bundle:
        """Of one of the ladder's variants."""
        recipe, ladder = self.task.recipe, self.folder / "ladder" / variant
        features = reduced_manifest(self.frame, recipe)
        train = pl.read_parquet(self.frame / "frame.parquet").filter(split="train")
        manifest = BundleManifest(
            task=self.task.name,
            variant=variant,
            recipe=recipe,
            features=features,
            encoder=Encoder.model_validate_json((ladder / "encoder.json").read_bytes()),
            threshold=0.5,
            provenance=Provenance(data=ZERO, frame=ZERO, recipe=ZERO, code=ZERO, window=("2024-01-01", "2024-02-01")),
            profiles=feature_profiles(train, features),
        )
        store = self.folder / "bundles"
        digest = write_bundle(store, manifest, {"model.tflite": (ladder / "model.tflite").read_bytes()})
        return load_bundle(bundle_directory(store, digest), digest)


def train(task: Task, folder: Path) -> Trained:
    """Ingest, build features without a repository, train and compress."""
    nowhere = folder / "no such folder"
    ingest(task, folder / "span")
    build_features(task, folder / "span", nowhere, nowhere, folder / "frame")
    train_teacher(folder / "frame", task.recipe, folder / "teacher", task.baseline_keys)
    build_ladder(folder / "frame", folder / "teacher", task.recipe, folder / "ladder")
    assert not nowhere.exists()
    return Trained(task, folder)
