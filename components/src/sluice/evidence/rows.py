"""Prediction rows made ready for counting: labels joined, losses computed, JSON columns read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sluice.arrays import Floats
from sluice.data.divergence import FeatureProfile
from sluice.errors import BadInput
from sluice.models.request import NOBODY_WAITS
from sluice.targets.kind import LabelCodes, TargetKind
from sluice.targets.predictions import predictions_in
from sluice.targets.yardstick import Yardstick
from sluice.tasks.task import Slice

YARDSTICK = Yardstick()
"""Of a task that says nothing of its target."""
COVARIATE = "covariate_"
"""What the names of covariates' columns begin with."""
_VECTOR = "vector"
_ROW_NUMBER = r"#\d+$"
Types = Mapping[str, pl.DataType | type[pl.DataType]]


def with_labels(
    predictions: pl.DataFrame, labels: pl.DataFrame, now: datetime, yardstick: Yardstick = YARDSTICK
) -> pl.DataFrame:
    """
    Predictions before ``now`` in order of time, with

        score       the prediction: a number, or a list where the target's predictions have several columns
        ok          the answer has a prediction
        alone       it was refused alone; False here, see ``refused_alone``
        label       null where nobody knows it at ``now``; with label_time, when it was known
        loss        null without a label or a prediction
        expected    the loss to be expected were the prediction true; null without one, and where it does not say
        covariate_* the target's covariates; null where the loss is
        window      the day, where the rows do not say

    Raises:
        BadInput: a label is none of the target's kind.
    """
    labels = labels.filter(pl.col("label_time") <= now, pl.col("label").is_not_null())
    label = pl.col("label").cast(yardstick.target.label_type)
    rows = predictions.filter(pl.col("event_time") < now).join(
        labels.select("label_time", request_id="example_id", label=label).unique("request_id"),
        on="request_id",
        how="left",
    )
    if "window" not in rows.columns:
        rows = rows.with_columns(window=pl.col("event_time").dt.date().cast(pl.String))
    # an answer that failed before a model was asked carries no digest and still counts against its route
    rows = rows.with_columns(digest=pl.when(pl.col("digest") != "").then("digest"))
    if len(yardstick.target.columns) > 1:
        rows = rows.with_columns(score=pl.col("prediction"))
    rows = rows.with_columns(_measured(rows, yardstick), alone=pl.lit(value=False))
    return rows.sort("event_time", "request_id", "route")


def _measured(rows: pl.DataFrame, yardstick: Yardstick) -> list[pl.Series]:
    """``ok``, ``loss``, ``expected`` and the covariates of each row."""
    target, scores = yardstick.target, predictions_of(rows["score"], yardstick.target)
    ok = (rows["status"] < 400).to_numpy() & target.are_predictions(scores)
    known = ok & rows["label"].is_not_null().to_numpy()
    codes = _codes(rows["label"].filter(pl.Series(known)), target)
    expected = yardstick.expected_losses(scores[ok])
    covariates = target.covariates(codes, scores[known])
    return [
        pl.Series("ok", ok),
        _where("loss", known, yardstick.losses(codes, scores[known])),
        _where("expected", ok & (expected is not None), np.empty(0) if expected is None else expected),
        *(_where(COVARIATE + name, known, values) for name, values in covariates.items()),
    ]


def predictions_of(scores: pl.Series, target: TargetKind) -> Floats:
    """(n, k') what a log's column of numbers or lists says; NaN where there is nothing, or not k' numbers."""
    if isinstance(scores.dtype, pl.List):
        k = len(target.columns)
        scores = scores.to_frame("scores").select(
            pl.when(pl.col("scores").list.len() == k).then("scores").cast(pl.Array(pl.Float64, k))
        )["scores"]
    found = predictions_in(scores)
    return found if found.shape[1] == len(target.columns) else np.full((len(scores), len(target.columns)), np.nan)


def _codes(labels: pl.Series, target: TargetKind) -> LabelCodes:
    if fault := None if labels.is_empty() else target.label_fault(labels):
        raise BadInput("labels of the log", f"have {fault.rule}", "take them out of the store, or mend Task.target")
    return target.codes(labels)


def _where(name: str, there: NDArray[np.bool_], values: Floats) -> pl.Series:
    """A column of the rows that are ``there`` in order; null elsewhere."""
    column = np.full(there.size, np.nan)
    column[there] = values
    return pl.Series(name, column).fill_nan(None)


