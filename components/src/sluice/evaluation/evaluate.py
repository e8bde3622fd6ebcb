"""The evaluation of one candidate on the untouched holdout, beside every model that it has to stand up to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from sluice.arrays import Floats, Ints
from sluice.documents.evaluation import Evaluation, Peer, SliceEvaluation
from sluice.documents.event_time import iso
from sluice.documents.loss_history import LossHistory
from sluice.errors import BadInput
from sluice.evaluation.histories import loss_histories
from sluice.evaluation.holdout import Holdout, read_holdout, read_scores, slice_columns, unusable
from sluice.evaluation.intervals import DayResamples, Performance, ScoredModel, measure
from sluice.evaluation.pairs import write_pairs
from sluice.evaluation.select import TEACHER
from sluice.targets.kind import Pictures, TargetKind
from sluice.targets.yardstick import Yardstick
from sluice.tasks.task import Task

if TYPE_CHECKING:
    from sluice.models.bundle import Bundle

_SliceRows = tuple[tuple[tuple[str, str], Ints], ...]
"""Name, value and rows of each slice."""
_CANDIDATE, _TEACHER, _PRODUCTION = "candidate", "teacher", "production"


@dataclass(frozen=True)
class _Bench:
    """
    Everything on the same rows.

    Attributes:
        resamples: by the candidate alone, so that what its bundle says does not depend on what is served.
        beside_production: the same; or in longer runs, where days of the difference to production depend longer.
        models: candidate, teacher, production and ``baseline:<name>``, those that can be measured.
        problems: why another one cannot.
    """

    yardstick: Yardstick
    holdout: Holdout
    resamples: DayResamples
    beside_production: DayResamples
    models: Mapping[str, ScoredModel]
    problems: tuple[str, ...]

    def performance(self, role: str, rows: Ints | None = None) -> Performance | None:
        """This model on all rows or some; ``None`` when it cannot be measured."""
        model = self.models.get(role)
        resamples = self.beside_production if role == _PRODUCTION else self.resamples
        return self._measure(model, resamples, rows) if model else None

    def rival(self, candidate: Performance | None, rows: Ints | None = None) -> Performance | None:
        """The candidate on the resampled days that production is measured on."""
        if self.beside_production is self.resamples or not candidate:
            return candidate
        return self._measure(self.models[_CANDIDATE], self.beside_production, rows)

    def _measure(self, model: ScoredModel, resamples: DayResamples, rows: Ints | None) -> Performance:
        return measure(self.holdout.labels, model, resamples, rows, self.yardstick)

    def bootstrap(self, seed: int) -> dict[str, int | float]:
        """How days were drawn."""
        production = {"production_mean_run_days": round(self.beside_production.mean_run, 6)}
        return {**self.resamples.summary(), **(production if _PRODUCTION in self.models else {}), "seed": seed}


def evaluate(
    task: Task,
    frame_dir: Path,
    teacher_dir: Path,
    ladder_dir: Path,
    variant: str,
    production: Bundle | None,
    *,
    seed: int,
    pairs: Path | None = None,
    threshold: float | None = None,
) -> Evaluation:
    """
    Evaluate ``variant`` on split test: over all rows, by slice, against baselines, teacher and production.

    All models see the same rows, and both of a difference the same resampled days, so it is paired. The threshold of
    the candidate, the teacher and each baseline is chosen on split tune; production keeps its own. Production reads
    the raw frame through its own bundle.

    Args:
        teacher_dir: holds ``baselines.parquet``.
        ladder_dir: holds ``scores.parquet`` with a column ``variant``.
        production: the stable bundle, or ``None`` while nothing is served.
        pairs: receives what candidate and production said of each row, where both can be measured.
        threshold: the candidate's, where it is settled already.

    Raises:
        BadInput: the ladder has no such variant.
        BadArtifact: the frame or the scores are unreadable, incomplete, or lack a feature that production needs.
    """
    needed = production.manifest.features.names if production else ()
    times = ("label_time",) if production and pairs else ()
    yardstick, target = task.yardstick, task.target
    holdout = read_holdout(frame_dir, "test", (*slice_columns(frame_dir), *times, *needed), target)
    tune, folders = read_holdout(frame_dir, "tune", target=target), (teacher_dir, ladder_dir)
    bench = _bench(yardstick, (holdout, tune), folders, variant, production, seed, threshold)
    whole = {role: bench.performance(role) for role in bench.models}
    baselines = {role: model for role, model in whole.items() if role.startswith("baseline:") and model}
    best = _hardest(baselines, yardstick)
    candidate = whole.get(_CANDIDATE)
    digest = production.digest if production else None
    window = iso(task.splits.test), iso(task.splits.live)
    slices = tuple(_slices(bench))
    histories, block_hours = _histories(bench, digest, window, slices) if digest else ((), None)
    if pairs and bench.models.keys() >= {_CANDIDATE, _PRODUCTION}:
        predictions = (bench.models[role].predictions for role in (_PRODUCTION, _CANDIDATE))
        write_pairs(pairs, holdout, yardstick, *predictions)
    return Evaluation(
        model=variant,
        window=window,
        target=target.model_dump(mode="json"),
        task_metrics=tuple(own.document for own in yardstick.own),
        loss=yardstick.metrics.loss if yardstick.own_loss else None,
        n=holdout.n,
        positives=target.positives(holdout.labels),
        threshold=bench.models[_CANDIDATE].threshold if candidate else target.unknown_threshold,
        metrics=candidate.estimates() if candidate else {},
        slices=tuple(_slice(bench, best, name, rows) for name, rows in slices),
        baselines=tuple(_peer(role.partition(":")[2], model, candidate) for role, model in baselines.items()),
        best_baseline=best.partition(":")[2] if best else None,
        teacher=_peer(TEACHER, whole.get(_TEACHER), candidate),
        production=_peer(_PRODUCTION, whole.get(_PRODUCTION), bench.rival(candidate), digest) if production else None,
        **_pictures(bench)._asdict(),
        bootstrap=bench.bootstrap(seed),
        histories=histories,
        block_hours=block_hours,
        problems=bench.problems,
    )


def _histories(
    bench: _Bench, production: str, window: tuple[str, str], slices: _SliceRows
) -> tuple[tuple[LossHistory, ...], float | None]:
    ours, theirs = (bench.models.get(role) for role in (_CANDIDATE, _PRODUCTION))
    if not ours or not theirs:
        return (), None
    moments = bench.holdout.frame["event_time"].dt.epoch("us").to_numpy() / 3.6e9
    hours = moments - 24 * np.floor(moments.min() / 24)
    rows = {f"{name}={value}": own for (name, value), own in slices}
    return loss_histories(bench.yardstick, bench.holdout.labels, hours, ours, theirs, production, window, rows)


def _hardest(baselines: Mapping[str, Performance], yardstick: Yardstick) -> str | None:
    """The role of the baseline that ranks highest; those that cannot be ranked come last."""
    metric = yardstick.metrics.find(yardstick.metrics.ranking)
    sign = 1.0 if metric and metric.higher else -1.0

    def rank(role: str) -> float:
        value = baselines[role].values.get(yardstick.metrics.ranking)
        return -math.inf if value is None else sign * value

    return max(baselines, key=rank, default=None)


def _bench(
    yardstick: Yardstick,
    holdouts: tuple[Holdout, Holdout],
    folders: tuple[Path, Path],
    variant: str,
    production: Bundle | None,
    seed: int,
    threshold: float | None,
) -> _Bench:
    (test, tune), (teacher_dir, ladder_dir), target = holdouts, folders, yardstick.target
    ladder, ladder_tune = (read_scores(ladder_dir / "scores.parquet", rows) for rows in (test, tune))
    plain, plain_tune = (read_scores(teacher_dir / "baselines.parquet", rows) for rows in (test, tune))
    if variant not in ladder:
        raise BadInput(f"variant {variant!r}", f"is not in the ladder ({', '.join(ladder)})", "name one of these")
    scores = {_CANDIDATE: ladder[variant], **{f"baseline:{name}": plain[name] for name in plain}}
    tuning = {_CANDIDATE: ladder_tune[variant], **{f"baseline:{name}": plain_tune[name] for name in plain}}
    if TEACHER in ladder:
        scores[_TEACHER], tuning[_TEACHER] = ladder[TEACHER], ladder_tune[TEACHER]
    thresholds = {role: _threshold(target, tune, tuning[role]) for role in scores}
    if threshold is not None:
        thresholds[_CANDIDATE] = threshold
    if production:
        columns = test.frame.select(production.manifest.features.names)
        scores[_PRODUCTION] = production.predict(columns).reshape(test.n, -1)
        thresholds[_PRODUCTION] = production.manifest.threshold
    problems = {role: text for role in scores if (text := unusable(_label(role, variant), scores[role], target))}
    models = {
        role: ScoredModel.of(role, scores[role], thresholds[role], yardstick) for role in scores if role not in problems
    }
    return _Bench(yardstick, test, *_draws(yardstick, test, models, seed), models, tuple(problems.values()))


def _threshold(target: TargetKind, tune: Holdout, predictions: Floats) -> float | None:
    return target.unknown_threshold if unusable("", predictions, target) else target.threshold(tune.labels, predictions)


def _draws(
    yardstick: Yardstick, test: Holdout, models: Mapping[str, ScoredModel], seed: int
) -> tuple[DayResamples, DayResamples]:
    """In runs as long as the candidate's loss asks for, and as its difference to production's does too."""
    roles = [role for role in (_CANDIDATE, _PRODUCTION) if role in models]
    losses = [yardstick.losses(test.labels, models[role].predictions) for role in roles]
    alone = DayResamples.draw(test.days, losses[:1] if _CANDIDATE in models else (), seed)
    if len(losses) < 2:
        return alone, alone
    both = DayResamples.draw(test.days, (losses[0], losses[0] - losses[1]), seed)
    return alone, both if both.mean_run > alone.mean_run else alone


def _label(role: str, variant: str) -> str:
    return f"the candidate ({variant})" if role == _CANDIDATE else f"the {role}".replace("baseline:", "baseline ")


def _peer(name: str, peer: Performance | None, candidate: Performance | None, digest: str | None = None) -> Peer:
    return Peer(
        name=name,
        digest=digest,
        metrics=peer.estimates() if peer else {},
        difference=candidate.minus(peer) if candidate and peer else {},
    )


def _slices(bench: _Bench) -> Iterator[tuple[tuple[str, str], Ints]]:
    """Name, value and rows of each slice."""
    for column in bench.holdout.frame.columns:
        if column.startswith("slice_"):
            values = bench.holdout.frame[column].cast(pl.String).fill_null("(none)")
            for value in sorted(values.unique().to_list()):
                yield (column.removeprefix("slice_"), value), np.flatnonzero((values == value).to_numpy())
    target = bench.yardstick.target
    for value, rows in target.slices(bench.holdout.labels):
        yield (target.slice_name or target.kind, value), rows


def _slice(bench: _Bench, best: str | None, name: tuple[str, str], rows: Ints) -> SliceEvaluation:
    candidate = bench.performance(_CANDIDATE, rows)

    def versus(role: str | None) -> Performance | None:
        return bench.performance(role, rows) if candidate and role else None

    peers = {
        key: versus(role) for key, role in (("production", _PRODUCTION), ("baseline", best), ("teacher", _TEACHER))
    }
    ours = {key: bench.rival(candidate, rows) if key == "production" else candidate for key in peers}
    differences = {key: own.minus(peer) if (own := ours[key]) and peer else {} for key, peer in peers.items()}
    return SliceEvaluation(
        slice=name[0],
        value=name[1],
        n=rows.size,
        positives=bench.yardstick.target.positives(bench.holdout.labels[rows]),
        metrics=candidate.estimates() if candidate else {},
        versus_production=differences["production"],
        versus_baseline=differences["baseline"],
        versus_teacher=differences["teacher"],
    )


def _pictures(bench: _Bench) -> Pictures:
    model, target = bench.models.get(_CANDIDATE), bench.yardstick.target
    predictions, threshold = (model.predictions, model.threshold) if model else (None, None)
    return target.pictures(bench.holdout.labels, predictions, threshold)
