"""A small frame to train on, and the task and recipe that go with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl

from sluice.features.manifest import Feature, FeatureManifest
from sluice.tasks.recipe import Recipe
from tests.support import tiny_task

TASK = dataclasses.replace(tiny_task.TASK, baseline_keys=("shop",))
RECIPE = Recipe(
    name="shops",
    description="two numbers and a shop",
    features=("size", "price", "shop"),
    teacher=(32,),
    student=(16,),
    dropout=0.1,
    epochs=3,
    batch_size=64,
    learning_rate=5e-3,
)
MANIFEST = FeatureManifest(
    service="shops",
    service_digest="sha256:0",
    entity_keys=("shop",),
    request_inputs=(),
    features=(
        Feature(name="price", dtype="float", view="v"),
        Feature(name="size", dtype="float", view="v"),
        Feature(name="shop", dtype="string", view="v"),
        Feature(name="unused", dtype="float", view="v"),
    ),
)


def sample() -> pl.DataFrame:
    """4,000 rows over 40 days; the label follows a wave in ``size`` that a linear model cannot."""
    rng, n = np.random.default_rng(5), 4000
    size, price, shop = rng.normal(0, 2, n), rng.normal(0, 1, n), rng.choice(["a", "b", "c"], n)
    logit = 2.5 * np.cos(1.5 * size) + 0.7 * price + (shop == "a") - 1.5
    day = np.arange(n) * 40 // n
    start = pl.datetime(2020, 1, 1, time_zone="UTC")
    return pl.DataFrame(
        {
            "example_id": [f"e{index:05d}" for index in range(n)],
            "day": day,
            "label": (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int8),
            "size": pl.Series([None if gap else value for gap, value in zip(rng.random(n) < 0.05, size, strict=True)]),
            "price": price,
            "shop": shop,
            "unused": np.zeros(n),
            "split": np.where(day < 25, "train", np.where(day < 31, "tune", "test")),
        }
    ).with_columns(event_time=start + pl.duration(days="day"))


def write_frame(directory: Path, frame: pl.DataFrame) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(directory / "frame.parquet")
    (directory / "manifest.json").write_text(MANIFEST.model_dump_json())
    return directory
