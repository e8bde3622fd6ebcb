"""Distances between distributions: bounds, symmetry, and what they must notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.data.divergence import FeatureProfile, baseline_masses, divergence, jensen_shannon, masses, profile_of
from sluice.errors import BadInput

_NUMBERS = st.lists(st.none() | st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, float("nan")]), min_size=1)
_WORDS = st.lists(st.none() | st.sampled_from(["a", "b", "c", "ü"]) | st.text(max_size=3), min_size=1)


def _floats(values: Sequence[float | None]) -> pl.Series:
    return pl.Series("x", values, dtype=pl.Float64)


def _words(values: Sequence[str | None]) -> pl.Series:
    return pl.Series("x", values, dtype=pl.String)


@given(_NUMBERS, _NUMBERS)
def test_numeric_divergence_is_bounded_and_zero_for_the_same_values(before: list[float], after: list[float]) -> None:
    profile = profile_of(_floats(before))
    assert 0 <= divergence(profile, _floats(after)) <= 1
    assert divergence(profile, _floats(before)) < 1e-9
    assert np.sum(masses(profile, _floats(after))) == pytest.approx(1)
    assert np.sum(baseline_masses(profile)) == pytest.approx(1)


@given(_WORDS, _WORDS)
def test_categorical_divergence_is_bounded_symmetric_and_zero_for_the_same_values(
    before: list[str], after: list[str]
) -> None:
    forth = divergence(profile_of(_words(before)), _words(after))
    assert 0 <= forth <= 1
    assert divergence(profile_of(_words(before)), _words(before)) < 1e-9
    if len(set(before)) < 64 and len(set(after)) < 64:
        # The values that only one side has are one bin in one direction and several in the other: same distance.
        assert divergence(profile_of(_words(after)), _words(before)) == pytest.approx(forth, abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_jensen_shannon_is_symmetric(left: list[float], right: list[float]) -> None:
    p, q = (np.array(side) + 1e-6 for side in (left, right))
    p, q = p / p.sum(), q / q.sum()
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p))


def test_jensen_shannon_of_a_known_pair() -> None:
    # p=(1,0), q=(1/2,1/2): H(3/4,1/4) - 1/2 = 0.31128 bits.
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx(0.311278, abs=1e-6)
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    family=st.sampled_from(["normal", "uniform", "exponential", "delay"]),
    rows=st.integers(200, 3000),
)
def test_a_change_of_unit_by_sixty_is_seen_in_continuous_data(seed: int, family: str, rows: int) -> None:
    random = np.random.default_rng(seed)
    draws: dict[str, Callable[[], np.ndarray]] = {
        "normal": lambda: random.normal(0, 12, rows),
        "uniform": lambda: random.uniform(20, 600, rows),
        "exponential": lambda: random.exponential(30, rows),
        "delay": lambda: random.lognormal(3, 0.8, rows) - 15,
    }
    draw = draws[family]
    profile = profile_of(pl.Series("x", draw()))
    fresh = draw()
    assert divergence(profile, pl.Series("x", fresh * 60)) > 0.5
    assert divergence(profile, pl.Series("x", fresh / 60)) > 0.5
    assert divergence(profile, pl.Series("x", fresh)) < 0.15


def test_few_distinct_values_have_a_bin_each() -> None:
    profile = profile_of(pl.Series("label", [0] * 74 + [1] * 26, dtype=pl.Int8))
    assert list(profile.edges) == [0, 1]
    assert list(profile.shares) == [0, 0.74, 0.26, 0]
    swapped = pl.Series("label", [1] * 74 + [0] * 26, dtype=pl.Int8)
    assert divergence(profile, swapped) > 0.1


def test_a_constant_differs_from_every_other_constant() -> None:
    profile = profile_of(pl.Series("x", [3.0] * 5))
    assert divergence(profile, pl.Series("x", [3.0] * 9)) == 0
    assert divergence(profile, pl.Series("x", [3.5] * 9)) == 1


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0, 4.0], ["a", "b", "a", "b"]])
def test_nulls_and_nan_are_a_bin_of_their_own(values: list[float | str]) -> None:
    profile = profile_of(pl.Series("x", values))
    gone = pl.Series("x", [None] * 4, dtype=pl.Series(values).dtype)
    assert divergence(profile, gone) == 1
    if profile.kind == "numeric":
        assert divergence(profile, pl.Series("x", [float("nan")] * 4)) == 1
    assert profile_of(gone).null_rate == 1
    assert divergence(profile_of(gone), gone) == 0
    assert divergence(profile_of(gone), pl.Series("x", values)) == 1


def test_values_outside_the_baseline_count_on_their_side() -> None:
    profile = profile_of(pl.Series("x", np.linspace(0, 1, 101)))
    outside = masses(profile, pl.Series("x", [-5.0, float("-inf"), 7.0, float("inf")]))
    assert outside[1] == 0.5
    assert outside[-1] == 0.5


def test_new_categories_count_as_other() -> None:
    profile = profile_of(pl.Series("x", ["a", "a", "b"]))
    assert profile.categories == ("a", "b")
    assert masses(profile, pl.Series("x", ["c", "d", "a", None])) == (0.25, 0.25, 0.0, 0.5)


def test_open_domains_keep_the_most_frequent_values() -> None:
    profile = profile_of(pl.Series("x", [f"plane-{i}" for i in range(200) for _ in range(i + 1)]))
    assert len(profile.categories) == 64
    assert profile.categories[0] == "plane-199"
    assert profile.shares[-1] > 0.3


def test_a_profile_survives_json() -> None:
    profile = profile_of(pl.Series("x", np.random.default_rng(1).normal(size=500)))
    assert FeatureProfile.model_validate_json(profile.model_dump_json()) == profile


def test_what_cannot_be_compared_is_refused() -> None:
    numbers = profile_of(pl.Series("x", [1.0, 2.0]))
    with pytest.raises(BadInput, match="'x': has no values"):
        profile_of(pl.Series("x", [], dtype=pl.Float64))
    with pytest.raises(BadInput, match="'x': has no values"):
        divergence(numbers, pl.Series("x", [], dtype=pl.Float64))
    with pytest.raises(BadInput, match="baseline is numeric"):
        divergence(numbers, pl.Series("x", ["a"]))
    with pytest.raises(BadInput, match="has no profile"):
        profile_of(pl.Series("x", [0]).cast(pl.Datetime("us", "UTC")))


@pytest.mark.parametrize(
    "values",
    [
        [0.0, 1.0, 2.0] * 40,
        [14.62] * 30,
        [0.0] * 30,
        [float(hour) for hour in range(24)] * 9,
        [1e6, 1e6 + 1, 1e6 + 2] * 20,
        [-1.7e308, 0.0, 1.7e308] * 20,
        np.linspace(0, 1, 101).tolist(),
    ],
)
def test_a_shift_by_rounding_is_no_divergence_and_one_by_a_step_is(values: list[float]) -> None:
    before = np.array(values)
    profile = profile_of(_floats(values))
    with np.errstate(over="ignore"):
        copies = [before + 1e-9, before - 1e-9, before * (1 + 1e-9), before * (1 - 1e-9)]
        copies += [before.astype(np.float32).astype(np.float64)] if before.max() < 1e38 else []
    for copy in copies:
        assert divergence(profile, pl.Series("x", copy)) < 1e-9
    step = np.ptp(before / 4) or 1.0
    assert divergence(profile, pl.Series("x", before / 2 + step)) > 0.02


def test_a_shift_by_a_step_of_tiny_values_is_seen() -> None:
    values = np.array([0.0, 1e-9, 2e-9] * 30)
    assert divergence(profile_of(pl.Series("x", values)), pl.Series("x", values + 1e-9)) == pytest.approx(1 / 3)
