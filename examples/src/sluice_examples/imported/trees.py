"""
What somebody does who has never heard of Sluice: ``python -m sluice_examples.imported.trees FRAME OUT``.

LightGBM on the features of flights, then the two files that an import takes: ``model.txt`` and ``spec.yaml``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
from numpy.typing import NDArray

from sluice.tasks.flights import HISTORY, PREVIOUS_LEG, SCHEDULE, WEATHER

TEXTS = ("carrier", "origin", "weekday")
NUMBERS = tuple(name for name in (*SCHEDULE, *WEATHER, *HISTORY, *PREVIOUS_LEG) if name not in TEXTS)
_ROUNDS = 150
_SETTINGS = {
    "objective": "binary",
    "learning_rate": 0.06,
    "num_leaves": 31,
    "min_data_in_leaf": 200,
    "lambda_l2": 5.0,
    "seed": 7,
    "num_threads": 2,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


def train(frame: Path, out: Path) -> dict[str, object]:
    """
    Train on split train and write ``model.txt``.

    Returns:
        The spec of its import: inputs, and the values of each text that has a column a value.
    """
    rows = pl.read_parquet(frame / "frame.parquet").filter(pl.col("split") == "train")
    values = {name: sorted(rows[name].drop_nulls().unique().to_list()) for name in TEXTS}
    table = lightgbm.Dataset(columns(rows, values), rows["label"].to_numpy())
    booster = lightgbm.train(_SETTINGS, table, _ROUNDS)
    booster.save_model(out / "model.txt")
    return {"name": "trees-from-elsewhere", "inputs": list(NUMBERS), "one_hot": values}


def columns(rows: pl.DataFrame, values: dict[str, list[str]]) -> NDArray[np.float32]:
    """(n, k) the numbers as they are, NaN where one is missing, then a column for each value of each text."""
    numbers = [pl.col(name).cast(pl.Float32).fill_null(float("nan")) for name in NUMBERS]
    marks = [
        (pl.col(name) == value).fill_null(value=False).cast(pl.Float32).alias(f"{name}={value}")
        for name, known in values.items()
        for value in known
    ]
    return rows.select(*numbers, *marks).to_numpy()


def main(frame: str, out: str) -> int:
    """Entry point."""
    folder = Path(out)
    (folder / "spec.yaml").write_text(json.dumps(train(Path(frame), folder)), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
