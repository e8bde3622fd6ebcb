"""The rows that a model is judged on, and what models said about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sluice.arrays import Floats, Ints
from sluice.errors import BadArtifact, one_line

_NEEDED = ("example_id", "event_time", "label", "split")


@dataclass(frozen=True)
class Holdout:
    """
    One split of a frame.

    Attributes:
        frame: its rows, in the frame's order, with the columns that were asked for.
        labels: (n,) 0 or 1.
        days: (n,) code of the row's UTC day, from 0.
    """

    frame: pl.DataFrame
    labels: Ints
    days: Ints

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.frame.height


def read_holdout(frame_dir: Path, split: str, columns: Sequence[str] = ()) -> Holdout:
    """
    The rows of ``split`` in ``frame_dir/frame.parquet``, with identity, time, label and ``columns``.

    Raises:
        BadArtifact: the frame cannot be read, lacks a column, or has no row of this split.
    """
    path = frame_dir / "frame.parquet"
    known = _columns_of(path)
    selection = list(dict.fromkeys((*_NEEDED, *columns)))
    if missing := [name for name in selection if name not in known]:
        raise BadArtifact(str(path), f"has no column {missing[0]!r}", "build the features again")
    frame = pl.scan_parquet(path).select(selection).filter(pl.col("split") == split).collect()
    if frame.is_empty():
        raise BadArtifact(str(path), f"has no row of split {split!r}", "widen the split's window")
    labels = frame["label"].cast(pl.Int64).to_numpy()
    days = frame["event_time"].dt.date().rank("dense").cast(pl.Int64).to_numpy() - 1
    return Holdout(frame, labels, days)


def slice_columns(frame_dir: Path) -> tuple[str, ...]:
    """Columns ``slice_<name>`` of the frame, in its order."""
    return tuple(name for name in _columns_of(frame_dir / "frame.parquet") if name.startswith("slice_"))


def read_scores(path: Path, holdout: Holdout) -> dict[str, Floats]:
    """
    Every model's scores in ``path`` (columns example_id, split, one a model), aligned with the holdout: (n,) each.

    Scores come as they are, finite or not.

    Raises:
        BadArtifact: the file cannot be read, a row has no scores, or has them twice.
    """
    names = [name for name in _columns_of(path) if name not in ("example_id", "split")]
    scores = pl.read_parquet(path, columns=["example_id", *names]).with_columns(known=pl.lit(1))
    aligned = holdout.frame.select("example_id").join(scores, on="example_id", how="left", maintain_order="left")
    lacking = aligned["known"].null_count()
    if lacking or aligned.height != holdout.n:
        observed = f"has no scores for {lacking} of {holdout.n} rows" if lacking else "has rows twice"
        raise BadArtifact(str(path), observed, "run the stage that wrote it again")
    return {name: aligned[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in names}


def unusable(name: str, scores: Floats) -> str | None:
    """One sentence when some scores are no probabilities; else None."""
    bad = int((~((scores >= 0) & (scores <= 1))).sum())
    return f"{bad} of {scores.size} scores of {name} are not probabilities (NaN or outside 0 to 1)." if bad else None


def _columns_of(path: Path) -> list[str]:
    try:
        return list(pl.read_parquet_schema(path))
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = one_line(error)
        raise BadArtifact(str(path), f"cannot be read ({reason})", "run the stage that wrote it again") from error
