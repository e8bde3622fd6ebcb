"""
A home that was played, and its trees: ``python -m tests.bench.served_trees HOME CHAPTER``.

Every row of split tune and test goes through the real server by V1 and by V2, and is compared with what the library
that trained the trees says of it. Ends with 1 where one is further apart than the tolerance that bundles state.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import polars as pl

from sluice.models.bundle import load_bundle
from sluice.models.trees.export import TOLERANCE
from sluice.workspace import Workspace
from tests.support.served_trees import compare_served, said_by_library


def main() -> int:
    """Print a line a protocol."""
    parser = argparse.ArgumentParser(description="Compare served trees with their library on every row of a holdout.")
    parser.add_argument("home", type=Path, help="of a story, such as .sluice")
    parser.add_argument("chapter", help="the slug of the one whose candidate is trees, such as challenger")
    options = parser.parse_args()
    (folder,) = options.home.glob(f"runs/*-{options.chapter}")
    digest = json.loads((folder / "chapter.json").read_bytes())["candidate"]
    bundle = load_bundle(Workspace(options.home).bundle(digest), digest)
    rows = _holdout(_frame_of(options.home, folder), bundle.manifest.features.names)
    library, expected = said_by_library(bundle, rows)
    with tempfile.TemporaryDirectory() as scratch:
        found = compare_served(bundle, rows, expected, Path(scratch))
    for each in found:
        sys.stdout.write(
            f"{library} {digest[7:19]} by {each.protocol}: {each.rows:,} rows of the holdout, {each.incomplete:,} with"
            f" a missing value; largest difference {each.apart:.2g}, allowed {TOLERANCE:g}; {each.seconds:.0f} s\n"
        )
    return int(any(each.apart > TOLERANCE for each in found))


def _frame_of(home: Path, folder: Path) -> Path:
    """Of the chapter, or of the first, whose features a model from elsewhere gets."""
    inputs = folder / "inputs.json"
    return Path(
        json.loads((inputs if inputs.exists() else next(home.glob("runs/01-*/inputs.json"))).read_bytes())["frame"]
    )


def _holdout(frame: Path, names: tuple[str, ...]) -> pl.DataFrame:
    rows = pl.scan_parquet(frame / "frame.parquet").filter(pl.col("split").is_in(["tune", "test"]))
    return rows.select(names).collect()


if __name__ == "__main__":
    raise SystemExit(main())
