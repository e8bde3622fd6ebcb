"""
Make the models of ``manifests/quickstart`` and the releases of its three steps.

    python -m sluice_local.flights_quickstart   minutes; when feature definitions or a bundle's format have changed

Another machine may round otherwise and get other digests; what is served is what this wrote.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from sluice.compression.ladder import build_ladder
from sluice.data.ingest import ingest
from sluice.data.validate import validate
from sluice.documents.state import ReleaseState
from sluice.features.build import build_features
from sluice.installation import FEATURE_REPO, MANIFESTS, code_digest
from sluice.models.bundle import Bundle
from sluice.release.file import render_holds, render_release
from sluice.rollout.message import short
from sluice.steps.evaluate import evaluate, pass_on
from sluice.steps.package import package
from sluice.steps.select import select
from sluice.tasks.flights import HISTORY, PREVIOUS_LEG, SCHEDULE, TASK, WEATHER
from sluice.tasks.recipe import Recipe, Variant
from sluice.tasks.task import task_modules
from sluice.training.teacher import train_teacher

MODELS = "models"
_VARIANTS: tuple[Variant, ...] = ("teacher_f32", "student_f32", "student_int8")
RECIPES = (
    Recipe(
        name="first",
        description="Schedule, weather at the origin and the history of carrier, route and plane.",
        features=(*SCHEDULE, *WEATHER, *HISTORY),
        variants=_VARIANTS,
    ),
    Recipe(
        name="second",
        description="Adds how the plane's previous leg went and how long ago it landed.",
        features=(*SCHEDULE, *WEATHER, *HISTORY, *PREVIOUS_LEG),
        variants=_VARIANTS,
    ),
)
_SINCE = "2013-08-15T12:00:00Z"
"""Until then the quickstart's features are there."""


def frame_of_flights(folder: Path) -> Path:
    """The frame of the reference task."""
    span, validation, frame = (folder / name for name in ("span", "validation", "frame"))
    ingest(TASK, span)
    validate(TASK, span, validation)
    build_features(TASK, span, FEATURE_REPO, frame / "store", frame)
    pass_on(span, validation, frame)
    return frame


def bundle_of(recipe: Recipe, frame: Path, folder: Path) -> Bundle:
    """A recipe's bundle, by the steps of the pipeline."""
    places = {name: folder / recipe.name / name for name in ("teacher", "ladder", "selection")}
    inputs, evaluation = {"frame": frame, **places}, folder / recipe.name / "evaluation"
    train_teacher(frame, recipe, places["teacher"], TASK.baseline_keys)
    build_ladder(frame, places["teacher"], recipe, places["ladder"])
    policy = (MANIFESTS / "overlays/dev/gate-policy.yaml").read_text("utf-8")
    select(TASK.name, frame, places["ladder"], policy, recipe.seed, places["selection"])
    evaluate(TASK.name, recipe, "", "", inputs, evaluation)
    code = code_digest(FEATURE_REPO, task_modules(TASK.name))
    return package(TASK.name, recipe.model_dump_json(), code, (frame, evaluation), folder / "bundles")


def write_quickstart(first: Bundle, second: Bundle, quickstart: Path) -> None:
    """Put the bundles and the releases that they are in into the folder of manifests."""
    shutil.rmtree(quickstart / MODELS, ignore_errors=True)
    for bundle in (first, second):
        shutil.copytree(bundle.directory, quickstart / MODELS / bundle.digest.replace(":", "-"))
    for state in releases(first.digest, second.digest):
        release = quickstart / state.stage / "release"
        release.mkdir(parents=True, exist_ok=True)
        (release / "kustomization.yaml").write_bytes(render_release(state))
        (release / "holds.yaml").write_bytes(render_holds(state.holds))


def releases(first: str, second: str) -> tuple[ReleaseState, ...]:
    """What each step of the quickstart serves."""
    stable = ReleaseState.empty(TASK.name, "dev").settled(first, _SINCE, ())
    rollout = stable.model_dump() | {"candidate": second, "rollout": f"r0002-{short(second)}"}
    shadow = rollout | {"sequence": 2, "stage": "shadow", "mirror_percent": 100}
    canary = rollout | {"sequence": 3, "stage": "canary", "stable_weight": 90, "candidate_weight": 10}
    return stable, *map(ReleaseState.model_validate, (shadow, canary))


def main() -> int:
    """Entry point."""
    with tempfile.TemporaryDirectory() as scratch:
        frame = frame_of_flights(Path(scratch))
        first, second = (bundle_of(recipe, frame, Path(scratch)) for recipe in RECIPES)
        write_quickstart(first, second, MANIFESTS / "quickstart")
    sys.stdout.write(f"{first.digest}\n{second.digest}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
