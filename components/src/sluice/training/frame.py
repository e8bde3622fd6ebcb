"""The frame as one recipe sees it: checked, transformed, reduced to the recipe's features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import ValidationError

from sluice.arrays import Floats32
from sluice.errors import BadInput, one_line
from sluice.features.manifest import FeatureManifest
from sluice.models.encoder import Encoder
from sluice.targets.kind import TargetKind
from sluice.targets.registry import BINARY
from sluice.tasks.recipe import Recipe

FRAME = "frame.parquet"
MANIFEST = "manifest.json"
SPLITS = ("train", "tune", "test")
_IDENTITY = ("example_id", "event_time", "split")


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """
    One split as a model takes it.

    Attributes:
        ids: (n,) example ids.
        x: float32, shape (n, width).
        y: float32, shape (n,) or (n, k): the target's codes of the labels.
    """

    ids: pl.Series
    x: Floats32
    y: Floats32


def frame_manifest(frame_dir: Path) -> FeatureManifest:
    """
    The manifest of a frame: what the features step says of its columns.

    Raises:
        BadInput: it cannot be read.
    """
    path = frame_dir / MANIFEST
    try:
        return FeatureManifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        fix = "name the directory of the features step, or build the features again"
        raise BadInput(str(path), f"cannot be read ({one_line(error)})", fix) from error


def reduced_manifest(frame_dir: Path, recipe: Recipe) -> FeatureManifest:
    """
    The frame's manifest with the recipe's features only, in the recipe's order.

    Raises:
        BadInput: the manifest cannot be read, or the recipe names a feature that it does not have, or one twice.
    """
    manifest = frame_manifest(frame_dir)
    by_name = {feature.name: feature for feature in manifest.features}
    for name in recipe.features:
        if name not in by_name:
            where = f"the service {manifest.service!r} does" if manifest.service else "requests do"
            rule = f"asks for feature {name!r}, which {where} not have"
            raise BadInput(f"recipe {recipe.name!r}", rule, f"choose from {', '.join(manifest.names)}")
        if recipe.features.count(name) > 1:
            raise BadInput(f"recipe {recipe.name!r}", f"names feature {name!r} twice", "name it once")
    return manifest.model_copy(update={"features": tuple(by_name[name] for name in recipe.features)})


def prepared_frame(frame_dir: Path, recipe: Recipe, target: TargetKind = BINARY) -> pl.DataFrame:
    """
    The frame after the recipe's transforms, sorted by event time and example id.

    ``transform`` is applied to every row; then ``train_transform`` to the rows of split train.

    Raises:
        BadInput: the frame cannot be read or lacks a column; a transform is no expression over its columns, or
            changes a column that identifies rows; a split is empty; a label is missing or none of the target's; train
            has labels that nothing can be learnt from.
    """
    manifest = reduced_manifest(frame_dir, recipe)
    frame = _read(frame_dir / FRAME, (*_IDENTITY, "label", *manifest.names))
    frame = _transform(frame, recipe.transform, "transform", (*_IDENTITY, "label"), pl.lit(value=True))
    frame = _transform(frame, recipe.train_transform, "train_transform", _IDENTITY, pl.col("split") == "train")
    frame = frame.sort("event_time", "example_id")
    _check_labels(frame, target)
    return frame


def as_trained(cells: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    """
    Feature cells as the recipe's training path would have made them: what was served has to equal this.

    Expressions over columns that ``cells`` lacks raise BadInput.
    """
    return _transform(cells, recipe.transform, "transform", (), pl.lit(value=True))


def encoded_splits(frame: pl.DataFrame, encoder: Encoder, target: TargetKind = BINARY) -> dict[str, EncodedSplit]:
    """Each split of a prepared frame, encoded."""
    parts = {name: frame.filter(pl.col("split") == name) for name in SPLITS}
    return {
        name: EncodedSplit(part["example_id"], encoder.encode(part), target.codes(part["label"]).astype(np.float32))
        for name, part in parts.items()
    }


def _read(path: Path, needed: tuple[str, ...]) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = one_line(error)
        raise BadInput(str(path), f"cannot be read ({reason})", "build the features again") from error
    for name in needed:
        if name not in frame.columns:
            raise BadInput(f"{path}: column {name!r}", "is missing", "build the features again")
    return frame


def _transform(
    frame: pl.DataFrame, expressions: Mapping[str, str], field: str, fixed: tuple[str, ...], where: pl.Expr
) -> pl.DataFrame:
    for name in expressions:
        if name not in frame.columns or name in fixed:
            rule = "is not a column of the frame" if name not in frame.columns else "may not be changed"
            raise BadInput(f"recipe {field}: {name!r}", rule, "transform features of the frame")
    try:
        columns = [
            pl.when(where).then(pl.sql_expr(expressions[name])).otherwise(pl.col(name)).alias(name)
            for name in sorted(expressions)
        ]
        return frame.with_columns(columns)
    except pl.exceptions.PolarsError as error:
        reason = one_line(error)
        raise BadInput(f"recipe {field}", f"cannot be evaluated ({reason})", "mend the SQL expression") from error


def _check_labels(frame: pl.DataFrame, target: TargetKind) -> None:
    for name in SPLITS:
        labels = frame.filter(pl.col("split") == name)["label"]
        if labels.is_empty():
            raise BadInput(f"split {name!r}", "has no rows", "widen its window")
        if labels.null_count():
            raise BadInput(f"split {name!r}: column 'label'", "has nulls", "drop rows without label")
        if fault := target.label_fault(labels):
            raise BadInput(f"split {name!r}: column 'label'", f"has {fault.rule}", fault.fix)
    train = frame.filter(pl.col("split") == "train")["label"]
    if fault := target.split_fault(train):
        raise BadInput("split 'train'", f"has {fault.rule}", fault.fix)
