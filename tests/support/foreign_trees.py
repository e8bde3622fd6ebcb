"""A training that knows nothing of Sluice: ``python -m tests.support.foreign_trees FRAME OUT``, trees on one column."""

from __future__ import annotations

import sys
from pathlib import Path

import lightgbm
import polars as pl


def main(frame: str, out: str) -> int:
    """Entry point."""
    rows = pl.read_parquet(Path(frame) / "frame.parquet").filter(pl.col("split") == "train")
    table = lightgbm.Dataset(rows.select(pl.col("hour").cast(pl.Float32)).to_numpy(), rows["label"].to_numpy())
    settings = {"objective": "binary", "num_leaves": 4, "seed": 1, "num_threads": 1, "verbosity": -1}
    lightgbm.train(settings, table, 5).save_model(Path(out) / "model.txt")
    (Path(out) / "spec.yaml").write_text("name: weak-trees\ninputs: [hour]\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
