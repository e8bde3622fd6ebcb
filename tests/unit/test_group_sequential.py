"""Fixed looks: published tables, the multivariate normal as an oracle, and what looking more often does to them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sluice.gates.group_sequential import alpha_spending, boundaries
from sluice.gates.sequential import critical_value
from tests.support.coverage import ALPHA, allowed


@pytest.mark.parametrize(
    ("looks", "published"),
    [
        (2, (2.963, 1.969)),
        (3, (3.710, 2.511, 1.993)),
        (5, (4.877, 3.357, 2.680, 2.290, 2.031)),
    ],
)
def test_bounds_are_the_published_ones(looks: int, published: tuple[float, ...]) -> None:
    """Lan & DeMets with the O'Brien-Fleming-like spending, two-sided 0.05, as ldbounds and textbooks tabulate them."""
    assert boundaries(looks, 0.05) == pytest.approx(published, abs=1.5e-3)


def test_they_lie_beside_the_classic_o_brien_fleming_bounds() -> None:
    """4.56, 3.23, 2.63, 2.28, 2.04 (O'Brien & Fleming 1979): one constant over the square root of the share."""
    classic = (4.56, 3.23, 2.63, 2.28, 2.04)
    assert np.allclose(boundaries(5, 0.05)[1:], classic[1:], atol=0.15)
    assert _crossing(classic) == pytest.approx(0.05, abs=1e-3)


@pytest.mark.parametrize(("looks", "alpha"), [(2, 0.05), (4, 0.02), (6, 0.1)])
def test_they_spend_what_the_multivariate_normal_says(looks: int, alpha: float) -> None:
    found = boundaries(looks, alpha)
    for number in range(1, looks + 1):
        assert _crossing(found[:number]) == pytest.approx(alpha_spending(number / looks, alpha), abs=2e-4)
    assert alpha_spending(1.0, alpha) == pytest.approx(alpha)


def _crossing(bounds: tuple[float, ...]) -> float:
    """Chance that standardised sums of equal increments leave the bounds at any of the first looks."""
    times = np.arange(1, len(bounds) + 1)
    correlation = np.sqrt(np.minimum(times[:, None], times) / np.maximum(times[:, None], times))
    normal = stats.multivariate_normal(np.zeros(len(bounds)), correlation, seed=5, maxpts=200_000, abseps=1e-6)
    return 1 - float(normal.cdf(np.array(bounds), lower_limit=-np.array(bounds)))


def test_twenty_looks_never_ask_for_nonsense() -> None:
    found = boundaries(20, 0.01)
    assert list(found) == sorted(found, reverse=True)
    assert found[0] == math.inf
    assert 2.576 < found[-1] < 2.8


def test_the_planned_looks_keep_alpha_and_more_looks_do_not() -> None:
    draw, runs = np.random.default_rng(31), 4000
    sums = draw.normal(0, 1, (runs, 100)).cumsum(axis=1)
    z = np.abs(sums) / np.sqrt(np.arange(1, 101))
    bounds = np.array(boundaries(5, ALPHA))
    planned = (z[:, 19::20] > bounds).any(axis=1).mean()
    every = (z > np.repeat(bounds, 20)).any(axis=1).mean()
    assert 0.5 * ALPHA < planned <= allowed(runs)
    assert every > 1.3 * ALPHA
    missed_two = (z[:, [39, 79, 99]] > bounds[[1, 3, 4]]).any(axis=1).mean()
    assert missed_two <= allowed(runs)


def test_they_need_less_than_a_sequence_for_every_look() -> None:
    assert boundaries(5, 0.05)[-1] < 0.8 * critical_value(1000, 0.05, 1000)
