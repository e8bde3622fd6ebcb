"""Trees as ONNX against their own libraries: every objective and booster, and the values at which others go wrong."""

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

from sluice.arrays import Floats, Floats32
from sluice.data.divergence import profile_of
from sluice.errors import BadArtifact, BadInput
from sluice.features.manifest import Feature, FeatureManifest
from sluice.models.bundle import BundleManifest, Provenance, load_bundle, write_bundle
from sluice.models.encoder import Encoder, RawCode
from sluice.models.formats.onnx import OnnxScorer
from sluice.models.trees.ensemble import LEAF, TreeEnsemble, joined
from sluice.models.trees.export import TOLERANCE, checked_export, export_trees
from sluice.models.trees.lightgbm_text import read_lightgbm
from sluice.models.trees.xgboost_json import read_xgboost
from sluice.targets.link import LinkName
from sluice.tasks.recipe import Recipe
from sluice.workspace import bundle_directory
from tests.support.served_trees import compare_served, said_by_library

WIDTH = 4
Label = Callable[[Floats32], Any]


def _features(n: int = 600, seed: int = 3) -> Floats32:
    """Numbers with gaps and zeros, a column of few values, a tiny one, a constant one."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, WIDTH)).astype(np.float32)
    x[:, 1] = rng.integers(-2, 3, n)
    x[:, 2] *= np.float32(1e-35)
    x[rng.random(n) < 0.2, 0] = np.nan
    x[rng.random(n) < 0.2, 0] = 0
    x[rng.random(n) < 0.1, 1] = np.nan
    return x


def _margin(x: Floats32) -> Floats:
    filled = np.nan_to_num(x.astype(np.float64), nan=1.0)
    values: Floats = filled[:, 0] + 0.7 * filled[:, 1] * np.sign(filled[:, 2]) + 1.5 * np.isnan(x[:, 0])
    return values


def _yes(x: Floats32) -> Any:
    return (_margin(x) > 0).astype(int)


def _class(x: Floats32) -> Any:
    return np.digitize(_margin(x), [-0.7, 0.7])


def _labels(x: Floats32) -> Any:
    return np.stack([_margin(x) > 0, x[:, 3] > 0.5, np.isnan(x[:, 0])], axis=1).astype(int)


def _count(x: Floats32) -> Any:
    return np.round(np.exp(np.clip(_margin(x), -2, 2)))


def _positive(x: Floats32) -> Any:
    return np.exp(np.clip(_margin(x), -2, 2))


def _text(booster: lightgbm.Booster) -> bytes:
    return str(booster.model_to_string()).encode()


def _trying(ensemble: TreeEnsemble, *, infinite: bool) -> Floats32:
    """Rows of all that is awkward: in each column its thresholds, their neighbours, ±0, subnormals, NaN."""
    rng = np.random.default_rng(9)
    values: list[Floats32] = []
    for column in range(ensemble.width):
        at = np.concatenate([tree.threshold[tree.feature == column] for tree in ensemble.trees] or [np.zeros(0)])
        tiny = np.array([1e-35, -1e-35, 1e-45, -1e-45, 1e-40, 0.0, -0.0, np.nan, 3e38, -3e38], np.float32)
        ends = np.array([np.inf, -np.inf] if infinite else [], np.float32)
        near = np.concatenate([at.astype(np.float32), tiny])
        up, down = np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))
        pool = np.concatenate([near, up, down])
        pool = np.concatenate([pool[~np.isinf(pool)], ends])
        values.append(rng.choice(pool, 1500))
    return np.concatenate([_features(300, 11)[:, : ensemble.width], np.stack(values, axis=1)]).astype(np.float32)


def _lightgbm(label: Label, rounds: int = 12, **settings: Any) -> lightgbm.Booster:
    x = _features()
    data = lightgbm.Dataset(x, label(x), params={"verbose": -1, "min_data_in_bin": 1})
    fixed = {"verbose": -1, "num_threads": 1, "seed": 7, "num_leaves": 9, "min_data_in_leaf": 5}
    return lightgbm.train({**fixed, **settings}, data, rounds)


def _xgboost(label: Label, rounds: int = 12, **settings: Any) -> xgboost.Booster:
    x = _features()
    fixed = {"nthread": 1, "seed": 7, "max_depth": 4}
    return xgboost.train({**fixed, **settings}, xgboost.DMatrix(x, label(x), nthread=1), rounds)


LIGHTGBM: Mapping[str, Callable[[], lightgbm.Booster]] = {
    "binary": lambda: _lightgbm(_yes, objective="binary"),
    "binary, no column is missing": lambda: _lightgbm(_yes, objective="binary", use_missing=False),
    "binary, zeros are missing": lambda: _lightgbm(_yes, objective="binary", zero_as_missing=True),
    "binary, dart": lambda: _lightgbm(_yes, objective="binary", boosting="dart", drop_rate=0.5),
    "binary, random forest": lambda: _lightgbm(
        _yes, objective="binary", boosting="rf", bagging_freq=1, bagging_fraction=0.6
    ),
    "binary, goss": lambda: _lightgbm(_yes, objective="binary", data_sample_strategy="goss"),
    "binary, extra trees": lambda: _lightgbm(_yes, objective="binary", extra_trees=True),
    "classes": lambda: _lightgbm(_class, objective="multiclass", num_class=3),
    "classes, random forest": lambda: _lightgbm(
        _class, objective="multiclass", num_class=3, boosting="rf", bagging_freq=1, bagging_fraction=0.6
    ),
    "classes, one against all": lambda: _lightgbm(_class, objective="multiclassova", num_class=3),
    "shares": lambda: _lightgbm(lambda x: 1 / (1 + np.exp(-_margin(x))), objective="cross_entropy"),
    "squared": lambda: _lightgbm(_margin, objective="regression"),
    "relative": lambda: _lightgbm(_positive, objective="mape"),
    "absolute": lambda: _lightgbm(_margin, objective="regression_l1"),
    "huber": lambda: _lightgbm(_margin, objective="huber"),
    "fair": lambda: _lightgbm(_margin, objective="fair"),
    "quantile": lambda: _lightgbm(_margin, objective="quantile", alpha=0.9),
    "poisson": lambda: _lightgbm(_count, objective="poisson"),
    "gamma": lambda: _lightgbm(_positive, objective="gamma"),
    "tweedie": lambda: _lightgbm(_positive, objective="tweedie", tweedie_variance_power=1.3),
    "one leaf": lambda: _lightgbm(lambda x: np.ones(len(x)), objective="regression"),
    "large values": lambda: _lightgbm(lambda x: 1e6 + 1e5 * _margin(x), objective="regression"),
    "200 rounds": lambda: _lightgbm(_yes, 200, objective="binary"),
}
XGBOOST: Mapping[str, Callable[[], xgboost.Booster]] = {
    "binary": lambda: _xgboost(_yes, objective="binary:logistic"),
    "binary, a base of its own": lambda: _xgboost(_yes, objective="binary:logistic", base_score=0.2),
    "binary, dart": lambda: _xgboost(_yes, objective="binary:logistic", booster="dart", rate_drop=0.5),
    "binary, random forest": lambda: _xgboost(
        _yes, 2, objective="binary:logistic", num_parallel_tree=5, subsample=0.6, colsample_bynode=0.5
    ),
    "binary, exact and pruned": lambda: _xgboost(_yes, objective="binary:logistic", tree_method="exact", gamma=2.0),
    "raw": lambda: _xgboost(_yes, objective="binary:logitraw"),
    "logistic regression": lambda: _xgboost(_yes, objective="reg:logistic"),
    "classes": lambda: _xgboost(_class, objective="multi:softprob", num_class=3),
    "the likeliest class": lambda: _xgboost(_class, objective="multi:softmax", num_class=3),
    "classes, dart": lambda: _xgboost(
        _class, objective="multi:softprob", num_class=3, booster="dart", rate_drop=0.5, one_drop=1
    ),
    "labels": lambda: _xgboost(_labels, objective="binary:logistic"),
    "labels, dart": lambda: _xgboost(_labels, objective="binary:logistic", booster="dart", rate_drop=0.5, one_drop=1),
    "squared": lambda: _xgboost(_margin, objective="reg:squarederror"),
    "squared, two targets": lambda: _xgboost(lambda x: np.stack([_margin(x), x[:, 3]], axis=1)),
    "absolute": lambda: _xgboost(_margin, objective="reg:absoluteerror"),
    "pseudo-huber": lambda: _xgboost(_margin, objective="reg:pseudohubererror"),
    "quantiles": lambda: _xgboost(_margin, objective="reg:quantileerror", quantile_alpha=[0.1, 0.9]),
    "poisson": lambda: _xgboost(_count, objective="count:poisson"),
    "gamma": lambda: _xgboost(_positive, objective="reg:gamma"),
    "tweedie": lambda: _xgboost(_positive, objective="reg:tweedie", tweedie_variance_power=1.3),
    "one leaf": lambda: _xgboost(_yes, objective="binary:logistic", max_depth=1, gamma=1e9),
    "no tree": lambda: _xgboost(_yes, 0, objective="binary:logistic", base_score=0.3),
    "large values": lambda: _xgboost(lambda x: 1e6 + 1e5 * _margin(x), objective="reg:squarederror"),
    "200 rounds": lambda: _xgboost(_yes, 200, objective="binary:logistic"),
}


def _answers(booster: lightgbm.Booster, rows: Floats32) -> Any:
    """Raw outputs; of a random forest the mean, which it makes a probability of, where ``raw_score`` gives the sum."""
    averaged = "\naverage_output\n" in booster.model_to_string()
    raw = booster.predict(rows, raw_score=True, num_threads=1)
    return np.asarray(raw) / (booster.current_iteration() if averaged else 1)


def _compare(ensemble: TreeEnsemble, rows: Floats32, answers: Any) -> float:
    """The largest difference, as a part of the answer where that is over 1."""
    expected = np.asarray(answers, np.float64).reshape(len(rows), -1)
    raw = OnnxScorer(checked_export(ensemble, rows, expected)).raw(rows)
    return float((np.abs(raw - expected) / np.maximum(1.0, np.abs(expected))).max())


@pytest.mark.parametrize("kind", LIGHTGBM)
def test_a_lightgbm_model_answers_as_in_its_library(kind: str) -> None:
    booster = LIGHTGBM[kind]()
    ensemble = read_lightgbm(_text(booster))
    rows = _trying(ensemble, infinite=True)
    assert _compare(ensemble, rows, _answers(booster, rows)) <= TOLERANCE


@pytest.mark.parametrize("kind", ["binary, zeros are missing", "classes", "one leaf", "tweedie"])
def test_a_lightgbm_json_is_the_same_model_as_its_text(kind: str) -> None:
    booster = LIGHTGBM[kind]()
    text = read_lightgbm(_text(booster))
    rows = _trying(text, infinite=True)
    as_json = read_lightgbm(json.dumps(booster.dump_model()).encode())
    first, second = (OnnxScorer(export_trees(each)).raw(rows) for each in (text, as_json))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("kind", XGBOOST)
def test_an_xgboost_model_answers_as_in_its_library(kind: str) -> None:
    booster = XGBOOST[kind]()
    ensemble = read_xgboost(bytes(booster.save_raw("json")))
    rows = _trying(ensemble, infinite=False)
    answers = booster.predict(xgboost.DMatrix(rows, nthread=1), output_margin=True)
    assert _compare(ensemble, rows, answers) <= 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_one_column_of_any_values_is_split_where_the_library_splits_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 1 << 32, 800, np.uint32)
    x = bits.view(np.float32).reshape(-1, 1).copy()
    x[np.isinf(x)] = 0
    y = rng.integers(0, 2, len(x))
    settings = {"objective": "binary", "verbose": -1, "min_data_in_leaf": 1, "num_threads": 1, "max_bin": 4000}
    light = lightgbm.train(settings, lightgbm.Dataset(x, y, params={"min_data_in_bin": 1, "verbose": -1}), 5)
    ensemble = read_lightgbm(_text(light))
    rows = np.concatenate([x, _trying(ensemble, infinite=True)])
    assert _compare(ensemble, rows, _answers(light, rows)) <= TOLERANCE
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(x, y, nthread=1), 5)
    ensemble = read_xgboost(bytes(booster.save_raw("json")))
    rows = np.concatenate([x, _trying(ensemble, infinite=False)])
    assert _compare(ensemble, rows, booster.predict(xgboost.DMatrix(rows, nthread=1), output_margin=True)) <= 1e-6


def test_a_row_is_answered_alone_as_in_any_batch_to_the_bit() -> None:
    scorer = OnnxScorer(export_trees(read_lightgbm(_text(LIGHTGBM["classes"]()))))
    rows = _features(400)
    alone = np.concatenate([scorer.raw(row[None]) for row in rows])
    assert np.array_equal(scorer.raw(rows), alone)


def _categories() -> bytes:
    x = _features()
    x[:, 1] = np.abs(np.nan_to_num(x[:, 1]))
    data = lightgbm.Dataset(x, _yes(x), categorical_feature=[1], params={"verbose": -1})
    settings = {
        "objective": "binary",
        "verbose": -1,
        "cat_smooth": 0,
        "min_data_per_group": 1,
        "cat_l2": 0,
        "num_threads": 1,
    }
    return _text(lightgbm.train(settings, data, 5))


def _xgboost_categories() -> bytes:
    x = _features()
    x[:, 1] = np.abs(np.nan_to_num(x[:, 1]))
    data = xgboost.DMatrix(x, _yes(x), feature_types=["q", "c", "q", "q"], enable_categorical=True, nthread=1)
    return bytes(xgboost.train({"tree_method": "hist", "nthread": 1}, data, 3).save_raw("json"))


def _own_objective() -> bytes:
    def squared(scores: Floats, data: Any) -> tuple[Any, Any]:
        return scores - data.get_label(), np.ones(len(scores))

    return _text(_lightgbm(_margin, objective=squared))


def _stopped_early() -> bytes:
    booster = _xgboost(_yes, objective="binary:logistic")
    booster.set_attr(best_iteration="3")
    return bytes(booster.save_raw("json"))


def _linear_leaves() -> bytes:
    return _text(_lightgbm(_margin, objective="regression", linear_tree=True))


def _plain() -> bytes:
    return _text(LIGHTGBM["binary"]())


def _plain_xgboost(change: Callable[[Any], None]) -> bytes:
    document = json.loads(XGBOOST["binary"]().save_raw("json"))
    change(document["learner"]["gradient_booster"]["model"]["trees"][0])
    return json.dumps(document).encode()


OUTSIDE: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "LightGBM's categories": (_categories, "splits on categories"),
    "LightGBM's linear leaves": (_linear_leaves, "linear models in its leaves"),
    "LightGBM's own objective": (_own_objective, "objective 'custom'"),
    "LightGBM's sigmoid of another slope": (
        lambda: _text(_lightgbm(_yes, objective="binary", sigmoid=2.0)),
        "objective 'binary sigmoid:2'",
    ),
    "LightGBM's square root": (
        lambda: _text(_lightgbm(_positive, objective="regression", reg_sqrt=True)),
        "objective 'regression sqrt'",
    ),
    "LightGBM's one against all of another slope": (
        lambda: _text(_lightgbm(_class, objective="multiclassova", num_class=3, sigmoid=0.5)),
        "objective 'multiclassova num_class:3 sigmoid:0.5'",
    ),
    "LightGBM's ranks": (lambda: _plain().replace(b"=binary sigmoid:1", b"=lambdarank"), "objective 'lambdarank'"),
    "LightGBM's text, cut": (lambda: _plain()[:900], "is no text of LightGBM"),
    "LightGBM's text, a wrong child": (lambda: _plain().replace(b"left_child=", b"left_child=7"), "model"),
    "XGBoost's categories": (_xgboost_categories, "categor"),
    "XGBoost's linear booster": (
        lambda: bytes(
            xgboost.train(
                {"booster": "gblinear", "nthread": 1}, xgboost.DMatrix([[1.0], [2.0]], [0, 1], nthread=1), 2
            ).save_raw("json")
        ),
        "booster 'gblinear'",
    ),
    "XGBoost's hinge": (
        lambda: bytes(_xgboost(_yes, objective="binary:hinge").save_raw("json")),
        "objective 'binary:hinge'",
    ),
    "XGBoost's trees of several outputs": (
        lambda: bytes(
            _xgboost(_class, objective="multi:softprob", num_class=3, multi_strategy="multi_output_tree").save_raw(
                "json"
            )
        ),
        "several outputs a leaf",
    ),
    "XGBoost that stopped early": (_stopped_early, r"save booster\[: 4\]"),
    "XGBoost's binary form": (lambda: bytes(XGBOOST["one leaf"]().save_raw("ubj")), "is no JSON of XGBoost"),
    "XGBoost with a cycle": (
        lambda: _plain_xgboost(lambda tree: tree["left_children"].__setitem__(1, 0)),
        "XGBoost",
    ),
    "XGBoost with a column that is not there": (
        lambda: _plain_xgboost(lambda tree: tree["split_indices"].__setitem__(0, 99)),
        "a split on column 99 of 4",
    ),
    "XGBoost with lists of other lengths": (
        lambda: _plain_xgboost(lambda tree: tree["split_conditions"].pop()),
        "is no JSON of XGBoost",
    ),
}


@pytest.mark.parametrize("kind", OUTSIDE)
def test_what_was_never_compared_is_refused_by_name(kind: str) -> None:
    make, reason = OUTSIDE[kind]
    read = read_lightgbm if kind.startswith("LightGBM") else read_xgboost
    with pytest.raises(BadArtifact, match=reason):
        read(make())


def test_answers_of_another_model_are_refused_at_export() -> None:
    ensemble = read_lightgbm(_plain())
    rows = _features(50)
    answers = OnnxScorer(export_trees(ensemble)).raw(rows)
    answers[17] += 3e-5
    with pytest.raises(BadArtifact, match="apart from LightGBM on row 17"):
        checked_export(ensemble, rows, answers)
    with pytest.raises(BadInput, match="give its raw outputs of these very rows"):
        checked_export(ensemble, rows[:3], answers)
    answers[17] = np.nan
    with pytest.raises(BadArtifact, match="apart from LightGBM"):
        checked_export(ensemble, rows, answers)


def test_an_ensemble_says_where_it_is_from() -> None:
    ensemble = read_xgboost(bytes(XGBOOST["classes"]().save_raw("json")))
    assert (ensemble.library, ensemble.objective, ensemble.outputs) == ("XGBoost", "multi:softprob", 3)
    assert {tree.output for tree in ensemble.trees} == {0, 1, 2}
    assert all(tree.feature[0] != LEAF for tree in ensemble.trees)


LINKED: Mapping[LinkName, Callable[[Floats], Floats]] = {
    "logistic": lambda raw: np.asarray(1 / (1 + np.exp(-raw))),
    "softmax": lambda raw: np.asarray(np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)),
    "identity": lambda raw: raw,
    "exponential": lambda raw: np.asarray(np.exp(raw)),
}


@pytest.mark.parametrize("kind", [f"LightGBM {kind}" for kind in LIGHTGBM] + [f"XGBoost {kind}" for kind in XGBOOST])
def test_an_ensemble_says_how_its_raw_outputs_become_predictions(kind: str) -> None:
    library, _, name = kind.partition(" ")
    rows = _features(200, 5)
    if library == "LightGBM":
        light = LIGHTGBM[name]()
        ensemble, expected = read_lightgbm(_text(light)), light.predict(rows, num_threads=1)
    else:
        booster = XGBOOST[name]()
        ensemble = read_xgboost(bytes(booster.save_raw("json")))
        expected = booster.predict(xgboost.DMatrix(rows, nthread=1))
    answered = LINKED[ensemble.link](OnnxScorer(export_trees(ensemble)).raw(rows))
    if ensemble.objective == "multi:softmax":  # predicts the class itself
        answered = answered.argmax(axis=1)
    elif ensemble.objective == "binary:logitraw":
        expected = 1 / (1 + np.exp(-expected.astype(float)))
    assert answered.reshape(np.shape(expected)) == pytest.approx(np.asarray(expected, float), rel=1e-5, abs=1e-5)


def test_an_ensemble_says_its_quantiles() -> None:
    found = [
        read_xgboost(bytes(XGBOOST["quantiles"]().save_raw("json"))).quantiles,
        read_lightgbm(_text(LIGHTGBM["quantile"]())).quantiles,
        read_lightgbm(_text(LIGHTGBM["absolute"]())).quantiles,
        read_xgboost(bytes(XGBOOST["squared"]().save_raw("json"))).quantiles,
    ]
    assert found == [(0.1, 0.9), (0.9,), (), ()]
    wrong = json.loads(XGBOOST["quantiles"]().save_raw("json"))
    wrong["learner"]["objective"]["quantile_loss_param"]["quantile_alpha"] = "[0.5]"
    with pytest.raises(BadArtifact, match="1 quantiles for 2 outputs"):
        read_xgboost(json.dumps(wrong).encode())


def test_a_quantile_that_a_document_does_not_tell_is_refused() -> None:
    document = json.dumps(LIGHTGBM["quantile"]().dump_model()).encode()
    with pytest.raises(BadArtifact, match=r"a quantile that it does not tell; save it by save_model\('model.txt'\)"):
        read_lightgbm(document)


def test_infinite_thresholds_are_infinite_in_json_too() -> None:
    booster = _lightgbm(_margin, objective="regression", max_bin=2)
    rows = np.array([[value] * WIDTH for value in (np.inf, -np.inf, 3.4e38, np.nan)], np.float32)
    ensemble = read_lightgbm(json.dumps(booster.dump_model()).encode())
    assert any(np.isinf(tree.threshold).any() for tree in ensemble.trees)
    assert _compare(ensemble, rows, _answers(booster, rows)) <= TOLERANCE


@pytest.mark.parametrize("objective", ["gamma", "tweedie", "poisson"])
def test_values_that_were_learned_as_logarithms_are_answered_as_values(objective: str) -> None:
    booster = LIGHTGBM[objective]()
    data = export_trees(read_lightgbm(_text(booster)), exponential=True)
    rows = _features(300, 11)
    assert OnnxScorer(data).raw(rows)[:, 0] == pytest.approx(booster.predict(rows, num_threads=1), rel=1e-5)


def test_models_of_one_column_each_are_one_of_several() -> None:
    models = [_lightgbm(_margin, objective="quantile", alpha=alpha) for alpha in (0.9, 0.1)]
    one = joined([read_lightgbm(_text(model)) for model in models])
    rows = _features(300, 11)
    expected = np.stack([model.predict(rows, num_threads=1) for model in models], axis=1)
    assert one.quantiles == (0.9, 0.1)
    assert OnnxScorer(export_trees(one)).raw(rows) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    with pytest.raises(BadArtifact, match="objective regression beside a model that has quantile"):
        joined([read_lightgbm(_text(models[0])), read_lightgbm(_text(_lightgbm(_margin, objective="regression")))])


def test_equal_models_give_equal_files() -> None:
    first, second = (export_trees(read_lightgbm(_plain())) for _ in range(2))
    assert first == second


NAMES = ("a", "b", "c", "d")


def _bundle(store: Path, ensemble: TreeEnsemble, beside: Mapping[str, bytes]) -> str:
    zero = "sha256:" + "0" * 64
    features = tuple(Feature(name=name, dtype="float", view="request") for name in NAMES)
    manifest = BundleManifest(
        format="onnx",
        task="trees",
        variant="trees",
        recipe=Recipe(name="trees", description="for tests", features=NAMES),
        features=FeatureManifest(
            service="trees", service_digest=zero, entity_keys=("key",), request_inputs=(), features=features
        ),
        encoder=Encoder(columns=tuple(RawCode(name=name) for name in NAMES)),
        threshold=0.5,
        provenance=Provenance(data=zero, frame=zero, recipe=zero, code=zero, window=("2020-01-01", "2020-02-01")),
        profiles={name: profile_of(pl.Series(name, [0.0, 1.0])) for name in NAMES},
    )
    return write_bundle(store, manifest, {"model.onnx": export_trees(ensemble), **beside})


@pytest.mark.parametrize("library", ["XGBoost", "LightGBM"])
def test_the_real_server_answers_every_row_as_the_library(library: str, tmp_path: Path) -> None:
    if library == "XGBoost":
        document = bytes(XGBOOST["binary"]().save_raw("json"))
        ensemble, beside = read_xgboost(document), {"trees.json": document}
    else:
        text = _text(LIGHTGBM["binary"]())
        ensemble, beside = read_lightgbm(text), {"booster.json": json.dumps({"lightgbm": text.decode()}).encode()}
    rows = np.concatenate([_features(), _trying(ensemble, infinite=False)])
    digest = _bundle(tmp_path / "bundles", ensemble, beside)
    bundle = load_bundle(bundle_directory(tmp_path / "bundles", digest), digest)
    table = pl.DataFrame(rows.astype(np.float64), schema=list(NAMES)).fill_nan(None)
    found_library, expected = said_by_library(bundle, table)
    assert found_library == library
    by_protocol = compare_served(bundle, table, expected, tmp_path)
    assert [(each.protocol, each.rows) for each in by_protocol] == [("v1", len(rows)), ("v2", len(rows))]
    assert all(each.incomplete > 0 and each.apart <= TOLERANCE for each in by_protocol)