def of_route(rows: pl.DataFrame, route: str, digest: str | None) -> pl.DataFrame:
    """The rows of a route that a digest answered, and those that failed before any model was asked."""
    answered = pl.col("digest") == (digest or "")
    return rows.filter(pl.col("route") == route, answered | pl.col("digest").is_null())


def refused() -> pl.Expr:
    """An answer of 4xx: the request breaks its contract."""
    return pl.col("status").is_between(400, 499)


def failed() -> pl.Expr:
    """An answer of 5xx, one without a prediction, or the refusal of what the other side answered."""
    return (pl.col("status") >= 500) | ((pl.col("status") < 400) & ~pl.col("ok")) | pl.col("alone")


def refused_alone(copies: pl.DataFrame, stable: pl.DataFrame, slices: Sequence[Slice]) -> pl.DataFrame:
    """
    The ``copies`` of stable's requests, with ``alone`` where stable answered what was refused.

    What was refused is not known, so it is in the slices of what was answered. Rows that nobody could count are one row
    without a number.
    """
    if copies.filter(refused()).is_empty():
        return copies
    columns = [slice_column(each) for each in slices]
    rows = stable.filter("ok").select("request_id", *columns, answered=True)
    whole = rows.with_columns(pl.col("request_id").str.replace(_ROW_NUMBER, ""))
    answered = pl.concat([rows, whole]).unique("request_id", keep="first", maintain_order=True)
    pairs = copies.join(answered, on="request_id", how="left", suffix="_s", maintain_order="left")
    alone = refused() & (pl.col("status") != NOBODY_WAITS) & pl.col("answered").fill_null(value=False)
    theirs = [pl.when("alone").then(f"{name}_s").otherwise(name).alias(name) for name in columns]
    return pairs.with_columns(alone=alone).with_columns(theirs).select(copies.columns)


def decoded(
    rows: pl.DataFrame, profiles: Mapping[str, FeatureProfile], slices: Sequence[Slice], carried: Types
) -> pl.DataFrame:
    """
    The rows with the JSON of ``features`` and ``keys`` read: ``vector`` (a struct of the profiled features) and one
    text column ``slice_<name>`` a slice. Rows that have them are returned as they are.

    Args:
        profiles: of the model's features.
        slices: expressions over the features and what a request carries; null where they need features that were not
            served.
        carried: entity keys and request inputs with their types.
    """
    if _VECTOR in rows.columns:
        return rows
    types: dict[str, pl.DataType | type[pl.DataType]] = {
        name: pl.Float64 if profile.kind == "numeric" else pl.String for name, profile in profiles.items()
    }
    features = _read(rows["features"], {**carried, **types} if slices else types)
    vector = features.struct.unnest().select(*types).to_struct() if types else _read(rows["features"], {})
    rows = rows.with_columns(vector.alias(_VECTOR))
    return rows.hstack(_slices(rows, features.struct.unnest(), slices, carried)) if slices else rows


def _slices(rows: pl.DataFrame, features: pl.DataFrame, slices: Sequence[Slice], carried: Types) -> pl.DataFrame:
    """One column a slice; a request that failed may have no features, but it still says what it carried."""
    keys = _read(rows["keys"], carried).struct.unnest()
    either = {name: pl.select(pl.coalesce(keys[name], features[name])).to_series() for name in keys.columns}
    columns = pl.DataFrame(features.to_dict() | either)
    has_features = rows["features"].is_in(["", "{}"]).not_() & rows["features"].is_not_null()
    values = []
    for each in slices:
        expression = pl.sql_expr(each.expression).cast(pl.String)
        if not set(expression.meta.root_names()) <= set(carried):
            expression = pl.when(has_features).then(expression)
        values.append(expression.alias(slice_column(each)))
    return columns.select(values)


def slice_column(part: Slice) -> str:
    """The column of a slice's values."""
    return f"slice_{part.name}"


def _read(texts: pl.Series, types: Types) -> pl.Series:
    if not types:
        return pl.Series([{}] * len(texts), dtype=pl.Struct({}))
    present = pl.select(pl.when(texts != "").then(texts)).to_series()
    return present.str.json_decode(pl.Struct(dict(types)))
