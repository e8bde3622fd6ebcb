"""A small world to evaluate models in: 40 days of tune and 40 of test, two slices, a better and a worse model."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl

from sluice.tasks.recipe import Recipe
from sluice.tasks.task import Slice, Splits, Task

if TYPE_CHECKING:
    from sluice.models.bundle import Bundle

ROWS_A_DAY = 60
DAYS = 40
START = datetime(2020, 1, 1, tzinfo=UTC)
TUNE, TEST = START + timedelta(days=10), START + timedelta(days=10 + DAYS)
LIVE = TEST + timedelta(days=DAYS)
RECIPE = Recipe(name="sample", description="A sample & nothing <else>.", features=("signal",))


@dataclass(frozen=True)
class Sample:
    """Folders that the evaluation reads, and the truth behind them."""

    directory: Path
    frame: pl.DataFrame
    logit: np.ndarray


def sample_task(**changes: Any) -> Task:
    """A task of no meaning; nothing of it is read but names, slices and splits."""
    task = Task(
        name="sample",
        title="Sample <b>task</b>",
        question="Will it be?",
        source_files=dict,
        read_examples=lambda _start, _end: pl.DataFrame(),
        read_feature_tables=lambda _start, _end: {},
        feature_service="sample",
        entity_keys=("key",),
        request_inputs={"signal": pl.Float64},
        known_later=frozenset(),
        schema_file=Path("schema.json"),
        slices=(Slice("shop", "shop"), Slice("size", "size")),
        baseline_keys=("shop",),
        splits=Splits(START, TUNE, TEST, LIVE, LIVE + timedelta(days=10)),
        recipe=RECIPE,
    )
    return replace(task, **changes)


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """(n,) probabilities."""
    probabilities: np.ndarray = 1 / (1 + np.exp(-logit))
    return probabilities


def write_sample(directory: Path, seed: int = 5, broken: np.ndarray | None = None, **columns: np.ndarray) -> Sample:
    """Write frame, ladder and baselines; ``broken`` shifts the logits of every variant, ``columns`` replace scores."""
    rng = np.random.default_rng(seed)
    n = 2 * DAYS * ROWS_A_DAY
    day = np.repeat(np.arange(2 * DAYS), ROWS_A_DAY)
    logit = rng.normal(-1, 1.5, n) + rng.normal(0, 0.4, 2 * DAYS)[day]
    frame = pl.DataFrame(
        {
            "example_id": [f"row-{i}" for i in range(n)],
            "event_time": [TUNE + timedelta(days=int(d), minutes=int(i) % 1000) for i, d in enumerate(day)],
            "label": (rng.random(n) < sigmoid(logit)).astype(np.int8),
            "split": np.where(day < DAYS, "tune", "test"),
            "signal": logit + rng.normal(0, 1.5, n),
            "slice_shop": np.where(rng.random(n) < 0.3, "north", "south"),
            "slice_size": np.where(np.arange(n) % 400 == 0, "huge", "plain"),
        },
        schema_overrides={"event_time": pl.Datetime("us", "UTC")},
    ).with_columns(label_time=pl.col("event_time") + pl.duration(hours=3))
    seen = logit + rng.normal(0, 0.5, n) + (0 if broken is None else broken)
    scores = {
        "teacher_f32": sigmoid(seen),
        "student_f32": sigmoid(seen + rng.normal(0, 0.05, n)),
        "student_int8": sigmoid(np.round(seen * 8) / 8),
        "student_pruned_int8": sigmoid(0.3 * seen),
    }
    identity = frame.select("example_id", "split")
    frame.write_parquet(directory / "frame.parquet")
    identity.with_columns(**{**scores, **columns}).write_parquet(directory / "scores.parquet")
    plain = sigmoid(logit + rng.normal(0, 2, n))
    identity.with_columns(prior=np.full(n, 0.3), logistic=plain).write_parquet(directory / "baselines.parquet")
    sizes = {"teacher_f32": 9000, "student_f32": 4000, "student_int8": 1000, "student_pruned_int8": 900}
    (directory / "ladder.json").write_text(json.dumps([_rung(name, size) for name, size in sizes.items()]))
    return Sample(directory, frame, logit)


def slow_weather() -> np.ndarray:
    """A number for each row of a sample that stays for days."""
    weather = 3 + np.convolve(np.random.default_rng(1).normal(0, 1, 2 * DAYS + 4), np.ones(5), "valid")
    return np.repeat(weather, ROWS_A_DAY)


def write_slow_signal(directory: Path) -> None:
    """A sample in which what production reads is off for days in a row."""
    slow = write_sample(directory).frame.with_columns(signal=pl.col("signal") + slow_weather())
    slow.write_parquet(directory / "frame.parquet")


def production(noise: float = 1.5) -> Bundle:
    """
    A production model that reads ``signal`` from the raw frame.

    It has what the evaluation reads of a bundle; a real one needs a trained model, which the integration tests have.
    """

    def predict(columns: pl.DataFrame) -> np.ndarray:
        assert columns.columns == ["signal"]
        return sigmoid(columns["signal"].to_numpy() / noise * 1.2)

    manifest = SimpleNamespace(features=SimpleNamespace(names=("signal",)), threshold=0.4)
    return cast("Bundle", SimpleNamespace(manifest=manifest, digest="sha256:" + "0" * 64, predict=predict))


def _rung(name: str, size: int) -> dict[str, Any]:
    return {
        "name": name,
        "parameters": size,
        "bytes": size,
        "gzip_bytes": size // 2,
        "latency_p50_us": 10.0,
        "latency_p99_us": 20.0,
    } | ({"format": "onnx"} if name == "teacher_f32" else {})
