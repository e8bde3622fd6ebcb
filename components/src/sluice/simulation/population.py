"""
The requests that a world draws from, with what both models would say to each; the truth of a world is a mean over it.

A request has a risk (log odds η of a positive label, mean −1.3, standard deviation 1.3: a fifth to a quarter is
positive). Stable sees η through an error that candidate shares (they read the same features) and one of its own (it was
trained on other days). A worse candidate has more error of its own; a better one has less of the shared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from sluice.arrays import Floats
from sluice.targets.probabilities import calibration_covariates

SIZE = 1 << 16
CLIP = 1e-7
_SHARED, _OWN = 0.9, 0.25
_BISECTIONS = 40
_MOST = 0.9
"""Share of the shared error that a better candidate may lose."""
SLICES = 20
"""Slices of equal size that every request falls into one of."""


@dataclass(frozen=True)
class Population:
    """
    ``SIZE`` requests in rising order of risk; drawing a position evenly draws a request fairly.

    All arrays have shape (SIZE,), float64; ``labels`` holds 0 and 1, ``parts`` (int64) the number of the slice.
    """

    labels: Floats
    parts: NDArray[np.int64]
    stable_scores: Floats
    candidate_scores: Floats
    stable_losses: Floats
    candidate_losses: Floats
    gap: float
    """Candidate's mean loss minus stable's: the truth, exactly."""

    @cached_property
    def candidate_expected(self) -> Floats:
        """Log loss that a request's score expects of itself (``Imputed``)."""
        return _entropy(self.candidate_scores)

    @cached_property
    def covariates(self) -> dict[str, Floats]:
        """Of stable's calibration, (SIZE,) each."""
        return calibration_covariates(self.labels, self.stable_scores)

    @cached_property
    def stable_expected(self) -> Floats:
        """As ``candidate_expected``."""
        return _entropy(self.stable_scores)


@lru_cache(maxsize=32)
def population(gap: float, slice_share: float = 1.0) -> Population:
    """
    A population in which the candidate's mean log loss is ``gap`` above stable's.

    Args:
        gap: nats; a negative one is met as far as losing nine tenths of the shared error allows.
        slice_share: share of the requests that carry all of a positive gap: the first slices.
    """
    random = np.random.default_rng(20130101)
    risk = np.sort(random.normal(-1.3, 1.3, SIZE))
    labels = (random.random(SIZE) < _sigmoid(risk)).astype(np.float64)
    shared, first, second, more = (random.normal(0.0, scale, SIZE) for scale in (_SHARED, _OWN, _OWN, 1.0))
    parts = (random.random(SIZE) * SLICES).astype(np.int64)
    in_slice = parts < round(slice_share * SLICES)
    stable = risk + shared + first
    stable_losses = _losses(stable, labels)

    def candidate(size: float) -> Floats:
        if gap < 0:
            return risk + (1 - size * _MOST) * shared + second
        return risk + shared + second + np.where(in_slice, size * more, 0.0)

    def excess(size: float) -> float:
        return float(_losses(candidate(size), labels).mean() - stable_losses.mean()) - gap

    logits = candidate(_solved(excess, 1.0 if gap < 0 else 64.0, rising=gap >= 0))
    losses = _losses(logits, labels)
    mean_gap = float((losses - stable_losses).mean())
    return Population(labels, parts, _sigmoid(stable), _sigmoid(logits), stable_losses, losses, mean_gap)


def _solved(excess: Callable[[float], float], most: float, *, rising: bool) -> float:
    """Where ``excess`` is 0 between 0 and ``most``; the nearer end where it is nowhere."""
    low, high = 0.0, most
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if (excess(middle) > 0) == rising else (middle, high)
    return low


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float64)


def _entropy(scores: Floats) -> Floats:
    scores = np.clip(scores, CLIP, 1 - CLIP)
    return np.asarray(-(scores * np.log(scores) + (1 - scores) * np.log1p(-scores)), dtype=np.float64)


def _losses(logits: Floats, labels: Floats) -> Floats:
    """Log loss in nats, with scores clipped as ``collect_evidence`` clips them."""
    scores = np.clip(_sigmoid(logits), CLIP, 1 - CLIP)
    return np.asarray(-(labels * np.log(scores) + (1 - labels) * np.log1p(-scores)), dtype=np.float64)
