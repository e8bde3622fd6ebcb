"""A user's own history as pairs: what both models answered to one request, or what it cost, and when that was known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from sluice.arrays import Floats, Ints
from sluice.errors import BadInput, one_line
from sluice.simulation.scored_pairs import CANDIDATE, LABEL, STABLE, Judgement, judgement, yardstick_of
from sluice.tasks.task import Task

LOSS = "loss"
SCORES = (LABEL, STABLE, CANDIDATE)
LOSSES = ("stable_loss", "candidate_loss")
TIMES = ("event_time", "label_time")
COVARIATE = "covariate_"
"""What the names of covariate columns begin with."""
_TEXTS = (pl.String, pl.Categorical, pl.Enum)
_DAY_HOURS = 24
_MOST_DAYS = 3660
_LARGEST = 1e12
"""Sums of squares of larger numbers say nothing exact."""


@dataclass(frozen=True, eq=False)
class LabelledPairs:
    """
    Labelled requests that both models answered, by day.

    Attributes:
        days: calendar days from the first to the last, those without a request too.
        first_hour: UTC hour at which a day begins: the hour with fewest requests.
        day: (n,) day of each request, from 0.
        event_hours, label_hours: (n,) hours from the beginning of that day to the request, and to its label.
        stable: (n,) stable's loss.
        difference: (n,) candidate's loss minus stable's.
        covariates: (n,) values each, of stable and the label alone.
        loss: the metric that the loss is; ``loss`` where that is known to nobody here.
    """

    days: int
    first_hour: int
    day: Ints
    event_hours: Floats
    label_hours: Floats
    stable: Floats
    difference: Floats
    covariates: Mapping[str, Floats]
    loss: str = LOSS

    def require_metric(self, name: str) -> None:
        """Raise BadInput where a policy's loss is that of another kind of target."""
        if self.loss != LOSS and name not in (LOSS, self.loss):
            rule = f"is not the loss of these pairs, which is {self.loss}"
            raise BadInput(f"online.shadow: metric {name!r}", rule, f"write {self.loss}, or {LOSS}")


def read_pairs(path: Path, part: str | None = None, task: Task | None = None) -> LabelledPairs:
    """
    Read pairs from a parquet file.

    Args:
        path: has ``event_time`` and ``label_time`` with a time zone, and ``label``, ``stable_score`` and
            ``candidate_score``, or ``stable_loss`` and ``candidate_loss``; numeric columns ``covariate_<name>`` that
            are made of stable's answers and the label alone; text columns.
        part: ``COLUMN=TEXT`` keeps the rows of one slice.
        task: whose target they are of; without one the file says it, else they are of yes and no.

    Raises:
        BadInput: no parquet file, a column is missing or of a wrong type, or a value is out of range.
    """
    frame = _slice_of(_read(path), path, part)
    _require_times(frame, path)
    frame = frame.with_columns(pl.col(TIMES).dt.convert_time_zone("UTC"))
    _require_order(frame, path)
    kind = _kind(frame, path)
    _require_known(frame, path, kind)
    numbers = [name for name in frame.columns if name in LOSSES or name.startswith(COVARIATE)]
    values = {name: _finite(frame, path, name) for name in numbers}
    covariates = {name.removeprefix(COVARIATE): values[name] for name in values if name.startswith(COVARIATE)}
    if kind == LOSSES:
        for name in kind:
            _require_loss(path, name, values[name])
        stable = values["stable_loss"]
        return _by_day(frame, Judgement(stable, values["candidate_loss"] - stable, covariates), LOSS)
    for name in kind:
        _require_no_null(frame, path, name)
    yardstick = yardstick_of(path, task)
    costs = judgement(frame, path, yardstick)
    for name in costs.covariates.keys() & covariates.keys():
        raise BadInput(f"{path}: column {COVARIATE}{name}", "is made of the scores already", "leave it out")
    loss = LOSS if yardstick.own_loss else yardstick.target.loss_metric
    return _by_day(frame, costs._replace(covariates={**costs.covariates, **covariates}), loss)


def _read(path: Path) -> pl.DataFrame:
    try:
        with path.open("rb") as stream:
            return pl.read_parquet(stream)
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror or one_line(error)})", "name a file") from error
    except pl.exceptions.PolarsError as error:
        raise BadInput(str(path), f"is no parquet file ({one_line(error, 80)})", "write it as parquet") from error


