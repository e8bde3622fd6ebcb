"""Every kind of target from a frame to a served answer: networks, trees and students, each in the target's own unit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sluice.compression import student
from sluice.compression.ladder import build_ladder
from sluice.data.divergence import profile_of
from sluice.errors import BadArtifact, BadInput
from sluice.models.bundle import Bundle, BundleManifest, Provenance, load_bundle, write_bundle
from sluice.models.encoder import Encoder
from sluice.models.runtime import FORMATS, LiteRTScorer, OnnxScorer
from sluice.steps.package import format_of
from sluice.targets.predictions import predictions_in
from sluice.tasks.recipe import Recipe
from sluice.training.export import export_litert
from sluice.training.families.family import read_teacher
from sluice.training.families.registry import family_of
from sluice.training.families.trees import BOOSTER
from sluice.training.frame import encoded_splits, prepared_frame, reduced_manifest
from sluice.training.objective import objective_of
from sluice.training.setup import ALONE, TrainingRecord, TrainingSetup
from sluice.training.teacher import train_teacher
from sluice.workspace import bundle_directory
from sluice_serving.meters import Meters
from sluice_serving.predictor import Predictor
from tests.support.kind_frames import KINDS, KindFrame, labelled, write_kind
from tests.support.tiny_training import RECIPE, write_frame

ZERO = "sha256:" + "0" * 64
MLP = RECIPE.model_copy(
    update={
        "epochs": 5,
        "batch_size": 160,
        "learning_rate": 2e-2,
        "variants": ("teacher_f32", "student_f32", "student_int8"),
    }
)
TREES = RECIPE.model_copy(
    update={"family": "trees", "settings": {"rounds": 40, "learning_rate": 0.2}, "variants": ("teacher_f32",)}
)
OWN = "tests.support.own_networks"


class Trained:
    """One kind, trained by a network and by trees."""

    def __init__(self, root: Path, name: str) -> None:
        self.name, self.root = name, root
        self.frame: KindFrame = write_kind(root / "frame", name)
        self.target = self.frame.target
        self.records: dict[str, TrainingRecord] = {}
        self.lines: list[str] = []
        for recipe in (MLP, TREES):
            out = root / recipe.family
            keys, told = ("shop",), self.lines.append
            record = train_teacher(self.frame.directory, recipe, out / "teacher", keys, told, ALONE, self.target)
            build_ladder(self.frame.directory, out / "teacher", recipe, out / "ladder", told, self.target)
            self.records[recipe.family] = record

    def scores(self, family: str, split: str) -> pl.DataFrame:
        """What variants and baselines say of a split, with the labels."""
        ladder, baselines = (self.root / family / name for name in ("ladder/scores", "teacher/baselines"))
        scores, others = (pl.read_parquet(path.with_suffix(".parquet")) for path in (ladder, baselines))
        rows = prepared_frame(self.frame.directory, MLP, self.target).select("example_id", "label")
        return scores.filter(split=split).join(others.drop("split"), on="example_id").join(rows, on="example_id")

    def losses(self, family: str, split: str = "test") -> dict[str, float]:
        """Mean losses by variant and baseline."""
        table = self.scores(family, split)
        labels = self.target.codes(table["label"])
        names = [name for name in table.columns if name not in ("example_id", "split", "label")]
        said = {name: predictions_in(table[name]) for name in names}
        assert all(self.target.are_predictions(values).all() for values in said.values())
        return {name: float(self.target.losses(labels, values).mean()) for name, values in said.items()}

    def bundle(self, recipe: Recipe, variant: str) -> Bundle:
        """A bundle of one variant."""
        folder = self.root / recipe.family / "ladder" / variant
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        encoder = Encoder.model_validate_json(files.pop("encoder.json"))
        features = reduced_manifest(self.frame.directory, recipe)
        rows = prepared_frame(self.frame.directory, recipe, self.target)
        manifest = BundleManifest(
            format=format_of(files),
            task=self.name,
            variant=variant,
            recipe=recipe,
            features=features,
            encoder=encoder,
            target=self.target.model_dump(mode="json"),
            threshold=self.target.unknown_threshold,
            provenance=Provenance(data=ZERO, frame=ZERO, recipe=ZERO, code=ZERO, window=("2020-01-01", "2020-02-01")),
            profiles={name: profile_of(rows[name]) for name in features.names},
        )
        digest = write_bundle(self.root / "bundles", manifest, files)
        return load_bundle(bundle_directory(self.root / "bundles", digest), digest)


@pytest.fixture(scope="module", params=["classes", "labels", "quantiles", "counts"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(student, "_STEPS_PER_EXECUTION", 2)  # Keras traces each
        return Trained(tmp_path_factory.mktemp(request.param), request.param)


def test_networks_trees_and_students_learn_what_no_line_can(trained: Trained) -> None:
    for family in ("mlp", "trees"):
        losses = trained.losses(family)
        linear = losses["linear"] if "linear" in losses else losses["logistic"]
        assert losses["teacher_f32"] < 0.95 * linear
        assert linear < losses["prior"]
        assert losses["trees"] < linear
    of_students = trained.losses("mlp")
    assert of_students["student_f32"] < 0.97 * of_students["prior"]
    assert of_students["student_int8"] == pytest.approx(of_students["student_f32"], rel=0.03)


def test_records_and_lines_speak_of_the_loss_as_the_target_calls_it(trained: Trained) -> None:
    title = next(each.title for each in trained.target.metrics if each.name == trained.target.loss_metric)
    for family, record in trained.records.items():
        assert (record.loss, record.tune_auc) == (trained.target.loss_metric, None)
        assert record.tune_loss == pytest.approx(trained.losses(family, "tune")["teacher_f32"], rel=1e-4)
        best = min(record.history, key=lambda point: point.tune_loss)
        assert best.epoch == record.best_epoch
        assert record.figures == {"epochs": record.epochs, f"tune_{record.loss}": record.tune_loss}
    told = [line for line in trained.lines if line.startswith(("epoch", "round"))]
    assert told
    assert all(f"  {title} train " in line and "AUC" not in line for line in told)
    trees = trained.records["trees"]
    assert trees.history[-1].tune_loss >= trees.tune_loss * (1 - 1e-6)
    assert min(point.tune_loss for point in trees.history) == pytest.approx(trees.tune_loss, rel=1e-2)


def test_the_file_of_trees_answers_as_xgboost_on_every_row(trained: Trained) -> None:
    teacher, target = trained.root / "trees" / "teacher", trained.target
    encoder = read_teacher(teacher, TREES)
    splits = encoded_splits(prepared_frame(trained.frame.directory, TREES, target), encoder, target)
    trees = family_of(TREES).restore(teacher, TREES, encoder, objective_of(target, splits["train"].y))
    rows = np.concatenate([part.x for part in splits.values()])
    gaps = rows.copy()
    gaps[np.random.default_rng(1).random(gaps.shape) < 0.3] = np.nan  # in columns that had none while it learned
    x = np.concatenate([rows, gaps])
    file = (trained.root / "trees/ladder/teacher_f32/model.onnx").read_bytes()
    due = trees.raw(x)
    assert due.shape == (len(x), target.outputs)
    assert (np.abs(OnnxScorer(file).raw(x) - due) / np.maximum(1, np.abs(due))).max() <= 1e-5
    assert {b["default_left"][0] for b in _trees_of(teacher)} == {0, 1}, "missing values in both directions"


def _trees_of(teacher: Path) -> list[Any]:
    document = json.loads((teacher / BOOSTER).read_bytes())
    return list(document["learner"]["gradient_booster"]["model"]["trees"])


@pytest.mark.parametrize(("recipe", "variant"), [(MLP, "teacher_f32"), (MLP, "student_int8"), (TREES, "teacher_f32")])
def test_what_is_served_is_what_the_model_said(trained: Trained, recipe: Recipe, variant: str) -> None:
    bundle = trained.bundle(recipe, variant)
    table = trained.scores(recipe.family, "test").head(40)
    rows = prepared_frame(trained.frame.directory, recipe, trained.target)
    asked = table.select("example_id").join(rows, on="example_id", maintain_order="left").select(recipe.features)
    predictor = Predictor(bundle, Meters(bundle), None, None, "stable")
    body = json.dumps({"instances": asked.to_dicts()}).encode()
    answers = json.loads(predictor.answer(predictor.rows("v1", body, {})))["predictions"]
    due = trained.target.answer(predictions_in(table[variant]), trained.target.unknown_threshold)
    said = {name: [answer[name] for answer in answers] for name in due}
    numbers = [field.name for field in trained.target.answers if field.datatype == "FP64"]
    apart = [np.abs(np.asarray(said[name]) - np.asarray(due[name])).max() for name in numbers]
    largest = max(1.0, *(np.abs(np.asarray(due[name])).max() for name in numbers))
    assert max(apart) < 1e-5 * largest
    assert {name: said[name] for name in due if name not in numbers} == {
        name: due[name] for name in due if name not in numbers
    }


def test_values_survive_every_way_to_make_them_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantizing the last layer's output would round minutes to 256 steps."""
    monkeypatch.setattr(student, "_STEPS_PER_EXECUTION", 2)
    frame = write_kind(tmp_path / "frame", "mean")
    recipe = MLP.model_copy(
        update={"variants": ("teacher_f32", "student_f32", "student_pruned_int8", "student_qat_int8")}
    )
    train_teacher(frame.directory, recipe, tmp_path / "teacher", (), lambda _line: None, ALONE, frame.target)
    build_ladder(frame.directory, tmp_path / "teacher", recipe, tmp_path / "ladder", lambda _line: None, frame.target)
    scores = pl.read_parquet(tmp_path / "ladder/scores.parquet").join(
        pl.read_parquet(frame.directory / "frame.parquet").select("example_id", "label"), on="example_id"
    )
    errors = {name: float((scores[name] - scores["label"]).pow(2).mean()) for name in recipe.variants}  # type: ignore[arg-type]
    assert all(error < 0.5 * float(scores["label"].var()) for error in errors.values()), errors  # type: ignore[arg-type]
    assert scores["student_qat_int8"].n_unique() > 300, "more values than an int8 has"


