"""The rows that a model is judged on, and what models said about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sluice.arrays import Floats, Ints
from sluice.errors import BadArtifact, one_line
from sluice.targets.kind import LabelCodes, TargetKind
from sluice.targets.predictions import predictions_in
from sluice.targets.registry import BINARY

_NEEDED = ("example_id", "event_time", "label", "split")


@dataclass(frozen=True)
class Holdout:
    """
    One split of a frame.

    Attributes:
        frame: its rows, in the frame's order, with the columns that were asked for.
        labels: (n, ...) as the target's kind has them.
        days: (n,) code of the row's UTC day, from 0.
    """

    frame: pl.DataFrame
    labels: LabelCodes
    days: Ints

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.frame.height


def read_holdout(frame_dir: Path, split: str, columns: Sequence[str] = (), target: TargetKind = BINARY) -> Holdout:
    """
    The rows of ``split`` in ``frame_dir/frame.parquet``, with identity, time, label and ``columns``.

    Raises:
        BadArtifact: the frame cannot be read, lacks a column, has no row of this split, or has labels that are none
            of the target's.
    """
    path = frame_dir / "frame.parquet"
    known = _columns_of(path)
    selection = list(dict.fromkeys((*_NEEDED, *columns)))
    if missing := [name for name in selection if name not in known]:
        raise BadArtifact(str(path), f"has no column {missing[0]!r}", "build the features again")
    frame = pl.scan_parquet(path).select(selection).filter(pl.col("split") == split).collect()
    if frame.is_empty():
        raise BadArtifact(str(path), f"has no row of split {split!r}", "widen the split's window")
    labels = _codes(path, frame["label"], target)
    days = frame["event_time"].dt.date().rank("dense").cast(pl.Int64).to_numpy() - 1
    return Holdout(frame, labels, days)


def _codes(path: Path, labels: pl.Series, target: TargetKind) -> LabelCodes:
    fault = target.label_fault(labels.drop_nulls())
    if fault or labels.null_count():
        rule = fault.rule if fault else f"{labels.null_count()} null labels"
        raise BadArtifact(str(path), f"has {rule}", "build the features again")
    return target.codes(labels)


def slice_columns(frame_dir: Path) -> tuple[str, ...]:
    """Columns ``slice_<name>`` of the frame, in its order."""
    return tuple(name for name in _columns_of(frame_dir / "frame.parquet") if name.startswith("slice_"))


def read_scores(path: Path, holdout: Holdout) -> dict[str, Floats]:
    """
    Every model's predictions in ``path`` (columns example_id, split, one a model), aligned with the holdout.

    Returns:
        (n, k') each, as they are, finite or not: a column of numbers is (n, 1), one of polars' Array(Float64, k') more.

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
    return {name: predictions_in(aligned[name]) for name in names}


def unusable(name: str, predictions: Floats, target: TargetKind = BINARY) -> str | None:
    """One sentence when some of (n, k') are no predictions, or of another width; else None."""
    width = len(target.columns)
    if predictions.shape[1] != width:
        return f"Each score of {name} has {predictions.shape[1]} numbers, those of a {target.kind} target {width}."
    bad = int((~target.are_predictions(predictions)).sum())
    return f"{bad} of {len(predictions)} scores of {name} are not {target.noun}." if bad else None


def _columns_of(path: Path) -> list[str]:
    try:
        return list(pl.read_parquet_schema(path))
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = one_line(error)
        raise BadArtifact(str(path), f"cannot be read ({reason})", "run the stage that wrote it again") from error
