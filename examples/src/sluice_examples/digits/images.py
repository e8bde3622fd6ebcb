"""
The 1,797 images of 8 × 8 that scikit-learn ships, and what this example adds to them: event times and live requests.

The package has neither times nor traffic. Both are made here, by the rules below and one seed, so that two machines
replay the same requests.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BRIGHTEST = 16
"""Grey levels go from 0 to this, both included."""
SEED = 1797
START = datetime(2026, 1, 1, tzinfo=UTC)
A_DAY = 20
"""Images a day before live, one every 72 minutes."""
IMAGES_BEFORE_LIVE = 1500
"""Of the shuffled images; the other 297 are held out, and live requests are drawn from them alone."""
LIVE = START + timedelta(days=IMAGES_BEFORE_LIVE // A_DAY)
LIVE_DAYS = 20
_LIVE_A_DAY = 1440
CHECKED_AFTER = timedelta(hours=2)
"""A person reads the image and says what it was."""
_SHIFT = 0.25
_NOISE = 1


def labelled_images() -> pl.DataFrame:
    """
    The columns of a span for every image before live and every live request, by event time.

    Images are shuffled. Those before live have a row each, and no image is in two of them. A live request is one of the
    held-out images, drawn with replacement and independently of all others, shifted by up to a quarter of a pixel on
    either axis and with up to one grey level of noise on each pixel.
    """
    return _rows().clone()


@functools.cache
def _rows() -> pl.DataFrame:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    random = np.random.default_rng(SEED)
    order = random.permutation(len(bunch.target))
    images, labels = bunch.images[order].astype(np.uint8), bunch.target[order]
    drawn = random.integers(IMAGES_BEFORE_LIVE, len(labels), LIVE_DAYS * _LIVE_A_DAY)
    before = [START + timedelta(days=1) / A_DAY * row for row in range(IMAGES_BEFORE_LIVE)]
    live = [LIVE + timedelta(days=1) / _LIVE_A_DAY * row for row in range(len(drawn))]
    shown = np.concatenate([images[:IMAGES_BEFORE_LIVE], varied(random, images[drawn])])
    names = np.concatenate([labels[:IMAGES_BEFORE_LIVE], labels[drawn]])
    of = [*order[:IMAGES_BEFORE_LIVE], *order[drawn]]
    times = pl.Series([*before, *live], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame(
        {
            # Which image it is of, so that a wrong answer can be looked up in the package.
            "example_id": [f"r{row:05d}-image-{image:04d}" for row, image in enumerate(of)],
            "event_time": times,
            "label_time": times + CHECKED_AFTER,
            "label": [CLASSES[label] for label in names],
            "image": shown,
        }
    )


def varied(random: np.random.Generator, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """
    Images as they might have been scanned another time.

    Args:
        random: gives shifts and noise.
        images: (n, 8, 8) grey levels.

    Returns:
        (n, 8, 8) each moved by a share of a pixel, down and right or up and left, then with noise.
    """
    moved = images.astype(np.float64)
    for axis in (1, 2):
        share = random.uniform(-_SHIFT, _SHIFT, (len(images), 1, 1))
        down, up = _neighbour(moved, axis, 1), _neighbour(moved, axis, -1)
        moved = (1 - abs(share)) * moved + abs(share) * np.where(share > 0, down, up)
    noise = random.integers(-_NOISE, _NOISE, images.shape, endpoint=True)
    # The paper is white, in the package too: noise on it would be a feature that no image of training has.
    grey = np.rint(moved) + np.where(images > 0, noise, 0)
    return np.asarray(grey.clip(0, BRIGHTEST), np.uint8)


def _neighbour(images: NDArray[np.float64], axis: int, step: int) -> NDArray[np.float64]:
    """(n, 8, 8) each pixel's neighbour on an axis; beyond the edge is white paper, 0."""
    rolled = np.roll(images, step, axis)
    edge = [slice(None)] * 3
    edge[axis] = slice(0, 1) if step > 0 else slice(-1, None)
    rolled[tuple(edge)] = 0
    return rolled
