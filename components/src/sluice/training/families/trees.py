"""
Gradient-boosted trees (XGBoost), on numbers as they are: missing is NaN, strings are one-hot.

They need no calibration: rows have no class weights, so the loss that they minimize is the target's, and
stopping early on split tune is what keeps them from being too sure of themselves in the months that follow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from sluice.arrays import Floats, Floats32
from sluice.content import digest_of_bytes, write_bytes, write_json
from sluice.errors import BadArtifact, one_line
from sluice.features.manifest import FeatureManifest
from sluice.models.encoder import Encoder, fit_raw_encoder
from sluice.models.trees.export import checked_export
from sluice.models.trees.xgboost_json import read_xgboost
from sluice.tasks.recipe import Recipe
from sluice.training.boosting import TreeSettings, boost, margins, xgboost_library
from sluice.training.curve import Epoch, LinePrinter, tune_auc
from sluice.training.families.family import SPEC, Family, ModelFile, Teacher, require_one_go, settings_of
from sluice.training.frame import EncodedSplit
from sluice.training.objective import Objective
from sluice.training.setup import TrainingRecord, TrainingSetup

BOOSTER = "booster.json"
"""XGBoost's own document of the model; inert, and in a bundle for explanation alone."""
_POINTS = 100
"""Most points of a learning curve."""


class TreesFamily(Family):
    """The family ``trees``."""

    def check(self, recipe: Recipe, setup: TrainingSetup) -> None:
        """As of ``Family``."""
        settings_of(TreeSettings, recipe)
        require_one_go(recipe, setup, "one machine (single), with setting threads")

    def fit_encoder(self, train: pl.DataFrame, manifest: FeatureManifest) -> Encoder:
        """As of ``Family``."""
        return fit_raw_encoder(train, manifest)

    def train(
        self,
        splits: Mapping[str, EncodedSplit],
        encoder: Encoder,
        recipe: Recipe,
        objective: Objective,
        progress: LinePrinter,
        setup: TrainingSetup,  # noqa: ARG002  checked: one process that keeps nothing
        out: Path | None,
    ) -> TrainingRecord:
        """As of ``Family``; the trees go into ``booster.json``."""
        train, tune = splits["train"], splits["tune"]
        booster, losses = boost(train, tune, settings_of(TreeSettings, recipe), objective, recipe.seed, progress)
        document = bytes(booster.save_raw("json"))
        if out is not None:
            write_bytes(out / BOOSTER, document)
            spec = {"family": recipe.family, "width": encoder.width, "booster": digest_of_bytes(document)}
            write_json(out / SPEC, spec)
        raw = margins(booster, tune.x)
        return TrainingRecord(
            epochs=len(losses["tune"]),
            best_epoch=booster.num_boosted_rounds(),
            loss=objective.loss_name,
            tune_loss=objective.mean_loss(tune.y, raw),
            tune_auc=tune_auc(objective, tune.y, raw),
            temperature=1.0,
            positive_weight=1.0,
            parameters=_parameters(document),
            width=encoder.width,
            history=_history(losses),
        )

    def restore(self, directory: Path, recipe: Recipe, encoder: Encoder, objective: Objective) -> Teacher:  # noqa: ARG002
        """As of ``Family``; XGBoost ends the process on a document that it cannot read, so it gets no other."""
        path = directory / BOOSTER
        try:
            document, due = path.read_bytes(), json.loads((directory / SPEC).read_bytes())["booster"]
        except (OSError, ValueError, KeyError) as error:
            rule = f"cannot be loaded ({one_line(error)})"
            raise BadArtifact(str(path), rule, "train the teacher again") from error
        if digest_of_bytes(document) != due:
            rule = f"has digest {digest_of_bytes(document)}, {SPEC} says {due}"
            raise BadArtifact(str(path), rule, "train the teacher again")
        return _Trees(document)


FAMILY = TreesFamily()


class _Trees:
    """Trained trees, as students learn from them."""

    def __init__(self, document: bytes) -> None:
        self._document = document
        self._booster = xgboost_library().Booster(model_file=bytearray(document))

    def raw(self, x: Floats32) -> Floats:
        return margins(self._booster, x)

    def model_file(self, rows: Floats32, name: str) -> ModelFile:  # noqa: ARG002  its only name is the bundle's
        data = checked_export(read_xgboost(self._document), rows, margins(self._booster, rows))
        return ModelFile("onnx", data, _parameters(self._document), beside={BOOSTER: self._document})


def _history(losses: Mapping[str, Floats]) -> tuple[Epoch, ...]:
    """At most ``_POINTS`` rounds, the best one and the last among them."""
    tune = losses["tune"]
    evenly = np.linspace(0, len(tune) - 1, min(len(tune), _POINTS - 1)).astype(int)
    points = sorted({*evenly.tolist(), int(np.argmin(tune))})
    return tuple(Epoch(epoch=at + 1, train_loss=float(losses["train"][at]), tune_loss=float(tune[at])) for at in points)


def _parameters(document: bytes) -> int:
    """A threshold each split, a value each leaf."""
    trees = json.loads(document)["learner"]["gradient_booster"]["model"]["trees"]
    return sum(len(tree["left_children"]) for tree in trees)