def test_a_checkpointed_training_learns_values_in_steps(tmp_path: Path) -> None:
    frame = write_kind(tmp_path / "frame", "quantiles")
    setup = TrainingSetup(checkpoints=str(tmp_path / "kept"))
    record = train_teacher(frame.directory, MLP, tmp_path / "out", (), lambda _line: None, setup, frame.target)
    assert record.tune_loss < 0.9 * record.history[0].tune_loss


BAD: dict[str, tuple[Callable[[pl.Series], pl.Series], str, dict[str, Any], str]] = {
    "yes or no, where classes are due": (lambda y: (y == "low").cast(pl.Int8), "classes", {}, "of type Int8"),
    "a class that nobody named": (lambda y: y.replace("low", "lowest"), "classes", {}, "'lowest' in"),
    "a class without rows": (lambda y: y.replace("low", "high"), "classes", {}, "no row of class 'low'"),
    "a name that nobody named": (lambda y: pl.Series([[*each, "new"] for each in y]), "labels", {}, "'new'"),
    "texts, where numbers are due": (lambda y: y.cast(pl.String), "mean", {}, "of type String"),
    "NaN": (lambda y: pl.Series([math.nan, *y[1:]]), "mean", {}, "label nan in 1 of"),
    "numbers that 32 bits hardly tell apart": (lambda y: y / 1e3 + 1e9, "median", {}, "too near for 32 bits"),
    "numbers whose squares are none": (lambda y: y * 1e20, "mean", {"family": "trees"}, "over 1e"),
    "numbers that are all one": (lambda y: y * 0, "quantiles", {}, "one label only"),
    "a count below 0": (lambda y: y - 1, "counts", {}, "label -1"),
    "a fraction, where counts are due": (lambda y: y / 2, "counts", {}, "of type Float64"),
    "a network of another width": (
        lambda y: y,
        "classes",
        {"family": f"{OWN}:wide_output"},
        r"shape \(None, 7\), need a Keras tensor of shape \(None, 3\)",
    ),
    "a network of one output for three": (lambda y: y, "quantiles", {"family": f"{OWN}:single"}, r"\(None, 1\), need"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_what_cannot_be_learnt_is_refused_in_a_line_before_training(case: str, tmp_path: Path) -> None:
    change, kind, recipe, rule = BAD[case]
    rows = labelled(kind)
    frame = write_frame(tmp_path / "frame", rows.with_columns(label=change(rows["label"])))
    lines: list[str] = []
    settings = MLP.model_copy(update=recipe)
    with pytest.raises(BadInput, match=rule) as refused:
        train_teacher(frame, settings, tmp_path / "out", (), lines.append, ALONE, KINDS[kind][0])
    assert "\n" not in str(refused.value)
    assert (lines, [path.name for path in tmp_path.iterdir()]) == ([], ["frame"])


def test_a_user_s_network_learns_a_kind_by_the_outputs_that_it_is_told(tmp_path: Path) -> None:
    frame = write_kind(tmp_path / "frame", "labels")
    recipe = MLP.model_copy(update={"family": f"{OWN}:crossed", "epochs": 1})
    record = train_teacher(frame.directory, recipe, tmp_path / "out", (), lambda _line: None, ALONE, frame.target)
    assert math.isfinite(record.tune_loss)


def test_a_file_that_is_wrong_by_a_part_of_the_spread_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values between 1000 and 1001: an error of 0.01 is one, though it is nothing beside 1000."""
    import keras

    y = np.linspace(1000, 1001, 50, dtype=np.float32)
    objective = objective_of(KINDS["mean"][0], y)
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.set_weights([np.ones((1, 1), np.float32), np.array([1000], np.float32)])
    rows = np.linspace(0, 1, 50, dtype=np.float32)[:, np.newaxis]
    assert FORMATS["litert"].load(export_litert(model, rows, "m", objective)).outputs == 1
    right = LiteRTScorer.raw
    monkeypatch.setattr(LiteRTScorer, "raw", lambda scorer, x: right(scorer, x) + 0.01)
    with pytest.raises(BadArtifact, match=r"m\.tflite: answers 0\.01 apart"):
        export_litert(model, rows, "m", objective)


def test_a_record_of_before_is_read() -> None:
    point = {"epoch": 1, "train_log_loss": 0.5, "tune_log_loss": 0.25, "tune_auc": 0.75}
    rest = {"epochs": 1, "best_epoch": 1, "tune_auc": 0.75, "temperature": 1.0, "positive_weight": 3.0}
    old = {**rest, "tune_log_loss": 0.25, "parameters": 9, "width": 2, "history": [point]}
    record = TrainingRecord.model_validate_json(json.dumps(old))
    assert (record.loss, record.tune_loss, record.history[0].train_loss) == ("log_loss", 0.25, 0.5)
    assert TrainingRecord.model_validate_json(record.model_dump_json()) == record