def _slice_of(frame: pl.DataFrame, path: Path, part: str | None) -> pl.DataFrame:
    if part is not None:
        column, _, text = part.partition("=")
        texts = [name for name, kind in frame.schema.items() if kind in _TEXTS]
        if column not in texts:
            rule = f"names no text column of {path}, which has {', '.join(texts) or 'none'}"
            raise BadInput(f"--slice {part}", rule, "write COLUMN=TEXT")
        frame = frame.filter(pl.col(column).cast(pl.String) == text)
    if frame.is_empty():
        raise BadInput(str(path), f"has no rows{f' with {part}' if part else ''}", "give pairs with labels")
    return frame


def _require_times(frame: pl.DataFrame, path: Path) -> None:
    for name in TIMES:
        kind = frame.schema.get(name)
        if kind is None:
            raise _missing(path, name)
        if not isinstance(kind, pl.Datetime):
            raise BadInput(f"{path}: column {name}", f"is {kind}, not a time", "write timestamps with a time zone")
        if kind.time_zone is None:
            raise BadInput(f"{path}: column {name}", "has no time zone", "write timestamps in UTC")
        _require_no_null(frame, path, name)


def _require_order(frame: pl.DataFrame, path: Path) -> None:
    early = frame.filter(pl.col("label_time") < pl.col("event_time")).height
    if early:
        rule = f"is before event_time in {early:,} rows"
        raise BadInput(f"{path}: column label_time", rule, "give the time at which the label became known")


def _kind(frame: pl.DataFrame, path: Path) -> tuple[str, ...]:
    scores, losses = (any(name in frame.columns for name in kind) for kind in (SCORES[1:], LOSSES))
    if scores and losses:
        raise BadInput(str(path), "has scores and losses", "leave one of them out; scores give the loss")
    kind = LOSSES if losses else SCORES
    for name in kind:
        if name not in frame.columns:
            raise _missing(path, name)
    return kind


def _missing(path: Path, name: str) -> BadInput:
    either = f"{', '.join(TIMES)} and either {', '.join(SCORES)} or {', '.join(LOSSES)}"
    return BadInput(f"{path}: column {name}", "is missing", f"give {either}")


def _require_known(frame: pl.DataFrame, path: Path, kind: tuple[str, ...]) -> None:
    for name, dtype in frame.schema.items():
        if name in (*TIMES, *kind, "label") or name.startswith(COVARIATE) or dtype in _TEXTS:
            continue
        fix = f"call it {COVARIATE}{name} if it is of stable and the label alone, else leave it out"
        raise BadInput(f"{path}: column {name}", f"is {dtype}, and nothing that a replay reads", fix)


def _finite(frame: pl.DataFrame, path: Path, name: str) -> Floats:
    kind = frame.schema[name]
    if not (kind.is_numeric() or kind == pl.Boolean):
        raise BadInput(f"{path}: column {name}", f"is {kind}, not a number", "write numbers")
    _require_no_null(frame, path, name)
    values = frame[name].cast(pl.Float64).to_numpy()
    wrong = int((~np.isfinite(values)).sum())
    if wrong:
        raise BadInput(f"{path}: column {name}", f"is not finite in {wrong:,} rows", "leave such rows out")
    if np.abs(values).max() > _LARGEST:
        raise BadInput(f"{path}: column {name}", f"has values beyond {_LARGEST:g}", "give it in a larger unit")
    return values


def _require_no_null(frame: pl.DataFrame, path: Path, name: str) -> None:
    if frame[name].null_count():
        rule = f"is null in {frame[name].null_count():,} rows"
        raise BadInput(f"{path}: column {name}", rule, "give labelled pairs only")


def _require_loss(path: Path, name: str, values: Floats) -> None:
    if values.min() < 0:
        rule = f"has {values.min():g}, and a loss is at least 0"
        raise BadInput(f"{path}: column {name}", rule, "shift both losses by a constant")


def _by_day(frame: pl.DataFrame, costs: Judgement, loss: str) -> LabelledPairs:
    event, label = (frame[name].dt.epoch("us").to_numpy().astype(np.float64) / 3.6e9 for name in TIMES)
    quietest = int(np.bincount((event % _DAY_HOURS).astype(np.int64), minlength=_DAY_HOURS).argmin())
    start = np.floor((event - quietest) / _DAY_HOURS) * _DAY_HOURS + quietest
    day = ((start - start.min()) / _DAY_HOURS).round().astype(np.int64)
    days = int(day.max()) + 1
    if days > _MOST_DAYS:
        raise BadInput("column event_time", f"spans {days:,} days, more than {_MOST_DAYS:,}", "check its unit")
    return LabelledPairs(days, quietest, day, event - start, label - start, *costs, loss)
