"""
The committed pairs that docs/simulation.md replays: ``python -m tests.replay_pairs.make`` makes them again (minutes).

    flights.parquet         June and July; the int8 students of the story's first model (stable) and of its challenger
    two-hours-late.parquet  April to December; is a flight two hours late or more (3 %, and most of these on few days)?
                            Boosted trees (stable) and a logistic regression on the same features, trained before
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from pyarrow.parquet import write_table
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sluice.compression.ladder import build_ladder
from sluice.data.ingest import ingest
from sluice.features.build import FRAME_FILE, build_features
from sluice.installation import FEATURE_REPO
from sluice.tasks.flights import HISTORY, SCHEDULE, TASK, WEATHER
from sluice.tasks.flights_source import flights
from sluice.tasks.recipe import Recipe
from sluice.training.teacher import train_teacher
from sluice_local.flights_story import CHALLENGER, FIRST

FOLDER = Path(__file__).parent
_TEST_MONTHS = pl.col("event_time").is_between(TASK.splits.test, TASK.splits.live, closed="left")
_YEAR = dataclasses.replace(TASK, splits=dataclasses.replace(TASK.splits, live=TASK.splits.end))
_STEPS = 20
"""Steps that a logit is rounded to, in each unit: finer ones only make the files larger."""
_FIRST_REPLAYED = pl.datetime(2013, 4, 1, 5, time_zone="UTC")
_LATE_MINUTES = 120
_TEXTS = ("carrier", "origin", "weekday")


def main() -> None:
    """Write both files beside this one."""
    with tempfile.TemporaryDirectory(prefix="sluice-pairs-") as folder:
        root = Path(folder)
        ingest(_YEAR, root / "span")
        build_features(_YEAR, root / "span", FEATURE_REPO, root / "store", root / "frame")
        _write(two_hours_late(pl.read_parquet(root / "frame" / FRAME_FILE)), "two-hours-late")
        _write(first_and_challenger(root), "flights")


def first_and_challenger(root: Path) -> pl.DataFrame:
    """The flights' test months, scored by both students."""
    perceptron = CHALLENGER.model_copy(update={"family": FIRST.family})
    scores = {"stable_score": _student(root, FIRST), "candidate_score": _student(root, perceptron)}
    frame = pl.read_parquet(root / "frame" / FRAME_FILE).filter(_TEST_MONTHS)
    for name, table in scores.items():
        frame = frame.join(table.select("example_id", pl.col("student_int8").alias(name)), on="example_id")
    return frame


def _student(root: Path, recipe: Recipe) -> pl.DataFrame:
    teacher, ladder = root / f"{recipe.name}-teacher", root / f"{recipe.name}-ladder"
    train_teacher(root / "frame", recipe, teacher, TASK.baseline_keys)
    build_ladder(root / "frame", teacher, recipe.model_copy(update={"variants": ("student_int8",)}), ladder)
    return pl.read_parquet(ladder / "scores.parquet")


def two_hours_late(frame: pl.DataFrame) -> pl.DataFrame:
    """Another target on the same features: trained on January to March, scored from April on."""
    minute = pl.col("departure").dt.strftime("%Y-%m-%dT%H:%MZ")
    identity = pl.format("{}-{}-{}-{}", minute, "carrier", "flight", "route")
    delays = flights().select(example_id=identity, label=(pl.col("arr_delay") >= _LATE_MINUTES).cast(pl.Int8))
    labelled = frame.drop("label").join(delays.unique("example_id", keep="first", maintain_order=True), on="example_id")
    labelled = labelled.drop_nulls("label").sort("event_time", "example_id")  # what is learned depends on the order
    train, later = (labelled.filter(part) for part in _before_and_after())
    numbers = [name for name in (*SCHEDULE, *WEATHER, *HISTORY) if name not in _TEXTS]
    texts = make_pipeline(OneHotEncoder(handle_unknown="ignore", sparse_output=False))
    filled = make_pipeline(SimpleImputer(), StandardScaler())
    linear = make_pipeline(make_column_transformer((texts, list(_TEXTS)), (filled, numbers)), LogisticRegression(C=0.1))
    trees = make_pipeline(
        make_column_transformer((texts, list(_TEXTS)), ("passthrough", numbers)),
        HistGradientBoostingClassifier(max_iter=60, learning_rate=0.05, random_state=0),
    )
    for name, model in (("stable_score", trees), ("candidate_score", linear)):
        columns = [*_TEXTS, *numbers]
        model.fit(train.select(columns).to_pandas(), train["label"].to_numpy())
        scores = np.asarray(model.predict_proba(later.select(columns).to_pandas()))[:, 1]
        later = later.with_columns(pl.Series(name, scores))
    return later


def _before_and_after() -> tuple[pl.Expr, pl.Expr]:
    return pl.col("event_time") < _FIRST_REPLAYED, pl.col("event_time") >= _FIRST_REPLAYED


def _write(pairs: pl.DataFrame, name: str) -> None:
    pairs = pairs.with_columns(_rounded(side) for side in ("stable_score", "candidate_score"))
    columns = ["event_time", "label_time", "label", "stable_score", "candidate_score", "origin"]
    path, table = FOLDER / f"{name}.parquet", pairs.sort("event_time", "example_id").select(columns).to_arrow()
    encoding = dict.fromkeys(("event_time", "label_time"), "DELTA_BINARY_PACKED")
    write_table(
        table, path, compression="zstd", compression_level=19, use_dictionary=columns[2:], column_encoding=encoding
    )
    sys.stdout.write(f"{path}: {pairs.height:,} rows, {path.stat().st_size:,} bytes\n")


def _rounded(name: str) -> pl.Expr:
    score = pl.col(name)
    steps = ((score / (1 - score)).log() * _STEPS).round()
    return (1 / (1 + (-steps / _STEPS).exp())).cast(pl.Float32).alias(name)


if __name__ == "__main__":
    main()
