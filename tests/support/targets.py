"""Small real and made-up data of each kind of target, with a model's answers: rows, labels, predictions, days."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import polars as pl
from sklearn.datasets import load_diabetes, load_digits, load_linnerud, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, QuantileRegressor
from sklearn.model_selection import cross_val_predict
from sklearn.preprocessing import scale

from sluice.targets.binary import Binary
from sluice.targets.counts import Counts
from sluice.targets.kind import TargetKind
from sluice.targets.multi_class import MultiClass
from sluice.targets.multi_label import MultiLabel
from sluice.targets.regression import Regression

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
QUANTILES = (0.1, 0.5, 0.9)


class TargetSample(NamedTuple):
    """Labels as a span has them, and what a model said: predictions (n, k'), days (n,)."""

    target: TargetKind
    labels: pl.Series
    predictions: np.ndarray
    days: np.ndarray


def _sample(target: TargetKind, labels: pl.Series, predictions: np.ndarray) -> TargetSample:
    days = np.random.default_rng(3).integers(0, 12, len(labels))
    return TargetSample(target, labels, predictions.reshape(len(labels), -1), days)


@cache
def digits() -> TargetSample:
    """Ten classes: handwritten digits of 8 by 8."""
    data = load_digits()
    model = LogisticRegression(max_iter=60, C=0.002)
    scores = cross_val_predict(model, data.data / 16, data.target, cv=3, method="predict_proba")
    return _sample(MultiClass(classes=DIGITS), pl.Series([DIGITS[code] for code in data.target]), scores)


@cache
def wine() -> TargetSample:
    """Three classes, few rows."""
    data = load_wine()
    model = LogisticRegression(max_iter=200)
    scores = cross_val_predict(model, scale(data.data[:, :4]), data.target, cv=3, method="predict_proba")
    names = tuple(map(str, data.target_names))
    return _sample(MultiClass(classes=names, top=2), pl.Series([names[code] for code in data.target]), scores)


@cache
def diabetes() -> TargetSample:
    """Progression of a disease, a number."""
    data = load_diabetes()
    values = cross_val_predict(LinearRegression(), data.data, data.target, cv=3)
    return _sample(Regression(tolerance=5), pl.Series(data.target, dtype=pl.Float64), values)


@cache
def diabetes_quantiles() -> TargetSample:
    """The same by quantiles."""
    data = load_diabetes()
    models = (QuantileRegressor(quantile=quantile, alpha=0) for quantile in QUANTILES)
    values = np.sort(np.stack([model.fit(data.data, data.target).predict(data.data) for model in models], 1), axis=1)
    return _sample(Regression(loss="pinball", quantiles=QUANTILES), pl.Series(data.target, dtype=pl.Float64), values)


@cache
def exercises() -> TargetSample:
    """Which exercises somebody does more of than the middle: linnerud, seen twenty times with noise."""
    data, rng = load_linnerud(), np.random.default_rng(5)
    names = tuple(name.lower() for name in data.feature_names)
    above = np.tile(data.data > np.median(data.data, axis=0), (20, 1))
    logits = np.where(above, 0.8, -0.9) + rng.normal(0, 1.2, above.shape)
    labels = pl.Series([[names[i] for i in np.flatnonzero(row)] for row in above], dtype=pl.List(pl.String))
    return _sample(MultiLabel(names=names), labels, 1 / (1 + np.exp(-logits)))


@cache
def visits() -> TargetSample:
    """Made-up counts that follow a rate."""
    rng = np.random.default_rng(7)
    x = rng.normal(0, 1, (500, 3))
    counts = rng.poisson(np.exp(0.3 + x @ [0.5, -0.4, 0.0]))
    return _sample(Counts(), pl.Series(counts, dtype=pl.Int64), PoissonRegressor(alpha=0).fit(x, counts).predict(x))


@cache
def clicks() -> TargetSample:
    """Yes or no."""
    rng = np.random.default_rng(9)
    logit = rng.normal(-0.5, 1.2, 500)
    labels = pl.Series((rng.random(500) < 1 / (1 + np.exp(-logit))).astype(np.int8))
    return _sample(Binary(), labels, 1 / (1 + np.exp(-logit * 1.3)))


SAMPLES: tuple[Callable[[], TargetSample], ...] = (
    clicks,
    digits,
    wine,
    exercises,
    diabetes,
    diabetes_quantiles,
    visits,
)
