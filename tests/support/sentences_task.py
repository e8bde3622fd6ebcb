"""A task of texts beside a number, without a feature service: does a sentence praise or complain?"""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from sluice.inputs.texts import TextInput
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import Slice, Splits, Task

SENTENCE = TextInput(longest=200, buckets=256)
_ROWS = 1500
_SEED = 23
_START = datetime(2024, 1, 1, tzinfo=UTC)
_THINGS = ("the soup", "our room", "this café", "the train", "a guide", "das Frühstück")
_GOOD = ("fine", "splendid", "warm", "kind", "quick")
_BAD = ("cold", "late", "rude", "dirty", "dull")


@functools.cache
def sentences() -> pl.DataFrame:
    """1500 sentences in 75 days; what "not" stands before means its opposite."""
    random = np.random.default_rng(_SEED)
    label = random.integers(0, 2, _ROWS)
    times = pl.Series([_START + timedelta(minutes=72 * row) for row in range(_ROWS)], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame(
        {
            "example_id": [f"sentence-{row:04d}" for row in range(_ROWS)],
            "event_time": times,
            "label_time": times + timedelta(hours=2),
            "label": pl.Series(label, dtype=pl.Int8),
            "stars": random.integers(1, 6, _ROWS),
            "text": [write(random, praise=bool(each)) for each in label],
        }
    )


def write(random: np.random.Generator, *, praise: bool) -> str:
    """One sentence or two; one word in twenty is of the other kind."""
    parts = []
    for _ in range(random.integers(1, 3)):
        turned, slip = random.random() < 0.25, random.random() < 0.05
        words = _GOOD if praise ^ turned ^ slip else _BAD
        parts.append(f"{random.choice(_THINGS)} was {'not ' * turned}{random.choice(words)}")
    return ", and ".join(parts).capitalize() + "."


def read_examples(start: datetime, end: datetime) -> pl.DataFrame:
    """Sentences with event times in ``[start, end)``."""
    return sentences().filter(pl.col("event_time").is_between(start, end, closed="left"))


TASK = Task(
    name="sentences",
    title="Praise",
    question="Does this sentence praise?",
    source_files=lambda: {"sentences_task.py": Path(__file__)},
    read_examples=read_examples,
    request_inputs={"text": SENTENCE, "stars": pl.Int64},
    known_later=frozenset({"answered_at"}),
    schema_file=Path(__file__).with_name("sentences_schema.json"),
    slices=(Slice("stars", "CASE WHEN stars > 3 THEN 'many' ELSE 'few' END"),),
    baseline_keys=("stars",),
    splits=Splits(
        train=_START,
        tune=_START + timedelta(days=40),
        test=_START + timedelta(days=50),
        live=_START + timedelta(days=70),
        end=_START + timedelta(days=75),
    ),
    recipe=Recipe(
        name="praise",
        description="The sentence and its stars",
        features=("text", "stars"),
        family="text",
        settings={"embedding": 8},
        teacher=(),
        student=(8,),
        dropout=0.0,
        epochs=8,
        batch_size=32,
        learning_rate=2e-2,
        variants=("teacher_f32", "student_f32", "student_int8"),
    ),
)
