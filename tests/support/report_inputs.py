"""A small run, made up but realistic: six chapters with the files that a real run leaves, and its decisions."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sluice.content import write_json
from sluice.documents.verdict import Decision
from sluice.tasks.recipe import Recipe
from sluice.workspace import Workspace
from tests.support.report_decisions import offline_decision, refused_by_hold, rollout
from tests.support.report_evaluations import digest, evaluation_of, selection_reasons, variants

TITLES = {
    1: (
        "a first model into an empty production",
        "Nothing was served before; 1,500 answers without a failure confirmed it.",
    ),
    2: ("a better challenger", "Passed offline, in shadow and in two canary steps; labels confirmed it."),
    3: ("better overall, worse in one slice", "Refused offline: carrier VX would have been served worse."),
    4: (
        "fine offline, broken while serving",
        "Stopped in shadow: airport_delay_mean was served in minutes, not seconds.",
    ),
    5: ("the same digest again", "Refused: its digest is held."),
}
SLUGS = ("first", "challenger", "one-slice", "wrong-unit", "again")


def write_run(workspace: Workspace) -> list[Decision]:
    """Write five chapters below ``workspace.home / "runs"`` and the kill in one; returns the decisions in Git order."""
    found: list[Decision] = []
    for number, (title, outcome) in TITLES.items():
        folder = workspace.home / "runs" / f"{number:02d}-{SLUGS[number - 1]}"
        candidate = {3: None, 5: digest("model 4")}.get(number, digest(f"model {number}"))
        record = {"number": number, "title": title, "outcome": outcome, "candidate": candidate}
        write_json(folder / "chapter.json", record | {"action": "confirm", "verdict": "PASS"})
        made = write_candidate(folder, number) if number <= 4 else [refused_by_hold(found[-1])]
        run = {"id": digest(folder.name)[7:19], "name": SLUGS[number - 1]}
        found += [decision.model_copy(update={"run": run}) for decision in made]
    window = ["2013-08-20T05:00:00Z", "2013-08-20T17:00:00Z"]
    write_json(workspace.home / "interrupted.json", {"now": window[1], "weight": 10, "window": window, "done": 173})
    return found


def write_candidate(folder: Path, number: int) -> list[Decision]:
    """One candidate's files; returns its decisions."""
    rng = random.Random(number)  # noqa: S311  pictures, not secrets
    recipe = _recipe(number)
    evaluation = evaluation_of(rng, number)
    write_json(folder / "recipe.json", recipe.model_dump(mode="json"))
    write_json(folder / "span.json", _span())
    write_json(folder / "data.json", {"weeks": _weeks(rng)})
    write_json(folder / "validation.json", _validation())
    write_json(folder / "history.json", {"epochs": 12, "best_epoch": 9, "history": _epochs(rng)})
    write_json(folder / "variants.json", [item.model_dump(mode="json") for item in variants(rng)])
    write_json(folder / "selection.json", {"name": "student_int8", "reasons": selection_reasons()})
    write_json(folder / "evaluation.json", evaluation.model_dump(mode="json"))
    offline = offline_decision(number, evaluation)
    if number == 3:
        return [offline]
    write_json(folder / "infra.json", _infra(number))
    write_json(
        folder / "infra_timing.json", {"start_s": 3.2, "latency_p50_ms": 2.9, "latency_p99_ms": 7.4, "requests": 96}
    )
    looks, online = rollout(rng, number, offline)
    lines = "".join(json.dumps(look, sort_keys=True) + "\n" for look in looks)
    (folder / "looks.jsonl").write_text(lines + '{"now": "2013-08-', encoding="utf-8")
    return online


def _infra(number: int) -> dict[str, Any]:
    return {
        "digest": digest(f"model {number}"),
        "passed": True,
        "reasons": [],
        "rows": 32,
        "tolerance": 1e-6,
        "difference_v1": 2.4e-7,
        "difference_v2": 0.0,
        "refused": {"wrong name": 400, "wrong type": 400},
        "ended": "SIGTERM",
    }


def _recipe(number: int) -> Recipe:
    features = [f"feature_{index}" for index in range(12)] + [
        "carrier",
        "origin",
        "airport_delay_mean",
        "airport_flights",
    ]
    return Recipe(
        name=SLUGS[number - 1],
        description="Schedule, route, weather and the airport's rolling delays.",
        features=tuple(features),
        transform={"airport_delay_mean": "airport_delay_mean * 60"} if number == 4 else {},
        train_transform={"label": "CASE WHEN carrier = 'VX' THEN 0 ELSE label END"} if number == 3 else {},
    )


def _span() -> dict[str, Any]:
    return {
        "digest": digest("span"),
        "rows": 195_432,
        "duplicates": 17,
        "window": ["2013-01-01T05:00:00Z", "2013-08-01T05:00:00Z"],
        "splits": {"train": 108_902, "tune": 28_796, "test": 57_734},
        "source": digest("source"),
    }


def _weeks(rng: random.Random) -> list[dict[str, Any]]:
    start, found = datetime(2012, 12, 31, tzinfo=UTC), []
    for week in range(31):
        at = start + timedelta(weeks=week)
        split = "train" if week < 17 else "tune" if week < 22 else "test"
        rows = round((6400 if week else 4200) + rng.gauss(0, 180))
        rate = 0.22 + 0.06 * math.sin(week / 4) + rng.gauss(0, 0.03)
        labelled = round(rows * 0.97)
        found.append(
            {
                "start": f"{at:%Y-%m-%d}",
                "split": split,
                "rows": rows,
                "labelled": labelled,
                "positives": round(rate * labelled),
            }
        )
    return found


def _validation() -> dict[str, Any]:
    names = [
        "carrier",
        "origin",
        "dest",
        "tailnum",
        "scheduled_hour",
        "scheduled_minutes",
        "weekday",
        "distance",
        "temp",
        "wind_speed",
    ]
    distances = [0.004, 0.002, 0.021, 0.088, 0.006, 0.011, 0.003, 0.009, 0.231, 0.047]
    compared = [
        {
            "feature": name,
            "divergence": value,
            "limit": 0.3 if name == "temp" else 0.1,
            "bins": [],
            "baseline": [],
            "fresh": [],
        }
        for name, value in zip(names, distances, strict=True)
    ]
    return {"task": "flights", "passed": True, "rows": 195_432, "anomalies": [], "comparisons": compared}


def _epochs(rng: random.Random) -> list[dict[str, float]]:
    return [
        {
            "epoch": epoch,
            "train_loss": 0.43 + 0.13 * math.exp(-epoch / 2.2) - 0.0016 * epoch,
            "tune_loss": 0.452 + 0.1 * math.exp(-epoch / 2) + 0.0007 * epoch + rng.gauss(0, 0.001),
            "tune_auc": 0.742 - 0.09 * math.exp(-epoch / 2) + rng.gauss(0, 0.001),
        }
        for epoch in range(1, 13)
    ]
