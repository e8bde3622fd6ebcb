"""The watch over production as a step: read what is known, ask the triggers, and write a page that says why."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import polars as pl

from sluice.content import write_json
from sluice.data.divergence import divergence
from sluice.documents.event_time import iso, moment_of
from sluice.evidence.moments import moments
from sluice.evidence.rows import decoded, with_labels
from sluice.feedback.batch import labels_at
from sluice.feedback.store import PredictionStore
from sluice.feedback.store_log import StoreLog
from sluice.models.bundle import Bundle
from sluice.models.store import read_bundle
from sluice.predictions.log import first_answers
from sluice.retraining.triggers import Drift, NewLabels, ProductionFacts, Retraining, decide
from sluice.steps.parameters import WatchParameters, parse_limits
from sluice.steps.repository import open_repository
from sluice.tasks.task import Task, load_task

REPORT = "retraining.json"
_COLUMNS = ("request_id", "event_time", "route", "digest", "status", "score", "vector")


def watch(parameters: WatchParameters, out: Path) -> Retraining:
    """
    Decide whether to train again.

    Args:
        out: receives ``retraining.json``.

    Raises:
        BadInput, BadArtifact: the repository, the bundle or the store of predictions cannot be read.
    """
    known, limits = _known(load_task(parameters.task), parameters), parse_limits(parameters.limits)
    retraining = decide(known, limits)
    out.mkdir(parents=True, exist_ok=True)
    write_json(
        out / REPORT,
        {
            "retrain": retraining.retrain,
            "reason": retraining.reason,
            "triggers": [asdict(trigger) for trigger in retraining.triggers],
            "known": known.model_dump(mode="json"),
            "limits": limits.model_dump(mode="json"),
            "now": parameters.now,
        },
    )
    return retraining


def page(retraining: Retraining) -> str:
    """The decision as one HTML page: no script, no network, every value escaped."""
    source = (resources.files(__package__) / "watch.html.j2").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(source)
    return template.render(retraining=retraining)


def _known(task: Task, parameters: WatchParameters) -> ProductionFacts:
    if not parameters.gitops:
        return ProductionFacts()
    repository, now = open_repository(parameters.gitops, parameters.environment), moment_of(parameters.now)
    state = repository.snapshot().state
    trained = [each for each in repository.decisions() if each.stage == "offline" and each.action != "refuse"]
    since = (now - moment_of(trained[-1].now)).total_seconds() / 3600 if trained else None
    base: dict[str, Any] = {"production": state.stable, "rollout": state.rollout, "hours_since_training": since}
    if not state.stable or not parameters.bundles:
        return ProductionFacts(**base, empty=state.stable is None)
    bundle = read_bundle(parameters.bundles, state.stable, os.environ)
    card = json.loads(bundle.files.get("card.json", b"{}"))
    live: dict[str, Any] = {}
    if parameters.predictions:
        store = PredictionStore.open(
            parameters.predictions, state.task, parameters.environment, os.environ, task.target
        )
        live = _live(task, bundle, card, StoreLog(store), (now - timedelta(days=parameters.days), now))
    loss = card.get("metrics", {}).get(task.yardstick.metrics.loss)
    return ProductionFacts(**base, **live, holdout_loss=float(loss["value"]) if loss else None)


def _live(
    task: Task, bundle: Bundle, card: Mapping[str, Any], log: StoreLog, window: tuple[datetime, datetime]
) -> dict[str, Any]:
    """What the store says of the model in production; ``window`` is of the predictions' event times."""
    start, now = window
    learned = moment_of(card["holdout"]["window"][1]) if card else now
    label_rows = log.gather("labels", min(start, learned), lambda rows: rows.drop("reward", "digest"))
    labels = labels_at(label_rows, now)
    rows = with_labels(_answered(bundle, log, window), labels, now, task.yardstick).filter("ok")
    vector = rows["vector"].drop_nulls().struct
    drift = {
        name: Drift(divergence=divergence(profile, vector.field(name)), bins=len(profile.shares) + 1)
        for name, profile in sorted(bundle.manifest.profiles.items())
        if len(vector.field(name))
    }
    new = NewLabels(
        n=labels.filter(pl.col("label_time") >= learned).height,
        since=iso(learned),
        until=iso(now),
        learnable=task.splits.live > learned,
    )
    described = rows["vector"].len() - rows["vector"].null_count()
    return {"requests": described, "drift": drift, "loss": moments(rows["loss"]), "labels": new if card else None}


def _answered(bundle: Bundle, log: StoreLog, window: tuple[datetime, datetime]) -> pl.DataFrame:
    """
    The predictions of a model, each request once; ``vector`` is null where its features are not known.

    On any route: it was a candidate before, and few answer more since.
    """

    def mine(rows: pl.DataFrame) -> pl.DataFrame:
        in_time = pl.col("event_time").is_between(*window, closed="left")
        vectors = decoded(rows.filter(in_time, digest=bundle.digest), bundle.manifest.profiles, (), {})
        has_features = pl.col("features").is_in(["", "{}"]).not_()
        return vectors.with_columns(vector=pl.when(has_features).then("vector")).select(_COLUMNS)

    rows = log.gather("predictions", window[0], mine)
    return first_answers(rows).unique("request_id", keep="first", maintain_order=True)
