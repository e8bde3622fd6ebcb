"""
A run's parameters settled: every default that depends on when, where and on what it runs, once, so that all later steps
see the same values.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from sluice.content import digest_of_value
from sluice.documents.event_time import iso
from sluice.errors import BadInput
from sluice.gates.policy import parse_policy
from sluice.installation import code_digest
from sluice.models.store import read_bundle
from sluice.object_store import is_remote, open_location
from sluice.release.snapshot import POLICY
from sluice.steps.parameters import POLICY_NAME, STABLE, CandidateParameters, parse_recipe
from sluice.steps.repository import open_repository
from sluice.tasks.answers import source_digest
from sluice.tasks.task import load_task, task_modules

PROBE = ".sluice-check"
"""What the first step writes into a store; no bundle and no checkpoint is called so."""


class SettledParameters(NamedTuple):
    """The values that all steps of a run share."""

    source: str
    recipe: str
    policy: str
    production: str
    now: str
    run: str
    code: str


def settle(parameters: CandidateParameters, job: tuple[str, str]) -> SettledParameters:
    """
    Settle every default, of a store and a repository that answer: nothing is trained that could not be released.

    Args:
        job: name and id of the pipeline run, of which KFP gives a recurring one no name; the run is named by them and
            the other values, and by what ``run`` says instead.

    Raises:
        BadInput: the repository cannot be read or written, or the environment has no policy, or one of another task.
        BadArtifact: the store has no bundle of that production.
        Unavailable: a store or the repository does not answer.
    """
    _require_stores(parameters)
    task = load_task(parameters.task)
    recipe = parse_recipe(parameters.recipe) or task.recipe
    now = parameters.now or iso(datetime.now(UTC).replace(microsecond=0))
    source = parameters.source or source_digest(task)
    policy, production = _released(parameters)
    about = parse_policy(policy.encode(), "gate policy", task.yardstick.metrics)
    if (about.task, about.environment) != (task.name, parameters.environment):
        rule = f"is for {about.task} {about.environment}, the run is for {task.name} {parameters.environment}"
        raise BadInput("gate policy", rule, "give parameter policy, or name another task or environment")
    if production and parameters.bundles:
        read_bundle(parameters.bundles, production, os.environ)
    digest = digest_of_value(recipe.model_dump(mode="json"))
    identity = {"name": job[0] or job[1], "task": parameters.task, "recipe": digest, "source": source, "now": now}
    code = code_digest(Path(parameters.feature_repo), task_modules(parameters.task))
    run = {"id": digest_of_value({**identity, "job": job[1]})[7:19], **identity, "kfp_run": job[1], "code": code}
    named = {key: value for key, value in {**run, **json.loads(parameters.run or "{}")}.items() if value != ""}
    text = recipe.model_dump_json()
    return SettledParameters(source, text, policy, production, now, json.dumps(named, sort_keys=True), named["code"])


def _require_stores(parameters: CandidateParameters) -> None:
    """
    Each store that a run writes into takes a small object, always the same one.

    Raises:
        BadInput: a folder that cannot be written.
        Unavailable: object storage that does not answer, or refuses.
    """
    for name, store in (("bundles", parameters.bundles), ("checkpoints", parameters.checkpoints)):
        if is_remote(store):
            (open_location(store) / PROBE).write(b"written by the first step of a run, to see that it may\n")
        elif store and not _is_writable(Path(store)):
            raise BadInput(f"parameter {name}", f"folder {store} cannot be written", "name another, or a URL")


def _is_writable(folder: Path) -> bool:
    there = next(one for one in (folder, *folder.parents) if one.exists())
    return there.is_dir() and os.access(there, os.W_OK)


def _released(parameters: CandidateParameters) -> tuple[str, str]:
    """Text of the policy, and digest of production or nothing."""
    production, environment, given = parameters.production, parameters.environment, _given_policy(parameters)
    if not parameters.gitops:
        path = Path(parameters.overlays) / environment / POLICY
        return given or _text(path), "" if production == STABLE else production
    repository = open_repository(parameters.gitops, environment)
    snapshot = repository.snapshot(repository.require_writable())
    text = repository.file(f"manifests/overlays/{environment}/{POLICY}", snapshot.commit) or b""
    return given or text.decode(), (snapshot.state.stable or "") if production == STABLE else production


def _given_policy(parameters: CandidateParameters) -> str:
    """The text of parameter policy; of a name, the file's that the image has."""
    text = parameters.policy
    named = POLICY_NAME.fullmatch(text.strip())
    return _text(Path(parameters.overlays) / parameters.environment / named[0]) if named else text


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        there = ", ".join(sorted(one.name for one in path.parent.glob("*policy*.y*ml"))) or "none"
        fix = f"name an environment or a policy that the image has (here: {there}), or give parameter policy or gitops"
        raise BadInput(str(path), f"cannot be read ({error.strerror})", fix) from error
