"""A chapter's model that is trained elsewhere: trained in a process of its own, imported, and proposed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from sluice.content import whole_directory, write_json
from sluice.documents.event_time import iso
from sluice.errors import BadInput
from sluice.operations.import_model import import_model
from sluice.operations.import_spec import read_spec
from sluice.operations.propose import EvaluationPlace, propose_bundle, stable_bundle
from sluice.steps.evaluate import read_inputs
from sluice_local.pipeline import last_words
from sluice_local.story import ForeignTraining
from sluice_local.world import LocalWorld

_BY = "sluice run"


def import_foreign(world: LocalWorld, foreign: ForeignTraining, record: Path) -> str:
    """
    Train, import and propose; played again it finds what was done.

    Args:
        record: the chapter's folder.

    Returns:
        The id that the proposal, or its refusal, is recorded by.

    Raises:
        BadInput: the program failed, wrote no model, or one that does not fit.
    """
    frame = read_inputs(_folder_of(world, foreign.frame))["frame"]
    start = record / "start.json"
    if not start.exists():
        write_json(start, {"now": iso(world.clock)})
    elsewhere = record / "elsewhere"
    if not elsewhere.exists():
        world.events.emit("step", name="train elsewhere")
        _train(foreign.program, frame, elsewhere)
    world.events.emit("step", name="import")
    spec = read_spec(elsewhere / "spec.yaml")
    store, out = str(world.workspace.bundles), record / "imported"
    production = stable_bundle(world.gitops.snapshot().state.stable, store)
    made = import_model(world.task, _model_in(elsewhere, foreign), spec, frame, out, production=production)
    world.events.emit("step", name="propose")
    now = json.loads(start.read_bytes())["now"]
    propose_bundle(world.gitops, str(made.bundle), store, EvaluationPlace(record=out), _BY, now)
    decisions = world.gitops.decisions()
    return next(str(one.run["id"]) for one in decisions if one.candidate == made.digest and one.run)


def _folder_of(world: LocalWorld, slug: str) -> Path:
    chapter = next(one for one in world.story.chapters if one.slug == slug)
    return world.workspace.home / "runs" / chapter.folder


def _train(program: str, frame: Path, out: Path) -> None:
    with whole_directory(out) as folder:
        command = [sys.executable, "-m", program, str(frame), str(folder)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            why = last_words(done.stderr)[1] or (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise BadInput(f"program {program}", f"ended with {done.returncode}: {why}", "mend it and run again")


def _model_in(folder: Path, foreign: ForeignTraining) -> Path:
    found = sorted(folder.glob("model.*"))
    if len(found) != 1:
        raise BadInput(f"program {foreign.program}", f"wrote {len(found)} files model.*, need one", "let it write one")
    return found[0]
