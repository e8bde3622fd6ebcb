"""The watch over production as a step: read what is known, ask the triggers, and write a page that says why."""

from __future__ import annotations

import html
import json
import os
import shutil
import tempfile
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from sluice.content import write_json
from sluice.data.divergence import divergence
from sluice.errors import BadInput, one_line
from sluice.models.bundle import Bundle
from sluice.models.fetch import PREFIX, open_store
from sluice.models.store import is_remote, read_bundle
from sluice.monitoring.moments import moments
from sluice.monitoring.rows import decoded, with_labels
from sluice.monitoring.triggers import Drift, Known, Limits, Retraining, decide
from sluice.monitoring.windows import list_windows, read_window
from sluice.release.state import moment_of
from sluice.stages.repository import open_repository
from sluice.tasks.task import Task, load_task

REPORT = "retraining.json"


def parse_limits(text: str) -> Limits:
    """
    The limits in JSON; an empty text is the defaults.

    Raises:
        BadInput: an unknown key, or a value out of range.
    """
    try:
        return Limits.model_validate_json(text or "{}")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise BadInput(
            f"parameter limits: {where}", f"{first['msg']}, got {first['input']!r}"[:200], "mend it"
        ) from error


def watch(task: str, places: tuple[str, str, str, str], limits: Limits, now: str, days: float, out: Path) -> Retraining:
    """
    Decide whether to train again.

    Args:
        places: the repository, its environment, the bundle store and the prediction log of the environment; an empty
            one leaves its triggers INCONCLUSIVE.
        days: how far back predictions are read.
        out: receives ``retraining.json``.
    """
    known = _known(load_task(task), places, moment_of(now), days)
    made = decide(known, limits)
    out.mkdir(parents=True, exist_ok=True)
    said = [asdict(trigger) for trigger in made.triggers]
    write_json(
        out / REPORT,
        {
            "retrain": made.retrain,
            "reason": made.reason,
            "triggers": said,
            "known": known.model_dump(mode="json"),
            "limits": limits.model_dump(mode="json"),
            "now": now,
        },
    )
    return made


def page(made: Retraining) -> str:
    """The decision as one HTML page: no script, no network, every value escaped."""
    rows = "".join(
        f"<tr><td>{html.escape(trigger.name)}</td><td><b>{trigger.says}</b></td><td>{html.escape(trigger.text)}</td></tr>"
        for trigger in made.triggers
    )
    head = "Train again" if made.retrain else "Do not train"
    style = "body{font:15px system-ui;margin:24px}td{padding:4px 14px 4px 0;vertical-align:top}"
    return (
        f"<!doctype html><meta charset=utf-8><title>{head}</title><style>{style}</style>"
        f"<h1>{head}</h1><p>{html.escape(made.reason)}</p><table>{rows}</table>"
    )


def _known(task: Task, places: tuple[str, str, str, str], now: datetime, days: float) -> Known:
    gitops, environment, bundles, predictions = places
    if not gitops:
        return Known()
    repository = open_repository(gitops, environment)
    state = repository.snapshot().state
    trained = [made for made in repository.decisions() if made.stage == "offline" and made.action != "refuse"]
    since = (now - moment_of(trained[-1].now)).total_seconds() / 3600 if trained else None
    base: dict[str, Any] = {"production": state.stable, "rollout": state.rollout, "hours_since_training": since}
    if not state.stable or not bundles:
        return Known(**base, empty=state.stable is None)
    bundle = read_bundle(bundles, state.stable, os.environ)
    live = _live(task, bundle, predictions, now, days) if predictions else {}
    return Known(**base, **live, holdout_loss=_holdout_loss(bundle), unlearned=_unlearned(task, bundle, now))


def _live(task: Task, bundle: Bundle, predictions: str, now: datetime, days: float) -> dict[str, Any]:
    """What the log says of the model in production."""
    profiles = bundle.manifest.profiles
    with tempfile.TemporaryDirectory() as scratch:
        windows = list_windows(_brought(predictions, Path(scratch)))
        recent = [read_window(one) for one in windows if now - timedelta(days=days) <= one.start and one.end <= now]
    if not recent:
        return {"requests": 0}
    # on any route: it was a candidate before, and few answer more since
    answered = pl.concat(recent).filter(pl.col("digest") == bundle.digest).unique("request_id", maintain_order=True)
    labels = task.read_examples(task.splits.live, now).select("example_id", "label", "label_time")
    rows = with_labels(decoded(answered, profiles, (), {}), labels, now).filter("ok")
    vector = rows["vector"].struct
    drift = {
        name: Drift(divergence=divergence(profile, vector.field(name)), bins=len(profile.shares) + 1)
        for name, profile in sorted(profiles.items())
        if rows.height
    }
    return {"requests": rows.height, "drift": drift, "loss": moments(rows["loss"])}


def _brought(predictions: str, scratch: Path) -> Path:
    """The log's folder; one in object storage is brought here."""
    if not is_remote(predictions):
        return Path(predictions)
    from pyarrow.fs import FileSelector

    address = PREFIX + predictions.removeprefix(PREFIX)
    files, root = open_store(address, os.environ)
    try:
        for found in files.get_file_info(FileSelector(root, allow_not_found=True)):
            if found.base_name.endswith(".parquet"):
                with files.open_input_stream(found.path) as source, (scratch / found.base_name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except OSError as error:
        reason = one_line(error, 300)
        raise BadInput(predictions, f"cannot be read ({reason})", "check the store and its credentials") from error
    return scratch


def _holdout_loss(bundle: Bundle) -> float | None:
    found = json.loads(bundle.files["card.json"])["metrics"].get("log_loss")
    return float(found["value"]) if found else None


def _unlearned(task: Task, bundle: Bundle, now: datetime) -> int:
    """Labelled rows between what the bundle was trained on and what a training would be trained on now."""
    learned = moment_of(bundle.manifest.provenance.window[1])
    if learned >= task.splits.tune:
        return 0
    rows = task.read_examples(learned, task.splits.tune)
    return rows.filter(pl.col("label").is_not_null(), pl.col("label_time") <= now).height
