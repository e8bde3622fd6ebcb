"""
Time our statistics beside TFDV's and beside ``describe`` of Polars, on one table, one after the other.

    python tests/bench/data_statistics.py --rows 1000000 --tfdv /tmp/tfdv/bin/python

TFDV wants an environment of its own: ``tests/golden/make.py`` says how it is made; without ``--tfdv`` it is left out.
Processor seconds of the process and its threads, after imports; reading the Parquet file is part of each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from sluice.data.census.census import census_of
from sluice.data.census.messages import statistics_of
from sluice.data.census.tables import batches_of

_TFDV = """
import sys, time
import pandas as pd
import tensorflow_data_validation as tfdv
tfdv.generate_statistics_from_dataframe(pd.DataFrame({"a": [1.0]}), n_jobs=1)
wall, processor = time.perf_counter(), time.process_time()
tfdv.generate_statistics_from_dataframe(pd.read_parquet(sys.argv[1]), n_jobs=1)
print(f"{time.perf_counter() - wall:.1f} {time.process_time() - processor:.1f}")
"""


def table(rows: int) -> pl.DataFrame:
    """Twenty columns: ten floats, four integers, six texts, of which one nearly never repeats."""
    rng = np.random.default_rng(1)
    floats = {f"float{number}": rng.lognormal(size=rows) for number in range(10)}
    ints = {f"int{number}": rng.integers(0, 10 ** (number + 2), rows) for number in range(4)}
    texts = {f"text{number}": rng.integers(0, 10 ** (number + 1), rows).astype(str) for number in range(6)}
    return pl.DataFrame(floats | ints | texts)


def timed(name: str, work: Callable[[], object]) -> None:
    """Print wall and processor seconds of some work."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    sys.stdout.write(f"{name}: {time.perf_counter() - wall:.1f} s, processor {time.process_time() - processor:.1f} s\n")


def main() -> None:
    """Make the table, and time each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--tfdv", help="a Python that has TFDV 1.16.1")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        table(options.rows).write_parquet(path)
        timed("polars describe", lambda: pl.read_parquet(path).describe())
        timed("sluice", lambda: statistics_of(census_of(batches_of(path))))
        if options.tfdv:
            done = subprocess.run(
                [options.tfdv, "-c", _TFDV, str(path)], capture_output=True, text=True, check=True
            ).stdout.split()
            sys.stdout.write(f"TFDV: {done[-2]} s, processor {done[-1]} s\n")


if __name__ == "__main__":
    main()
