"""Sums of floating-point numbers without rounding: the same in every order, however the rows are cut into parts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

_LOWEST = 1200
"""Sums are integers in units of 2**-_LOWEST: below the last bit of the smallest number."""
_MANTISSA, _HALF = 53, 26
_CHUNK = 1 << 24
"""Halves of so many mantissas add up without a rounding in float64."""
_LARGE, _SMALL = 500, -400
"""Binary exponents beyond which a square is taken of the scaled number, for it would overflow or lose bits."""


def exact_sum(values: np.ndarray) -> int:
    """The sum of finite ``values`` (float64, any shape), in units of 2**-1200."""
    flat, total = np.ascontiguousarray(values, dtype=np.float64).ravel(), 0
    for start in range(0, flat.size, _CHUNK):
        total += _chunk_sum(flat[start : start + _CHUNK])
    return total


def _chunk_sum(values: np.ndarray) -> int:
    fractions, exponents = np.frexp(values)
    mantissas = np.ldexp(fractions, _MANTISSA).astype(np.int64)
    places = exponents.astype(np.int64) + _LOWEST
    high = np.bincount(places, weights=(mantissas >> _HALF).astype(np.float64))
    low = np.bincount(places, weights=(mantissas & ((1 << _HALF) - 1)).astype(np.float64))
    occupied = np.flatnonzero((high != 0) | (low != 0))
    return sum(((int(high[place]) << _HALF) + int(low[place])) << (int(place) - _MANTISSA) for place in occupied)


def exact_moments(values: np.ndarray, weights: np.ndarray | None = None) -> tuple[Fraction, Fraction]:
    """
    The weighted sum of finite numbers, and that of their squares.

    Exact but for what is below 2**-900 of the largest; a weight times its number is rounded once.

    Args:
        values: float64 of shape (n,).
        weights: float64 of shape (n,), at most 1e30; 1 each where it is left out.
    """
    total, squares = Fraction(0), Fraction(0)
    exponents = np.frexp(values)[1]
    for group, shift in (
        (exponents > _LARGE, -600),
        (exponents < _SMALL, 600),
        ((exponents <= _LARGE) & (exponents >= _SMALL), 0),
    ):
        if not group.any():
            continue
        scaled = np.ldexp(values[group], shift)
        weighed = scaled if weights is None else scaled * weights[group]
        product, rest = _products(weighed, scaled)
        total += as_fraction(exact_sum(weighed)) / Fraction(2) ** shift
        squares += as_fraction(exact_sum(product) + exact_sum(rest)) / Fraction(2) ** (2 * shift)
    return total, squares


def _products(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each product as a rounded number, and what the rounding took (Dekker 1971)."""
    product = one * other
    (high, low), (other_high, other_low) = _halves(one), _halves(other)
    return product, ((high * other_high - product) + high * other_low + low * other_high) + low * other_low


def _halves(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    split = values * 134217729.0
    high = split - (split - values)
    return high, values - high


def as_fraction(total: int) -> Fraction:
    """What an ``exact_sum`` is."""
    return Fraction(total, 1 << _LOWEST)


def nearest(value: Fraction) -> float:
    """The nearest float64; infinite where none is."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def square_root(value: Fraction) -> float:
    """The root of a number that is not negative, also where it does not fit into float64 itself."""
    if value <= 0:
        return 0.0
    shift = (value.numerator.bit_length() - value.denominator.bit_length()) // 2
    return nearest(Fraction(np.sqrt(float(value / Fraction(4) ** shift))) * Fraction(2) ** shift)
