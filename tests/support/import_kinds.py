"""Frames and tasks of every kind of target on two numbers, for models that are made elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from onnx import helper

from sluice.targets.binary import Binary
from sluice.targets.counts import Counts
from sluice.targets.kind import TargetKind
from sluice.targets.multi_class import MultiClass
from sluice.targets.multi_label import MultiLabel
from sluice.targets.regression import Regression
from sluice.tasks.task import Task
from tests.support import tiny_training
from tests.support.onnx_models import onnx_model

NUMBERS = ("size", "price")
QUANTILES = (0.1, 0.5, 0.9)


class KindSample(NamedTuple):
    """A target, its labels from a number (n,) that follows both features, and a linear model's weights (2, k)."""

    target: TargetKind
    labels: Callable[[Any], pl.Series]
    weights: Any


def _list(value: float) -> list[str]:
    return [name for name, cut in (("big", 0.0), ("huge", 1.0)) if value > cut]


def _three(value: float) -> str:
    return ("low", "mid", "high")[int(np.digitize(value, [-0.7, 0.7]))]


def _numbers(noisy: Any) -> pl.Series:
    return pl.Series(noisy, dtype=pl.Float64)


_VALUE = np.array([[0.5], [0.8]])
KINDS: Mapping[str, KindSample] = {
    "binary": KindSample(Binary(), lambda noisy: pl.Series((noisy > 0).astype(np.int8)), _VALUE),
    "classes": KindSample(
        MultiClass(classes=("low", "mid", "high")),
        lambda noisy: pl.Series([_three(each) for each in noisy]),
        np.array([[-0.5, 0.0, 0.6], [-0.8, 0.1, 0.9]]),
    ),
    "labels": KindSample(
        MultiLabel(names=("big", "huge")),
        lambda noisy: pl.Series([_list(each) for each in noisy], dtype=pl.List(pl.String)),
        np.array([[0.5, 0.3], [0.8, 0.6]]),
    ),
    "value": KindSample(Regression(unit="EUR"), _numbers, _VALUE),
    "quantiles": KindSample(
        Regression(loss="pinball", quantiles=QUANTILES), _numbers, np.array([[0.4, 0.5, 0.6], [0.6, 0.8, 1.0]])
    ),
    "counts": KindSample(
        Counts(), lambda noisy: pl.Series(np.round(np.exp(np.clip(noisy, -3, 3))), dtype=pl.Int64), _VALUE
    ),
}


def kind_task(target: TargetKind) -> Task:
    """The tiny task with another target."""
    return dataclasses.replace(tiny_training.TASK, target=target)


def kind_rows(sample: KindSample) -> pl.DataFrame:
    """The tiny task's rows with labels of the kind, no number missing."""
    rows = tiny_training.sample().with_columns(pl.col("size").fill_null(0.0))
    signal = 0.5 * rows["size"].to_numpy() + 0.8 * rows["price"].to_numpy()
    noisy = signal + np.random.default_rng(2).normal(0, 0.7, rows.height)
    return rows.with_columns(label=sample.labels(noisy))


def write_kind(directory: Path, name: str) -> Path:
    """The frame of one of ``KINDS``, as the features step writes it."""
    return tiny_training.write_frame(directory, kind_rows(KINDS[name]))


def features_of(rows: pl.DataFrame) -> Any:
    """(n, 2) float32."""
    return rows.select(NUMBERS).to_numpy().astype(np.float32)


_LINKS: Mapping[str, tuple[str, ...]] = {
    "binary": ("Sigmoid",),
    "classes": ("Softmax",),
    "labels": ("Sigmoid",),
    "value": (),
    "quantiles": (),
    "counts": ("Exp",),
}


def linear_model(name: str, *tail: str, linked: bool = False, order: tuple[int, ...] | None = None) -> bytes:
    """An ONNX file of the sample's weights, with its link behind it, with other nodes, with columns in an order."""
    weights = KINDS[name].weights.astype(np.float32)
    weights = weights if order is None else weights[:, list(order)]
    operators = ["MatMul", *(_LINKS[name] if linked else ()), *tail]
    names = ["x", *(f"v{place}" for place in range(len(operators) - 1)), "y"]
    nodes = [
        helper.make_node(each, [names[at], "w"] if at == 0 else [names[at]], [names[at + 1]])
        for at, each in enumerate(operators)
    ]
    return bytes(onnx_model(nodes, {"w": weights}, 2, weights.shape[1]).SerializeToString())
