"""Which digit is it? A multi-class task of one image, which a request carries whole."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from sluice.inputs.tensors import TensorInput
from sluice.targets.multi_class import MultiClass
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import Splits, Task
from sluice_examples.digits.images import BRIGHTEST, CLASSES, LIVE, LIVE_DAYS, START, labelled_images


def read_examples(start: datetime, end: datetime) -> pl.DataFrame:
    """Images and live requests with event times in ``[start, end)``."""
    return labelled_images().filter(pl.col("event_time").is_between(start, end, closed="left"))


def source_files() -> Mapping[str, Path]:
    """The table that scikit-learn's ``load_digits`` reads."""
    import sklearn.datasets

    return {"digits": Path(sklearn.datasets.__file__).with_name("data") / "digits.csv.gz"}


TASK = Task(
    name="digits",
    title="Handwritten digits",
    question="Which digit is this?",
    source_files=source_files,
    read_examples=read_examples,
    request_inputs={"image": TensorInput(shape=(8, 8), low=0, high=BRIGHTEST)},
    known_later=frozenset(),
    schema_file=Path(__file__).with_name("schema.json"),
    slices=(),
    baseline_keys=(),
    splits=Splits(
        train=START,
        tune=START + timedelta(days=40),
        test=START + timedelta(days=50),
        live=LIVE,
        end=LIVE + timedelta(days=LIVE_DAYS),
    ),
    recipe=Recipe(
        name="convolutional",
        description="Filters of three by three pixels, every place of the last block, and a small student.",
        features=("image",),
        family="convolutional",
        settings={"filters": (32, 64), "kernel": 3, "flatten": True},
        teacher=(64,),
        student=(64,),
        dropout=0.3,
        epochs=22,
        batch_size=32,
        learning_rate=2e-3,
        variants=("teacher_f32", "student_f32", "student_int8"),
    ),
    target=MultiClass(classes=CLASSES),
)
