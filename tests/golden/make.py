"""
Make the golden files of TFDV again: its statistics of two tables, the scores of its comparators, its inferred schema.

Runs in an environment of its own, for TFDV 1.16.1 wants an old TensorFlow, and ``dill`` beside it:

    uv venv --python 3.11 /tmp/tfdv && uv pip install --python /tmp/tfdv/bin/python \
        tensorflow-data-validation==1.16.1 dill 'setuptools<70'
    /tmp/tfdv/bin/python tests/golden/make.py
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow_data_validation as tfdv

HERE = Path(__file__).parent
SEED = 20
ROWS = 3000


def table(seed: int, shift: float) -> pd.DataFrame:
    """A table with what comparators stumble over: shifts, NaN on both sides, points, rare and new categories."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "num": rng.normal(size=ROWS),
            "numshift": rng.normal(loc=shift, size=ROWS),
            "point": np.where(rng.random(ROWS) < 0.3, 0.0, rng.exponential(size=ROWS)),
            "constant": np.full(ROWS, 7.0),
            "int": rng.integers(0, 50, ROWS),
            "cat": rng.choice(list("abcde"), ROWS, p=[0.4, 0.3, 0.2, 0.06, 0.04]),
            "cat2": rng.choice(list("abcdef"), ROWS, p=[0.4 - shift / 5, 0.3, 0.2, 0.06, 0.04, shift / 5]),
            "rare": rng.choice([f"v{number:03}" for number in range(300)], ROWS),
        }
    )
    nan = rng.normal(size=ROWS)
    nan[rng.random(ROWS) < 0.1] = np.nan
    infinite = rng.normal(size=ROWS)
    infinite[:5], infinite[5:8] = np.inf, -np.inf
    return frame.assign(nan_same=nan, inf=infinite)


COMPARATORS = ("infinity_norm", "jensen_shannon_divergence", "normalized_abs_difference")


def main() -> None:
    """Write the files beside this one."""
    options = tfdv.StatsOptions()
    frames = {"before": table(SEED, 0.0), "after": table(SEED + 1, 0.5)}
    statistics = {}
    for name, frame in frames.items():
        frame.to_parquet(HERE / f"{name}.parquet")
        statistics[name] = tfdv.generate_statistics_from_dataframe(frame, options, n_jobs=1)
        (HERE / f"{name}.pb").write_bytes(statistics[name].SerializeToString(deterministic=True))
    schema = tfdv.infer_schema(statistics["before"])
    tfdv.write_schema_text(schema, str(HERE / "schema.pbtxt"))
    for feature in schema.feature:
        for comparator in COMPARATORS:
            getattr(feature.drift_comparator, comparator).threshold = 0.0
    anomalies = tfdv.validate_statistics(statistics["after"], schema, previous_statistics=statistics["before"])
    scores = {
        ".".join(info.path.step): {
            measurement.Type.Name(measurement.type): measurement.value for measurement in info.drift_measurements
        }
        for info in anomalies.drift_skew_info
    }
    (HERE / "scores.json").write_text(json.dumps(scores, indent=1, sort_keys=True) + "\n")
    (HERE / "anomalies.pb").write_bytes(anomalies.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
