"""Frame, ladder and baselines on disk for a sample of any kind of target, so that it can be evaluated and judged."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sluice.targets.predictions import prediction_column
from sluice.tasks.task import Task
from sluice.training.baselines import plain_baselines
from tests.support.evaluation import TEST, TUNE, sample_task
from tests.support.targets import TargetSample

DAYS = 12


def target_task(sample: TargetSample, **changes: Any) -> Task:
    """A task of the sample's target."""
    return replace(sample_task(), target=sample.target, baseline_keys=("shop",), **changes)


def write_target(directory: Path, sample: TargetSample, worse: np.ndarray | None = None) -> Path:
    """
    Write what ``evaluate`` reads: a third of the rows each in train, tune and test, twelve days each.

    ``worse`` (n, k') replaces the predictions of the student, not of the teacher.
    """
    n = len(sample.labels)
    split = np.array(["train", "tune", "test"])[np.arange(n) % 3]
    start = {"train": TUNE - timedelta(days=DAYS), "tune": TUNE, "test": TEST}
    minutes = np.random.default_rng(4).integers(0, 1440, n)
    moments = [
        start[part] + timedelta(days=int(day), minutes=int(minute))
        for part, day, minute in zip(split, sample.days, minutes, strict=True)
    ]
    frame = pl.DataFrame(
        {
            "example_id": [f"row-{row}" for row in range(n)],
            "event_time": pl.Series(moments, dtype=pl.Datetime("us", "UTC")),
            "label_time": pl.Series(moments, dtype=pl.Datetime("us", "UTC")) + timedelta(hours=3),
            "label": sample.labels,
            "split": split,
            "shop": np.array(["north", "south", "east"])[np.arange(n) // 3 % 3],
            "slice_shop": np.array(["north", "south", "east"])[np.arange(n) // 3 % 3],
        }
    )
    frame.write_parquet(directory / "frame.parquet")
    student = sample.predictions if worse is None else worse
    scores = {"teacher_f32": sample.predictions, "student_int8": student}
    columns = (prediction_column(name, values) for name, values in scores.items())
    frame.select("example_id", "split").with_columns(columns).write_parquet(directory / "scores.parquet")
    plain_baselines(frame, ("shop",), sample.target).write_parquet(directory / "baselines.parquet")
    rungs = [_rung(name, size) for name, size in (("teacher_f32", 9000), ("student_int8", 1000))]
    (directory / "ladder.json").write_text(json.dumps(rungs))
    return directory


def _rung(name: str, size: int) -> dict[str, Any]:
    sizes = {"parameters": size, "bytes": size, "gzip_bytes": size // 2}
    return {"name": name, **sizes, "latency_p50_us": 10.0, "latency_p99_us": 20.0}
