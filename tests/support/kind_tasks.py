"""The tiny task with questions of other kinds: what becomes of an order, and what it brings in."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from pathlib import Path

import polars as pl

from sluice.targets.kind import TargetKind
from sluice.targets.multi_class import MultiClass
from sluice.targets.regression import Regression
from sluice.tasks.task import Task
from tests.support import tiny_task

OUTCOMES = ("kept", "exchanged", "returned")


def _outcome() -> pl.Expr:
    returned = pl.when(pl.col("amount") > 25).then(pl.lit("returned")).otherwise(pl.lit("exchanged"))
    label = pl.when(pl.col("label") == 0).then(pl.lit("kept")).when(pl.col("label") == 1).then(returned)
    return label.otherwise(None).alias("label")


def _revenue() -> pl.Expr:
    """What is left of the amount, with a fee that grows by the hour; of a return a quarter."""
    left = pl.col("amount") * pl.when(pl.col("label") == 1).then(0.25).otherwise(1.0) + 2.0 * pl.col("hour")
    return pl.when(pl.col("label").is_not_null()).then(left).alias("label")


def _task(schema: str, target: TargetKind, label: pl.Expr) -> Task:
    def read_examples(start: datetime, end: datetime) -> pl.DataFrame:
        return tiny_task.read_examples(start, end).with_columns(label)

    return dataclasses.replace(
        tiny_task.TASK,
        source_files=lambda: {"kind_tasks.py": Path(__file__), "tiny_task.py": Path(tiny_task.__file__)},
        read_examples=read_examples,
        schema_file=Path(__file__).with_name(schema),
        target=target,
    )


OUTCOME = _task("tiny_outcome_schema.json", MultiClass(classes=OUTCOMES, top=2), _outcome())
REVENUE = _task("tiny_revenue_schema.json", Regression(unit="euro", tolerance=5), _revenue())
