"""What each loss is in numbers: where a network begins, what XGBoost measures, and linear models beside a library's."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression, PoissonRegressor, QuantileRegressor, Ridge

from sluice.arrays import Floats
from sluice.targets.kind import TargetKind, TrainingLoss
from sluice.targets.registry import BINARY
from sluice.training import linear_models
from sluice.training.baselines import _rounded
from sluice.training.boosting import TreeSettings, boost, margins, unwatched_trees
from sluice.training.frame import EncodedSplit
from sluice.training.loss_forms import LOSS_FORMS
from sluice.training.objective import objective_of
from tests.support.kind_frames import KINDS, labelled

TARGETS: dict[str, TargetKind] = {name: target for name, (target, _) in KINDS.items()}
ALL = {"binary": BINARY, **TARGETS}


def _split(name: str) -> EncodedSplit:
    rows = labelled(name) if name in KINDS else labelled("mean").with_columns(label=pl.col("label") > 40)
    x = rows.select("size", "price").to_numpy().astype(np.float32)
    return EncodedSplit(rows["example_id"], x, ALL[name].codes(rows["label"]).astype(np.float32))


@pytest.mark.parametrize("name", list(TARGETS))
def test_a_network_begins_with_what_the_target_says_of_rows_of_which_nothing_is_known(name: str) -> None:
    split = _split(name)
    objective = objective_of(TARGETS[name], split.y)
    raw = objective.raw(objective.start[np.newaxis])
    assert objective.target.link(raw)[0] == pytest.approx(objective.target.constant(split.y), rel=1e-6)
    assert (np.abs(objective.start) < 5).all()


def test_classes_that_are_balanced_begin_even() -> None:
    objective = objective_of(BINARY, _split("binary").y)
    assert not objective.start.any()
    assert objective.weight != 1


@pytest.mark.parametrize("name", list(ALL))
def test_what_xgboost_measures_is_the_target_s_loss(name: str) -> None:
    """So that trees stop by it, and their curve is in its unit."""
    split = _split(name)
    tune = EncodedSplit(split.ids[:500], split.x[:500], split.y[:500])
    objective = objective_of(ALL[name], split.y)
    settings = TreeSettings(rounds=6, patience=0, learning_rate=0.3)
    booster, losses = boost(split, tune, settings, objective, 1, lambda _line: None)
    for part, values in ((split, losses["train"]), (tune, losses["tune"])):
        assert values.shape == (6,)
        assert values[-1] == pytest.approx(objective.mean_loss(part.y, margins(booster, part.x)), rel=5e-3)
        assert values[-1] < values[0]


@pytest.mark.parametrize("small", [1e-6, 1e-30])
@pytest.mark.parametrize("name", ["mean", "median", "quantiles"])
def test_trees_learn_small_values_as_they_learn_large_ones(name: str, small: float) -> None:
    """XGBoost's least gain of a split is a number, and its square of a millionth is below it."""
    split, target = _split(name), TARGETS[name]
    settings = TreeSettings(rounds=6, patience=2, learning_rate=0.3)
    factor = np.float32(2.0 ** np.round(np.log2(small)))
    answers = []
    for scale in (np.float32(1), factor):
        part = EncodedSplit(split.ids, split.x, split.y * scale)
        booster, losses = boost(part, part, settings, objective_of(target, part.y), 1, lambda _line: None)
        own = objective_of(target, part.y).mean_loss(part.y, margins(booster, part.x))
        assert losses["tune"][-1] == pytest.approx(own, rel=5e-3)
        again = unwatched_trees(part, settings, objective_of(target, part.y), 1)
        answers.append(np.stack([margins(each, part.x) for each in (booster, again)]) / scale)
    assert np.ptp(answers[1]) > 10
    assert answers[1] == pytest.approx(answers[0], rel=1e-5, abs=1e-3)


def test_baselines_of_small_values_are_not_rounded_away() -> None:
    said = np.array([[1.23456789e-20], [4.0e-20], [-2.0e-20]])
    assert _rounded(said, LOSS_FORMS["squared"]) == pytest.approx(said, rel=1e-9)
    share = np.array([[1 / 3], [0.1]])
    assert _rounded(share, LOSS_FORMS["logistic"]).tolist() == share.round(12).tolist()
    assert _rounded(share * 1e6, LOSS_FORMS["squared"]).tolist() == (share * 1e6).round(12).tolist()


def _design(n: int = 3000) -> Floats:
    x = np.random.default_rng(4).normal(0, 1, (n, 4))
    x[:, 1] = np.abs(x[:, 1])
    return np.column_stack([x, np.ones(n)])


def _truth(x: Floats) -> Floats:
    return x @ [0.8, -0.5, 0.3, 0.0, 0.4]


def test_classes_have_the_coefficients_of_a_library() -> None:
    x = _design()
    scores = np.stack([_truth(x), -_truth(x[::-1]), np.zeros(len(x))], axis=1)
    y = (scores + np.random.default_rng(1).gumbel(size=scores.shape)).argmax(axis=1)
    ours = linear_models.softmax(x, y[:, np.newaxis].astype(float), 3, TrainingLoss("softmax"))
    theirs = LogisticRegression(C=1.0, tol=1e-8, max_iter=500).fit(x[:, :-1], y)
    assert pytest.approx(theirs.coef_, abs=2e-3) == (ours - ours.mean(axis=1, keepdims=True))[:-1].T


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_quantiles_lose_no_more_than_a_library_s(level: float) -> None:
    x = _design(800)
    y = _truth(x) + np.random.default_rng(2).standard_t(2, len(x))
    ours = x @ linear_models.quantiles(x, y[:, np.newaxis], 1, TrainingLoss("pinball", (level,)))[:, 0]
    theirs = QuantileRegressor(quantile=level, alpha=0).fit(x[:, :-1], y).predict(x[:, :-1])
    losses = [float(np.maximum(level * (y - said), (level - 1) * (y - said)).mean()) for said in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


def test_rates_and_values_have_the_coefficients_of_a_library() -> None:
    x = _design()
    counts = np.random.default_rng(3).poisson(50 * np.exp(_truth(x))).astype(float)
    ours = linear_models.rates(x, counts[:, np.newaxis], 1, TrainingLoss("poisson"))[:, 0]
    theirs = PoissonRegressor(alpha=1 / counts.size, tol=1e-10, max_iter=2000).fit(x[:, :-1], counts)
    assert ours == pytest.approx(np.append(theirs.coef_, theirs.intercept_), abs=1e-3)
    values = linear_models.squared(x, counts[:, np.newaxis], 1, TrainingLoss("squared"))[:, 0]
    ridge = Ridge(alpha=1.0).fit(x[:, :-1], counts)
    assert values == pytest.approx(np.append(ridge.coef_, ridge.intercept_), rel=1e-6, abs=1e-6)


def test_every_loss_that_a_target_can_name_has_its_forms() -> None:
    assert {target.training_loss.name for target in ALL.values()} == set(LOSS_FORMS)
