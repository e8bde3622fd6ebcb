"""A task of images alone, without a feature service: does a drawing of 8 × 8 show a ring or a bar?"""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from sluice.inputs.tensors import TensorInput
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import Slice, Splits, Task

IMAGE = TensorInput(shape=(8, 8))
_ROWS = 2400
_SEED = 11
_START = datetime(2024, 1, 1, tzinfo=UTC)
_END = _START + timedelta(days=80)


@functools.cache
def drawings() -> pl.DataFrame:
    """2400 drawings in 80 days: rings (1) and bars (0), moved, of any brightness, under noise."""
    random = np.random.default_rng(_SEED)
    label = random.integers(0, 2, _ROWS)
    images = np.stack([draw(random, ring=bool(each)) for each in label])
    times = pl.Series([_START + timedelta(minutes=48 * row) for row in range(_ROWS)], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame(
        {
            "example_id": [f"drawing-{row:04d}" for row in range(_ROWS)],
            "event_time": times,
            "label_time": times + timedelta(hours=2),
            "label": pl.Series(label, dtype=pl.Int8),
            "pen": [("brush", "chalk")[row % 2] for row in range(_ROWS)],
            "image": images,
        }
    )


def draw(random: np.random.Generator, *, ring: bool) -> np.ndarray:
    """uint8, shape (8, 8)."""
    canvas = np.zeros((8, 8))
    top, left = random.integers(0, 4, 2)
    if ring:
        canvas[top : top + 5, left : left + 5] = 1
        canvas[top + 1 : top + 4, left + 1 : left + 4] = 0
    else:
        canvas[top : top + 5, left + 2 : left + 4] = 1
    canvas = canvas * random.uniform(120, 255) + random.uniform(0, 60, (8, 8))
    return canvas.clip(0, 255).astype(np.uint8)


def read_examples(start: datetime, end: datetime) -> pl.DataFrame:
    """Drawings with event times in ``[start, end)``."""
    return drawings().filter(pl.col("event_time").is_between(start, end, closed="left"))


TASK = Task(
    name="drawings",
    title="Rings",
    question="Is this drawing a ring?",
    source_files=lambda: {"digits_task.py": Path(__file__)},
    read_examples=read_examples,
    request_inputs={"image": IMAGE, "pen": pl.String},
    known_later=frozenset({"corrected_at"}),
    schema_file=Path(__file__).with_name("digits_schema.json"),
    slices=(Slice("pen", "pen"),),
    baseline_keys=("pen",),
    splits=Splits(
        train=_START,
        tune=_START + timedelta(days=30),
        test=_START + timedelta(days=40),
        live=_START + timedelta(days=60),
        end=_END,
    ),
    recipe=Recipe(
        name="rings",
        description="The drawing",
        features=("image",),
        family="convolutional",
        settings={"filters": (8,), "kernel": 3},
        teacher=(16,),
        student=(16,),
        dropout=0.1,
        epochs=8,
        batch_size=32,
        learning_rate=1e-2,
        variants=("teacher_f32", "student_f32", "student_int8"),
    ),
)
