"""
Linear models of each loss: what a model has to beat, without a library for it.

Designs are (n, d) with the intercept's ones last; coefficients (d, k) give raw outputs ``design @ coefficients``. All
coefficients but the intercept's are held by the same ridge. They are rounded: the bits behind depend on how many
threads took part in the sums.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sluice.arrays import Floats
from sluice.targets.kind import TrainingLoss
from sluice.targets.probabilities import sigmoid

_RIDGE = 1.0
_ITERATIONS = 25
_CONVERGED = 1e-8
_MOST_ROWS = 30_000
_FEWEST_ROWS = 3_000
_FEW_OUTPUTS = 10
"""
Rows, evenly spread, that models learn from which take many passes or have several outputs: they have far fewer
coefficients. Beyond ten outputs rows become fewer as outputs become more, so that the work stays the same.
"""
_PASSES = 100
_LARGEST_STEP = 3.0
_LARGEST_LOG = 30.0
_NEAR = 1e-4
"""A residual smaller than this part of the labels' spread counts as this large, so that none decides alone."""


def logistic(x: Floats, y: Floats, outputs: int, _loss: TrainingLoss) -> Floats:
    """Logistic regression of each column of labels (n, outputs) of 0 and 1."""
    if outputs > 1:
        x, y = _some(x, y, outputs)
    columns = [_newton(x, y[:, output], sigmoid, lambda p: p * (1 - p)) for output in range(outputs)]
    return np.stack(columns, axis=1).round(9)


def rates(x: Floats, y: Floats, _outputs: int, _loss: TrainingLoss) -> Floats:
    """Poisson regression of counts (n, 1): the logarithm of the rate is linear."""
    start = np.zeros(x.shape[1])
    start[-1] = np.log(y.mean())
    beta = _newton(x, y[:, 0], _rate, lambda rate: rate, start, _LARGEST_STEP)
    return beta[:, np.newaxis].round(9)


def squared(x: Floats, y: Floats, _outputs: int, _loss: TrainingLoss) -> Floats:
    """Ridge regression of values (n, 1)."""
    return np.asarray(np.linalg.solve(x.T @ x + np.diag(_ridge(x)), x.T @ y), np.float64).round(9)


def quantiles(x: Floats, y: Floats, outputs: int, loss: TrainingLoss) -> Floats:
    """
    The median, or each quantile, of values (n, 1).

    By majorization (Hunter, Lange 2000, "Quantile regression via an MM algorithm"): weighted least squares, again and
    again, in which a residual r has the weight 1 / |r|.
    """
    x, y = _some(x, y, outputs)
    columns = []
    for level in loss.quantiles or (0.5,):
        beta = np.zeros(x.shape[1])
        beta[-1] = np.quantile(y, level)
        for _ in range(_ITERATIONS):
            weights = 1 / (_NEAR + np.abs(y[:, 0] - x @ beta))
            weighted = x * weights[:, np.newaxis]
            beta = np.linalg.solve(
                weighted.T @ x + np.diag(_ridge(x)), weighted.T @ y[:, 0] + (2 * level - 1) * x.sum(0)
            )
        columns.append(beta)
    return np.stack(columns, axis=1).round(6)


def softmax(x: Floats, y: Floats, outputs: int, _loss: TrainingLoss) -> Floats:
    """
    Multinomial logistic regression of class numbers (n, 1).

    Half of the plain Gram matrix bounds the curvature of every class (Böhning 1992, "Multinomial logistic regression
    algorithm"), so one factorization serves all steps; momentum as of Nesterov.
    """
    x, y = _some(x, y, outputs)
    ridge = _ridge(x)[:, np.newaxis]
    due = np.eye(outputs)[y[:, 0].astype(np.intp)]
    inverse = np.linalg.inv(x.T @ x / 2 + np.diag(ridge[:, 0]))
    beta = np.zeros((x.shape[1], outputs))
    beta[-1] = np.log(np.maximum(due.mean(axis=0), 1 / len(x)))
    ahead = beta
    for number in range(_PASSES):
        eta = x @ ahead
        powers = np.exp(eta - eta.max(axis=1, keepdims=True))
        gradient = x.T @ (due - powers / powers.sum(axis=1, keepdims=True)) - ridge * ahead
        after = ahead + inverse @ gradient
        ahead = after + number / (number + 3) * (after - beta)
        beta = after
    return beta.round(6)


def _newton(
    x: Floats,
    y: Floats,
    mean: Callable[[Floats], Floats],
    variance: Callable[[Floats], Floats],
    start: Floats | None = None,
    largest: float = np.inf,
) -> Floats:
    """
    Coefficients (d,) by iteratively reweighted least squares (Hastie, Tibshirani, Friedman 2009, section 4.4.1).

    No step moves an output by more than ``largest``.
    """
    ridge = _ridge(x)
    beta = np.zeros(x.shape[1]) if start is None else start
    for _ in range(_ITERATIONS):
        p = mean(x @ beta)
        gradient = x.T @ (y - p) - ridge * beta
        step = np.linalg.solve((x * variance(p)[:, None]).T @ x + np.diag(ridge), gradient)
        if np.isfinite(largest):
            step = step * min(1.0, largest / max(float(np.abs(x @ step).max()), _CONVERGED))
        beta = beta + step
        if np.abs(step).max() < _CONVERGED:
            break
    return beta


def _ridge(x: Floats) -> Floats:
    return np.append(np.full(x.shape[1] - 1, _RIDGE), 1e-9)


def _rate(logs: Floats) -> Floats:
    return np.exp(np.clip(logs, -_LARGEST_LOG, _LARGEST_LOG))


def _some(x: Floats, y: Floats, outputs: int) -> tuple[Floats, Floats]:
    most = max(_FEWEST_ROWS, _MOST_ROWS * _FEW_OUTPUTS // max(outputs, _FEW_OUTPUTS))
    step = max(1, -(-len(x) // most))
    return x[::step], y[::step]
