"""
One chapter: train and propose a candidate, then walk its rollout.

Every step can be killed and played again: the pipeline takes finished steps from its cache, decisions have ids that
Git knows, windows of traffic are whole files, and a look at the same evidence decides the same.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sluice.content import write_json
from sluice.data.span import read_span
from sluice.documents.event_time import iso
from sluice.documents.verdict import Decision
from sluice.stages.registry import STAGES
from sluice.steps.evaluate import read_inputs
from sluice.steps.release import propose_again
from sluice.tasks.recipe import Recipe
from sluice_local.ending import Ending, gate_called
from sluice_local.foreign import import_foreign
from sluice_local.pipeline import Start, run_training, stopped
from sluice_local.report import write_data_picture
from sluice_local.rollout import walk_rollout
from sluice_local.story import Chapter, ending_file
from sluice_local.world import LocalWorld

_OUTCOMES = {"refuse": "Refused", "rollback": "Rolled back", "time-out": "Timed out"}

_CONFIRMATIONS = {"approve": "a person"} | {name: "labels" for name, stage in STAGES.items() if stage.whole_rollout}


def play_chapter(world: LocalWorld, chapter: Chapter) -> None:
    """Play a chapter to its end, or do nothing when it ended in an earlier run."""
    record = world.workspace.home / "runs" / chapter.folder
    world.events.emit("chapter", number=chapter.number, of=len(world.story.chapters), title=chapter.title)
    ended = ending_file(world.workspace, chapter)
    if ended.exists():
        world.events.emit("outcome", text=json.loads(ended.read_bytes())["outcome"])
        return
    record.mkdir(parents=True, exist_ok=True)
    run = _proposed(world, chapter, record)
    walk_rollout(world, record, interrupt=chapter.interrupt)
    ending = _ending(chapter, _decisions(world, run), world)
    write_json(ended, ending)
    world.events.emit("outcome", text=ending["outcome"])


def _proposed(world: LocalWorld, chapter: Chapter, record: Path) -> str:
    """Bring the chapter's candidate to its proposal or its refusal; returns the id of that run."""
    if chapter.recipe:
        return _train(world, chapter, chapter.recipe, record)
    if chapter.foreign:
        return import_foreign(world, chapter.foreign, record)
    return _again(world, chapter, record)


def _train(world: LocalWorld, chapter: Chapter, recipe: Recipe, record: Path) -> str:
    """
    Run the pipeline, unless Git knows how it ended; returns the run's id.

    A refused candidate is an outcome, not an error.
    """
    start = _start(world, chapter, recipe, record)
    write_json(record / "recipe.json", recipe.model_dump(mode="json"))
    run = start.run()["id"]
    if not _decisions(world, run):
        run_training(start, world.workspace, record)
    if not _decisions(world, run):
        raise stopped(start, world.workspace)
    picture = record / "data.json"
    if not picture.exists():
        write_data_picture(read_span(read_inputs(record)["span"]), picture, world.task.target)
    return run


def _decisions(world: LocalWorld, run: str) -> list[Decision]:
    return [decision for decision in world.gitops.decisions() if decision.run.get("id") == run]


def _start(world: LocalWorld, chapter: Chapter, recipe: Recipe, record: Path) -> Start:
    path = record / "start.json"
    if not path.exists():
        snapshot = world.gitops.snapshot()
        start = {
            "production": snapshot.state.stable or "",
            "policy": (
                world.gitops.file(f"manifests/overlays/{world.story.environment}/gate-policy.yaml") or b""
            ).decode(),
            "now": iso(world.clock),
        }
        write_json(path, start)
    return Start(
        task=world.story.task,
        environment=world.story.environment,
        name=chapter.slug,
        recipe=recipe,
        source=world.source,
        feature_repo=str(world.feature_repo),
        **json.loads(path.read_bytes()),
    )


def _again(world: LocalWorld, chapter: Chapter, record: Path) -> str:
    earlier = next(other for other in world.story.chapters if other.slug == chapter.again)
    candidate = json.loads(ending_file(world.workspace, earlier).read_bytes())["candidate"]
    world.events.emit("step", name="propose")
    path = record / "start.json"
    if not path.exists():
        write_json(path, {"now": iso(world.clock)})
    now = json.loads(path.read_bytes())["now"]
    return str(propose_again(world.gitops, candidate, chapter.slug, now).run["id"])


def _ending(chapter: Chapter, decisions: list[Decision], world: LocalWorld) -> dict[str, Any]:
    last = decisions[-1]
    world.events.emit("step", name="write down")
    return {
        "number": chapter.number,
        "title": chapter.title,
        "outcome": _sentence(decisions),
        "candidate": next((decision.candidate for decision in reversed(decisions) if decision.candidate), None),
        "verdict": last.verdict,
        **asdict(Ending.of(last)),
    }


def _sentence(decisions: list[Decision]) -> str:
    last = decisions[-1]
    name = f" {last.candidate[7:19]}" if last.candidate else ""
    why = next((reason.text for reason in last.reasons if reason.verdict == last.verdict), "")
    if last.action in ("confirm", "approve"):
        by = _CONFIRMATIONS.get(last.stage, "live requests without a failure")
        return f"Promoted{name} in {len(decisions)} commits, confirmed by {by}."
    holds = {hold["digest"] for hold in last.after.get("holds", ())} if last.action == "rollback" else ()
    outcome = _OUTCOMES.get(last.action, last.action) + (" and held" if last.candidate in holds else "")
    return f"{outcome}{name} at {gate_called(last.stage)}: {why}"
