"""`sluice import` for every kind of target: raw outputs and predictions, trees, what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pytest
import xgboost
from onnx import helper

from sluice.errors import SluiceError
from sluice.models.bundle import load_bundle
from sluice.operations.import_model import Import, import_model
from sluice.operations.import_spec import ImportSpec
from sluice.targets.kind import TargetKind
from sluice.targets.regression import Regression
from tests.support.import_kinds import (
    KINDS,
    NUMBERS,
    QUANTILES,
    features_of,
    kind_rows,
    kind_task,
    linear_model,
    write_kind,
)
from tests.support.onnx_models import network, onnx_model
from tests.support.tiny_bundle import TINY_MODEL


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def frame(name: str) -> Path:
        if name not in made:
            made[name] = write_kind(tmp_path_factory.mktemp(name), name)
        return made[name]

    return frame


def imported(
    tmp_path: Path, frame: Path, target: TargetKind, data: bytes, elsewhere: Path | None = None, **keys: Any
) -> Import:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    spec = ImportSpec.model_validate({"inputs": NUMBERS} | keys)
    return import_model(kind_task(target), path, spec, frame, tmp_path / "out", elsewhere)


def predicted(done: Import, rows: pl.DataFrame) -> Any:
    return load_bundle(done.bundle, done.digest).predict(rows).reshape(rows.height, -1)


@pytest.mark.parametrize("name", KINDS)
def test_raw_outputs_are_served_as_they_are(tmp_path: Path, frames: Callable[[str], Path], name: str) -> None:
    sample, frame = KINDS[name], frames(name)
    done = imported(tmp_path, frame, sample.target, linear_model(name))
    rows = kind_rows(sample)
    expected = sample.target.link((features_of(rows) @ sample.weights.astype(np.float32)).astype(float))
    assert predicted(done, rows) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    manifest = load_bundle(done.bundle).manifest
    assert manifest.kind == sample.target
    assert (done.evaluation.threshold is None) == (manifest.threshold is None)
    assert done.evaluation.threshold == manifest.threshold
    assert done.evaluation.metrics.keys() >= {sample.target.loss_metric, *sample.target.headline}
    assert {peer.name for peer in done.evaluation.baselines} >= {"prior", "rate"}
    card = json.loads(load_bundle(done.bundle).files["card.json"])
    assert card["metrics"].keys() == done.evaluation.metrics.keys()
    assert b"<html" in load_bundle(done.bundle).files["card.html"]


WORDS = {
    "binary": "probability",
    "classes": "probability",
    "labels": "probability",
    "value": "value",
    "quantiles": "value",
    "counts": "count",
}
ORDERS = {"classes": (2, 0, 1), "labels": (1, 0), "quantiles": (2, 1, 0)}


@pytest.mark.parametrize("name", KINDS)
def test_predictions_come_out_again_in_the_tasks_order(
    tmp_path: Path, frames: Callable[[str], Path], name: str
) -> None:
    sample, order = KINDS[name], ORDERS.get(name)
    data = linear_model(name, linked=True, order=order)
    rows = kind_rows(sample)
    expected = sample.target.link((features_of(rows) @ sample.weights.astype(np.float32)).astype(float))
    keys: dict[str, Any] = {"answers": WORDS[name]}
    if order:
        keys["columns"] = tuple(sample.target.columns[place] for place in order)
    several = expected.shape[1] > 1
    said = rows.select("example_id", score=pl.Series(expected.tolist() if several else expected[:, 0]))
    said.write_parquet(tmp_path / "said.parquet")
    done = imported(tmp_path, frames(name), sample.target, data, tmp_path / "said.parquet", **keys)
    assert predicted(done, rows) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_what_is_no_prediction_in_float32_is_the_nearest_one(tmp_path: Path, frames: Callable[[str], Path]) -> None:
    """A count of 0 and a probability of 0 have no logarithm."""
    done = imported(tmp_path, frames("counts"), KINDS["counts"].target, linear_model("counts", "Relu"), answers="count")
    rows = kind_rows(KINDS["counts"])
    expected = np.maximum(features_of(rows) @ KINDS["counts"].weights, 0)
    assert (expected == 0).any()
    found = predicted(done, rows)
    assert (found > 0).all()
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_probability_may_be_1_and_the_last_bit_of_float32(tmp_path: Path, frames: Callable[[str], Path]) -> None:
    weights = np.array([[1.0], [1.0]], np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["raw"]),
        helper.make_node("Sign", ["raw"], ["sign"]),
        helper.make_node("Relu", ["sign"], ["share"]),
        helper.make_node("Mul", ["share", "most"], ["y"]),
    ]
    data = [
        bytes(onnx_model(nodes, {"w": weights, "most": np.float32(most)}, 2).SerializeToString())
        for most in (1.0000001, 1.001)
    ]
    with pytest.raises(SluiceError, match=r"rows of the holdout: 1\.001; say in"):
        imported(tmp_path, frames("binary"), KINDS["binary"].target, data[1], answers="probability")
    done = imported(tmp_path, frames("binary"), KINDS["binary"].target, data[0], answers="probability")
    assert predicted(done, kind_rows(KINDS["binary"])).max() == pytest.approx(1, abs=1e-6)


Trained = tuple[bytes, Any]
"""A document, and what the library predicts from features."""


def _xgboost(x: Any, y: Any, **settings: Any) -> Trained:
    booster = xgboost.train({"nthread": 1, "max_depth": 3, **settings}, xgboost.DMatrix(x, y, nthread=1), 8)
    return bytes(booster.save_raw("json")), lambda rows: booster.predict(xgboost.DMatrix(rows, nthread=1))


def _lightgbm(x: Any, y: Any, **settings: Any) -> Trained:
    fixed = {"verbose": -1, "num_threads": 1, "num_leaves": 7, **settings}
    booster = lightgbm.train(fixed, lightgbm.Dataset(x, y, params={"verbose": -1}), 8)
    return booster.model_to_string().encode(), lambda rows: booster.predict(rows, num_threads=1)


TREES: Mapping[str, tuple[str, Callable[[Any, Any], Trained]]] = {
    "XGBoost's classes": ("classes", lambda x, y: _xgboost(x, y, objective="multi:softprob", num_class=3)),
    "XGBoost's labels": ("labels", lambda x, y: _xgboost(x, y, objective="binary:logistic")),
    "XGBoost's values": ("value", lambda x, y: _xgboost(x, y, objective="reg:squarederror")),
    "XGBoost's absolute values": ("value", lambda x, y: _xgboost(x, y, objective="reg:absoluteerror")),
    "XGBoost's quantiles": (
        "quantiles",
        lambda x, y: _xgboost(x, y, objective="reg:quantileerror", quantile_alpha=list(QUANTILES)),
    ),
    "XGBoost's counts": ("counts", lambda x, y: _xgboost(x, y, objective="count:poisson")),
    "XGBoost's tweedie": ("counts", lambda x, y: _xgboost(x, y, objective="reg:tweedie")),
    "LightGBM's classes": ("classes", lambda x, y: _lightgbm(x, y, objective="multiclass", num_class=3)),
    "LightGBM's values": ("value", lambda x, y: _lightgbm(x, y, objective="regression")),
    "LightGBM's absolute values": ("value", lambda x, y: _lightgbm(x, y, objective="regression_l1")),
    "LightGBM's huber": ("value", lambda x, y: _lightgbm(x, y, objective="huber")),
    "LightGBM's median": ("value", lambda x, y: _lightgbm(x, y, objective="quantile", alpha=0.5)),
    "LightGBM's counts": ("counts", lambda x, y: _lightgbm(x, y, objective="poisson")),
}


@pytest.mark.parametrize("kind", TREES)
def test_trees_answer_as_in_their_library(tmp_path: Path, frames: Callable[[str], Path], kind: str) -> None:
    name, train = TREES[kind]
    sample = KINDS[name]
    rows = kind_rows(sample)
    data, predict = train(features_of(rows), sample.target.codes(rows["label"]))
    done = imported(tmp_path, frames(name), sample.target, data)
    expected = np.asarray(predict(features_of(rows)), float).reshape(rows.height, -1)
    if name == "quantiles":
        expected = np.sort(expected, axis=1)
    assert predicted(done, rows) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert "trees.json" in load_bundle(done.bundle).files
    prior = next(peer for peer in done.evaluation.baselines if peer.name == "prior")
    loss = sample.target.loss_metric
    assert done.evaluation.metrics[loss].value < prior.metrics[loss].value


def _folder(tmp_path: Path, name: str, models: Mapping[str, bytes]) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    for file, data in models.items():
        (folder / file).write_bytes(data)
    return folder


def test_lightgbm_has_a_model_a_quantile_and_a_model_a_label(tmp_path: Path, frames: Callable[[str], Path]) -> None:
    rows = kind_rows(KINDS["quantiles"])
    x, y, target = features_of(rows), rows["label"].to_numpy(), KINDS["quantiles"].target
    models = {f"{at}.txt": _lightgbm(x, y, objective="quantile", alpha=at) for at in QUANTILES}
    folder = _folder(tmp_path, "quantiles", {name: model[0] for name, model in models.items()})
    spec = ImportSpec(inputs=NUMBERS)
    done = import_model(kind_task(target), folder, spec, frames("quantiles"), tmp_path / "out")
    expected = np.sort(np.stack([predict(x) for _, predict in models.values()], axis=1), axis=1)
    assert predicted(done, rows) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    beside = json.loads(load_bundle(done.bundle).files["trees.json"])
    assert sorted(beside) == sorted(models)

    rows, target = kind_rows(KINDS["labels"]), KINDS["labels"].target
    codes = target.codes(rows["label"])
    labels = {"1-huge.txt": 1, "2-big.txt": 0}
    learned = {name: _lightgbm(x, codes[:, at], objective="binary") for name, at in labels.items()}
    folder = _folder(tmp_path, "labels", {name: model[0] for name, model in learned.items()})
    with pytest.raises(SluiceError, match=r"1-huge.txt, 2-big.txt\), of nobody knows what; say in `columns`"):
        import_model(kind_task(target), folder, spec, frames("labels"), tmp_path / "refused")
    spec = ImportSpec(inputs=NUMBERS, columns=("huge", "big"))
    done = import_model(kind_task(target), folder, spec, frames("labels"), tmp_path / "labelled")
    expected = np.stack([learned[name][1](x) for name in ("2-big.txt", "1-huge.txt")], axis=1)
    assert predicted(done, rows) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_trees_of_positive_values_answer_values(tmp_path: Path, frames: Callable[[str], Path]) -> None:
    rows = kind_rows(KINDS["value"])
    x = features_of(rows)
    data, predict = _lightgbm(x, np.exp(rows["label"].to_numpy()), objective="gamma")
    done = imported(tmp_path, frames("value"), KINDS["value"].target, data)
    assert predicted(done, rows)[:, 0] == pytest.approx(predict(x), rel=1e-5)


def test_classes_of_trees_in_another_order_are_named(tmp_path: Path, frames: Callable[[str], Path]) -> None:
    sample, names = KINDS["classes"], ("high", "low", "mid")
    rows = kind_rows(sample)
    codes = np.array([names.index(label) for label in rows["label"]])
    data, predict = _xgboost(features_of(rows), codes, objective="multi:softprob", num_class=3)
    done = imported(tmp_path, frames("classes"), sample.target, data, columns=names)
    expected = predict(features_of(rows))[:, [names.index(name) for name in sample.target.columns]]
    assert predicted(done, rows) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def _trees(name: str, library: Callable[..., Trained], **settings: Any) -> Callable[[], bytes]:
    def train() -> bytes:
        rows = kind_rows(KINDS[name])
        return library(features_of(rows), KINDS[name].target.codes(rows["label"]), **settings)[0]

    return train


TWO_QUANTILES = {"objective": "reg:quantileerror", "quantile_alpha": [0.2, 0.5, 0.9]}
REFUSED: Mapping[str, tuple[str, Callable[[], bytes], dict[str, Any], str]] = {
    "outputs": ("classes", lambda: linear_model("value"), {}, "answers 1 columns, and a multi-class target needs 3"),
    "too many outputs": ("value", lambda: network(2, 2).SerializeToString(), {}, "answers 2 columns, and a regression"),
    "a class that is left out": ("classes", lambda: linear_model("classes"), {"columns": ("low", "mid")}, "leaves out"),
    "a class that is not there": (
        "classes",
        lambda: linear_model("classes"),
        {"columns": ("low", "mid", "top")},
        "'top': is no column of the target; the target's are low, mid, high",
    ),
    "a class twice": ("classes", lambda: linear_model("classes"), {"columns": ("low", "low", "mid")}, "is there twice"),
    "a column without a name": (
        "labels",
        lambda: linear_model("classes"),
        {"columns": ("huge", "big")},
        "answers 3 columns, and `columns` of the spec names 2",
    ),
    "a column that is not there": ("binary", lambda: linear_model("value"), {"column": 4}, "answers 1 columns, from 0"),
    "column and columns": (
        "classes",
        lambda: linear_model("classes"),
        {"column": 1, "columns": ("low", "mid", "high")},
        "leave out one of them",
    ),
    "a word of another kind": (
        "counts",
        lambda: linear_model("counts"),
        {"answers": "probability"},
        "models of a counts target answer log_count or count",
    ),
    "a count of a regression": ("value", lambda: linear_model("value"), {"answers": "count"}, "answer value"),
    "probabilities that are logits": (
        "binary",
        lambda: linear_model("binary"),
        {"answers": "probability"},
        "what are not probabilities (NaN or outside 0 to 1) in",
    ),
    "probabilities that do not sum to 1": (
        "classes",
        lambda: linear_model("classes", "Sigmoid"),
        {"answers": "probability"},
        "or their sum is not 1) in 1500 of 1500 rows",
    ),
    "negative counts": ("counts", lambda: linear_model("counts"), {"answers": "count"}, "not finite counts above 0"),
    "infinite values": ("value", lambda: linear_model("value", "Relu", "Reciprocal"), {}, "answers NaN or infinity in"),
    "NaN": ("quantiles", lambda: linear_model("quantiles", "Log"), {}, "answers NaN or infinity in"),
    "a regression for yes and no": (
        "binary",
        _trees("value", _xgboost, objective="reg:squarederror"),
        {},
        "was trained for 'reg:squarederror', and the task's label is binary; train for one of binary:logistic",
    ),
    "yes and no for counts": (
        "counts",
        _trees("binary", _lightgbm, objective="binary"),
        {},
        "'binary sigmoid:1', and the task's label is counts; train for one of poisson, gamma, tweedie",
    ),
    "one against all for classes": (
        "classes",
        _trees("classes", _lightgbm, objective="multiclassova", num_class=3),
        {},
        "and the task's label is multi-class; train for one of multiclass",
    ),
    "other quantiles": ("quantiles", _trees("quantiles", _xgboost, **TWO_QUANTILES), {}, "for quantiles 0.2, 0.5, 0.9"),
    "a quantile for a mean": (
        "value",
        _trees("value", _lightgbm, objective="quantile", alpha=0.9),
        {},
        "for quantiles 0.9, and the task asks for 0.5",
    ),
    "one value for quantiles": (
        "quantiles",
        _trees("value", _xgboost, objective="reg:squarederror"),
        {},
        "for quantiles none (reg:squarederror), and the task asks for 0.1, 0.5, 0.9",
    ),
    "probabilities of trees": (
        "classes",
        _trees("classes", _xgboost, objective="multi:softprob", num_class=3),
        {"answers": "probability"},
        "of trees are always their raw outputs",
    ),
    "classes of another number": (
        "classes",
        _trees("classes", _xgboost, objective="multi:softprob", num_class=4),
        {},
        "answers 4 columns, and a multi-class target needs 3",
    ),
    "LiteRT in another order": (
        "classes",
        lambda: TINY_MODEL,
        {"columns": ("mid", "low", "high")},
        "its file is not rewritten",
    ),
    "LiteRT that counts": ("counts", lambda: TINY_MODEL, {"answers": "count"}, "with a log_count as its output"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_the_target_is_refused_in_one_line(
    tmp_path: Path, frames: Callable[[str], Path], kind: str
) -> None:
    name, make, keys, reason = REFUSED[kind]
    with pytest.raises(SluiceError) as refusal:
        imported(tmp_path, frames(name), KINDS[name].target, make(), **keys)
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_the_median_is_one_quantile(tmp_path: Path, frames: Callable[[str], Path]) -> None:
    target = Regression(loss="pinball", quantiles=(0.5,))
    data = _trees("value", _lightgbm, objective="quantile", alpha=0.5)()
    assert imported(tmp_path, frames("value"), target, data).evaluation.metrics["pinball"].value > 0


def test_what_it_said_elsewhere_is_compared_in_every_column(tmp_path: Path, frames: Callable[[str], Path]) -> None:
    sample = KINDS["classes"]
    rows = kind_rows(sample).head(20)
    expected = sample.target.link((features_of(rows) @ sample.weights.astype(np.float32)).astype(float))
    cases = {"was said to answer": expected[:, ::-1], "need 3": expected[:, 0], "has no example_id": expected[:, :2]}
    for reason, said in cases.items():
        rows.select("example_id", score=pl.Series(said.tolist())).write_parquet(tmp_path / "said.parquet")
        with pytest.raises(SluiceError, match=reason):
            imported(tmp_path, frames("classes"), sample.target, linear_model("classes"), tmp_path / "said.parquet")
    assert not (tmp_path / "out").exists()
