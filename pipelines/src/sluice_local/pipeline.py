"""One run of the training pipeline under KFP's local runner."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from sluice.content import digest_of_value
from sluice.errors import SluiceError
from sluice.installation import code_digest
from sluice.steps.parameters import TrainingParameters
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import task_modules
from sluice.workspace import Workspace

_STEP = re.compile(r"Inner task failed: '?([\w-]+)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ERROR_LINE = re.compile(r"^ *sluice: ([A-Z]\w*): (.+)$", re.MULTILINE)
_RAISED = re.compile(r"^ *((?:[a-z_]\w*\.)*[A-Z]\w*): (.+)$", re.MULTILINE)


class PipelineStoppedError(SluiceError):
    """A step met bad input (exit 2), the server refused the bundle (exit 3), or a step broke (exit 1)."""


@dataclass(frozen=True)
class Start:
    """What a run starts from; written before it starts, so that a killed run starts again from the same."""

    task: str
    environment: str
    name: str
    recipe: Recipe
    source: str
    production: str
    policy: str
    now: str
    feature_repo: str

    def run(self) -> dict[str, str]:
        """The run as decisions name it."""
        recipe = digest_of_value(self.recipe.model_dump(mode="json"))
        identity = {"name": self.name, "task": self.task, "recipe": recipe, "source": self.source, "now": self.now}
        # One machine's runner gives each try another id, and two runs of the loop decide the same.
        return {"id": digest_of_value(identity)[7:19], **identity, "kfp_run": "", "code": self.code}

    @property
    def code(self) -> str:
        """Digest of all code that the run depends on."""
        return code_digest(Path(self.feature_repo), task_modules(self.task))


def run_training(start: Start, workspace: Workspace, record: Path) -> None:
    """
    Train, gate, bundle and propose one candidate; finished steps of an earlier, killed run are taken from the cache.

    Raises:
        PipelineStoppedError: a step failed.
    """
    from kfp import local

    from sluice_pipelines.catalogue import local_training

    root = workspace.pipelines
    # The cache knows the components' sources but not the core's, so a change of either starts a new one.
    cache = root / "cache" / start.code[7:23]
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(root),
        enable_caching=True,
        cache_root=str(cache),
    )
    try:
        local_training()(**_parameters(start, workspace, record).model_dump())
    except RuntimeError as error:
        raise stopped(start, workspace, str(error)) from error


def _parameters(start: Start, workspace: Workspace, record: Path) -> TrainingParameters:
    """The same that a run in a cluster has; all places are of this machine."""
    return TrainingParameters.parse(
        {
            "task": start.task,
            "source": start.source,
            "recipe": start.recipe.model_dump_json(),
            "policy": start.policy,
            "production": start.production,
            "environment": start.environment,
            "now": start.now,
            "run": json.dumps(start.run(), sort_keys=True),
            "feature_repo": start.feature_repo,
            "bundles": str(workspace.bundles),
            "gitops": str(workspace.gitops),
            "record": str(record),
        }
    )


def stopped(start: Start, workspace: Workspace, message: str = "") -> PipelineStoppedError:
    """
    Why a run came to no decision.

    KFP says only which step failed, and nothing of a refusal; a step's own words are the last ones in what we print.
    """
    sys.stdout.flush()
    log = workspace.home / "logs" / "worker.log"
    message = _COLOUR.sub("", message)
    step = _STEP.search(message)
    kind, words = last_words(log.read_text("utf-8", "replace") if log.exists() else "")
    exit_code = {"": 1, "Unavailable": 1, "Refused": 3}.get(kind, 2)
    thing = f"run {start.name}, step {step[1]}" if step else f"run {start.name}"
    error = PipelineStoppedError(thing, words or message or "came to no decision", f"the log is {log}")
    error.exit_code = exit_code
    return error


def last_words(printed: str) -> tuple[str, str]:
    """Kind of the error that a step told and its one line; of a fault no kind, and the end of its traceback."""
    before, _, traceback = printed.rpartition("Traceback (most recent call last)")
    errors = list(_ERROR_LINE.finditer(traceback))
    if errors:
        return errors[-1][1], errors[-1][2]
    raised = _RAISED.search(traceback) if before or traceback != printed else None
    return "", f"{raised[1]}: {raised[2]}" if raised else ""
