"""The loss of both sides by block of event time: on the same requests in shadow, else within windows of a block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from sluice.arrays import Floats, Ints
from sluice.documents.event_time import iso, moment_of
from sluice.documents.evidence import SIDES, Evidence, LossBlock
from sluice.documents.loss_history import product_name
from sluice.evidence.measurements.losses import strata_by
from sluice.evidence.measurements.measurement import Measurement, Part, StageRows
from sluice.evidence.measurements.pairs import decided_alike
from sluice.evidence.measurements.points import DataPoint, PointIndex
from sluice.evidence.moments import moments_by, rounded
from sluice.evidence.rows import COVARIATE

_HOUR = timedelta(hours=1)
_SUMS = ("weight", "difference", "sampling")
_COUNTS = ("requests", "labelled")
_SCORES = ("shift", "same")


def product_places(covariates: int) -> tuple[Ints, Ints]:
    """Of each product in the covariances of the loss and so many covariates; the loss by itself is none."""
    first, second = np.triu_indices(covariates + 1)
    return first[1:], second[1:]


def product_names(covariates: Sequence[str]) -> tuple[str, ...]:
    """In the order of ``product_places``."""
    names = ("loss", *covariates)
    pairs = zip(*product_places(len(covariates)), strict=True)
    return tuple(product_name(names[first], names[second]) for first, second in pairs)


def _from_rows(rows: StageRows) -> Part:
    state = rows.state
    if state.since is None or state.stable is None or state.candidate is None:
        return {}
    since = moment_of(state.since)
    blocks = _paired(rows, since) if state.is_mirrored else _of_arms(rows, since)
    return {"block_hours": rows.block / _HOUR, "blocks": tuple(blocks)}


def _number(block: timedelta, since: datetime) -> pl.Expr:
    """Of the block that a request is in, 0 for the first one of the stage."""
    return (pl.col("event_time") - since).dt.total_microseconds() // round(block.total_seconds() * 1e6)


def _paired(rows: StageRows, since: datetime) -> Iterator[LossBlock]:
    pairs = rows.pairs.with_columns(block=_number(rows.block, since))
    requests = pairs["block"].to_numpy().astype(np.int64)
    known = pairs.filter(pl.col("difference").is_not_null())
    place = known["block"].to_numpy().astype(np.int64)
    size = int(requests.max(initial=-1)) + 1
    counts, labelled = np.bincount(requests, minlength=size), np.bincount(place, minlength=size)
    difference = _summed(place, known["difference"].to_numpy(), size)
    names = rows.target.covariate_names
    sums = {name: _summed(place, known[COVARIATE + name].to_numpy(), size) for name in names}
    shift = _summed(requests, pairs["shift"].to_numpy(), size)
    alike = decided_alike(rows)
    same = None if alike is None else np.bincount(requests, alike, minlength=size).astype(np.int64)
    for number in np.flatnonzero(counts).tolist():
        yield LossBlock(
            start=iso(since + number * rows.block),
            requests=int(counts[number]),
            labelled=int(labelled[number]),
            weight=float(labelled[number]),
            difference=difference[number],
            covariates={name: values[number] for name, values in sums.items()},
            shift=shift[number],
            same=None if same is None else int(same[number]),
        )


def _summed(place: Ints, values: Floats, size: int) -> list[float]:
    return [rounded(value) for value in np.bincount(place, values, minlength=size).tolist()]


def _of_arms(rows: StageRows, since: datetime) -> Iterator[LossBlock]:
    """Within a window chance alone decided who answers, so arms are compared there, and windows are added up."""
    number = _number(rows.block, since)
    cohort = {side: rows.cohort[side].filter("ok").with_columns(block=number.cast(pl.String)) for side in SIDES}
    requests: dict[str, int] = {}
    for side in cohort.values():
        for block, n in side.group_by("block").len().iter_rows():
            requests[block] = requests.get(block, 0) + n
    strata: dict[str, list[tuple[float, ...]]] = {}
    losses = [moments_by(side, ["block", "window"], "loss") for side in cohort.values()]
    names = rows.target.covariate_names
    products = product_names(names)
    surprises = _surprises(cohort["stable"], names)
    for (block, window), stratum in strata_by(*losses):
        ours, theirs = stratum.candidate, stratum.stable
        weight = ours.n * theirs.n / (ours.n + theirs.n)
        sampling = weight**2 * (ours.variance / ours.n + theirs.variance / theirs.n)
        one = (weight, weight * (ours.mean - theirs.mean), sampling, ours.n + theirs.n)
        surprise = _weighted(surprises[block, window], weight)
        strata.setdefault(block, []).append((*one, *surprise))
    for block in sorted(requests, key=int):
        columns = zip(*strata.get(block, [(0.0,) * (4 + len(names) + len(products))]), strict=True)
        weight, difference, sampling, labelled, *more = (sum(column) for column in columns)
        sums = dict(zip((*names, *products), map(rounded, more), strict=True))
        yield LossBlock(
            start=iso(since + int(block) * rows.block),
            requests=requests[block],
            labelled=int(labelled),
            weight=rounded(weight),
            difference=rounded(difference),
            sampling=rounded(sampling),
            covariates={name: sums[name] for name in names},
            products={name: sums[name] for name in products},
        )


def _surprises(stable: pl.DataFrame, names: Sequence[str]) -> dict[tuple[str, str], Floats]:
    """
    Stable's loss and covariates on the requests that it answered, (n, 1 + covariates) by block and window.

    It says nothing of the requests that went to the candidate, but in a window chance alone decided which went where.
    """
    labels = stable.filter(pl.col("loss").is_not_null()).sort("block", "window", maintain_order=True)
    columns = np.column_stack([labels[name].to_numpy() for name in ("loss", *(COVARIATE + one for one in names))])
    groups, first = {}, 0
    for block, window, n in labels.group_by("block", "window", maintain_order=True).len().iter_rows():
        groups[block, window] = columns[first : first + n]
        first += n
    return groups


def _weighted(columns: Floats, weight: float) -> list[float]:
    """Weighted means of the covariates, and what they and the loss have in common: ``product_places``."""
    common = weight**2 * np.cov(columns, rowvar=False) / len(columns)
    return [*(weight * columns[:, 1:].mean(axis=0)).tolist(), *common[product_places(columns.shape[1] - 1)].tolist()]


def _to_points(evidence: Evidence) -> Iterator[DataPoint]:
    if evidence.block_hours is not None:
        yield DataPoint("block_hours", {}, evidence.block_hours)
    for block in evidence.blocks:
        labels = {"window": block.start}
        for name in (*_COUNTS, *_SUMS):
            yield DataPoint(f"block_{name}", labels, getattr(block, name))
        for name in _SCORES:
            if (value := getattr(block, name)) is not None:
                yield DataPoint(f"block_{name}", labels, value)
        for kind in ("covariate", "product"):
            for name, value in getattr(block, f"{kind}s").items():
                yield DataPoint(f"block_{kind}", labels | {"feature": name}, value)


def _from_points(points: PointIndex) -> Part:
    hours = points.value("block_hours")
    if hours is None:
        return {}
    starts = points.values_of("window", "block_requests")
    return {"block_hours": hours, "blocks": tuple(_block(points, start) for start in starts)}


def _block(points: PointIndex, start: str) -> LossBlock:
    covariates, products = (_named(points, f"block_{kind}", start) for kind in ("covariate", "product"))
    counts: Mapping[str, Any] = {name: points.count(f"block_{name}", window=start) for name in _COUNTS}
    sums: Mapping[str, Any] = {name: points.value(f"block_{name}", window=start) or 0.0 for name in _SUMS}
    scores: Mapping[str, Any] = {name: points.value(f"block_{name}", window=start) for name in _SCORES}
    return LossBlock(start=start, **counts, **sums, **scores, covariates=covariates, products=products)


def _named(points: PointIndex, series: str, start: str) -> dict[str, float]:
    names = points.values_of("feature", series, window=start)
    return {name: points.value(series, window=start, feature=name) or 0.0 for name in names}


MEASUREMENT = Measurement(
    "blocks",
    "Loss against stable by block of event time; window: the block's beginning, feature: a covariate's name.",
    _from_rows,
    _from_points,
    _to_points,
    ("block",),
)
