"""The small frame to train on with labels of every kind of target, and all rows of it as a model takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from sluice.targets.counts import Counts
from sluice.targets.kind import TargetKind
from sluice.targets.multi_class import MultiClass
from sluice.targets.multi_label import MultiLabel
from sluice.targets.regression import Regression
from tests.support.tiny_training import sample, write_frame

ROWS = 1800
CLASSES = ("low", "middle", "high")
NAMES = ("steep", "dear", "odd")
QUANTILES = (0.1, 0.5, 0.9)


class KindFrame(NamedTuple):
    """A frame on disk, and what its labels are."""

    target: TargetKind
    directory: Path


def _wave(rows: pl.DataFrame) -> np.ndarray:
    """(n,) what a label follows: no linear model can."""
    size, price, shop = (rows[name].to_numpy() for name in ("size", "price", "shop"))
    return np.asarray(2.5 * np.cos(1.5 * np.nan_to_num(size)) + 0.7 * price + (shop == "a"))


def _classes(wave: np.ndarray, noise: np.ndarray) -> pl.Series:
    return pl.Series([CLASSES[place] for place in np.digitize(wave + noise / 2, [-0.5, 1.5])])


def _names(wave: np.ndarray, noise: np.ndarray) -> pl.Series:
    flags = np.stack([wave + noise > 0, wave + noise[::-1] > 2, noise > 1], axis=1)
    return pl.Series([[NAMES[at] for at in np.flatnonzero(row)] for row in flags], dtype=pl.List(pl.String))


def _minutes(wave: np.ndarray, noise: np.ndarray) -> pl.Series:
    return pl.Series(40 + 25 * wave + 10 * noise)


def _counts(wave: np.ndarray, _noise: np.ndarray) -> pl.Series:
    return pl.Series(np.random.default_rng(3).poisson(np.exp(wave / 2)), dtype=pl.Int64)


KINDS: Mapping[str, tuple[TargetKind, Callable[[np.ndarray, np.ndarray], pl.Series]]] = {
    "classes": (MultiClass(classes=CLASSES, top=2), _classes),
    "labels": (MultiLabel(names=NAMES), _names),
    "mean": (Regression(unit="minutes"), _minutes),
    "median": (Regression(loss="absolute", unit="minutes"), _minutes),
    "quantiles": (Regression(loss="pinball", quantiles=QUANTILES, unit="minutes"), _minutes),
    "counts": (Counts(), _counts),
}


def labelled(name: str) -> pl.DataFrame:
    """1,800 rows over 40 days with labels of a kind."""
    rows = sample().gather_every(2).head(ROWS)
    noise = np.random.default_rng(2).normal(0, 1, rows.height)
    return rows.with_columns(label=KINDS[name][1](_wave(rows), noise))


def write_kind(directory: Path, name: str) -> KindFrame:
    """Write it."""
    return KindFrame(KINDS[name][0], write_frame(directory, labelled(name)))
