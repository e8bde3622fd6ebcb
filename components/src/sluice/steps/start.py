"""
What a training run is asked for, checked before anything starts, and completed: every default that depends on when,
where and on what it runs is settled here, once, so that all later steps see the same values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sluice.content import digest_of_files, digest_of_value
from sluice.documents.event_time import iso, moment_of
from sluice.errors import BadInput
from sluice.gates.policy import parse_policy
from sluice.installation import code_digest
from sluice.release.snapshot import POLICY
from sluice.steps.repository import open_repository
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import load_task

STABLE = "stable"
"""``production``: whatever the repository says is stable; without a repository, nothing."""
DIGEST = r"sha256:[0-9a-f]{64}"
ENVIRONMENT = r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?"
_REMOTE = re.compile(r"(ssh|https|file)://[^\s?#]+|[\w.-]+@[\w.-]+:[^\s]+")
_STORE = re.compile(r"(s3|gs|abfss?|file)://[^\s?#]+")
_SECRET = re.compile(r"://[^/]*:[^/]*@")


class Places(BaseModel):
    """Where a run reads and writes, and when it thinks it is; empty places are not used, an empty time is the clock."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    gitops: str = ""
    bundles: str = ""
    now: str = ""

    @field_validator("gitops")
    @classmethod
    def _repository(cls, gitops: str) -> str:
        _plain(gitops, _REMOTE, "a path or URL (ssh, https) of a Git repository")
        return gitops

    @field_validator("bundles", "checkpoints", "predictions", check_fields=False)
    @classmethod
    def _stored(cls, place: str) -> str:
        _plain(place, _STORE, "a folder or URL (s3, gs, abfs)")
        return place

    @field_validator("now")
    @classmethod
    def _moment(cls, now: str) -> str:
        if now:
            moment_of(now)
        return now

    @model_validator(mode="after")
    def _served(self) -> Places:
        if self.gitops and not self.bundles:
            raise ValueError("bundles: is empty, and a release names a bundle that servers fetch from there")
        return self


class Asked(Places):
    """
    The parameters of a training run, as a person or a trigger gave them.

    Empty means: ``recipe`` the task's own, ``policy`` the repository's or the image's, ``source`` what is there,
    ``gitops`` nothing is released, ``bundles`` the bundle stays an artifact.
    """

    task: str = Field(pattern=r"^[a-z][\w.]{0,80}(:[A-Za-z_]\w*)?$")
    environment: str = Field(pattern=f"^{ENVIRONMENT}$")
    recipe: str = ""
    policy: str = ""
    production: str = Field(default=STABLE, pattern=rf"^({STABLE}|{DIGEST})?$")
    source: str = Field(default="", pattern=rf"^({DIGEST})?$")
    distribution: Literal["single", "mirrored"] = "single"
    checkpoints: str = ""
    checkpoint_every: int = Field(default=200, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _compared(self) -> Asked:
        if self.production.startswith("sha256:") and not self.bundles:
            raise ValueError("bundles: is empty, and production is compared from there")
        return self


def _plain(place: str, url: re.Pattern[str], what: str) -> None:
    if _SECRET.search(place):
        raise ValueError("holds a password, and parameters are shown to everybody; use a Secret")
    if place and not (url.fullmatch(place) or place.startswith("/")):
        raise ValueError(f"is not {what}")


def parse_asked(values: Mapping[str, Any]) -> Asked:
    """
    The parameters, each in its range; recipe and policy are read too, and the task is loaded.

    Raises:
        BadInput: names the first parameter that is wrong, its rule and what to write instead.
    """
    try:
        asked = Asked.model_validate(dict(values))
    except ValidationError as error:
        raise told_wrong(error, values) from error
    load_task(asked.task)
    parse_recipe(asked.recipe)
    if asked.policy:
        parse_policy(asked.policy.encode(), "parameter policy")
    return asked


def told_wrong(error: ValidationError, values: Mapping[str, Any]) -> BadInput:
    """The first parameter that is wrong, its rule, and what was given."""
    first = error.errors()[0]
    said = first["msg"].removeprefix("Value error, ")
    name = ".".join(str(part) for part in first["loc"])
    if not name:
        name, _, said = said.partition(": ")
    shown = values.get(name) and not _SECRET.search(str(values[name]))
    given = f", got {values[name]!r}"[:120] if shown else ""
    return BadInput(f"parameter {name}", said + given, "see the parameter's description")


def parse_recipe(text: str) -> Recipe | None:
    """
    The recipe in JSON; ``None`` where the text is empty.

    Raises:
        BadInput: it is none.
    """
    try:
        return Recipe.model_validate_json(text) if text else None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise BadInput(f"parameter recipe: {where}", str(first["msg"]), "give a recipe as JSON, or nothing") from error


class Started(NamedTuple):
    """The values that all steps of a run share."""

    source: str
    recipe: str
    policy: str
    production: str
    now: str
    run: str


def start(asked: Asked, run: str, job: tuple[str, str], folders: tuple[Path, Path]) -> Started:
    """
    Settle every default.

    Args:
        run: JSON object that names the run in every decision; empty: made of ``job`` and the other values.
        job: name and id of the pipeline run.
        folders: of feature definitions, and of overlays with a gate policy each, where there is no repository.

    Raises:
        BadInput: the repository cannot be read, or the environment has no policy, or one of another task.
    """
    task = load_task(asked.task)
    recipe = parse_recipe(asked.recipe) or task.recipe
    now = asked.now or iso(datetime.now(UTC).replace(microsecond=0))
    source = asked.source or digest_of_files(task.source_files())
    policy, production = _released(asked, folders[1])
    about = parse_policy(policy.encode(), "gate policy")
    if (about.task, about.environment) != (task.name, asked.environment):
        rule = f"is for {about.task} {about.environment}, the run is for {task.name} {asked.environment}"
        raise BadInput("gate policy", rule, "give parameter policy, or name another task or environment")
    digest = digest_of_value(recipe.model_dump(mode="json"))
    identity = {"name": job[0], "task": asked.task, "recipe": digest, "source": source, "now": now}
    named = {"id": digest_of_value({**identity, "job": job[1]})[7:19], **identity, "code": code_digest(folders[0])}
    text = asked.recipe or recipe.model_dump_json()
    return Started(source, text, policy, production, now, run or json.dumps(named, sort_keys=True))


def _released(asked: Asked, overlays: Path) -> tuple[str, str]:
    """Text of the policy, and digest of production or nothing."""
    path = overlays / asked.environment / POLICY
    if not asked.gitops:
        return asked.policy or _text(path), "" if asked.production == STABLE else asked.production
    if asked.policy and asked.production != STABLE:
        return asked.policy, asked.production
    repository = open_repository(asked.gitops, asked.environment)
    snapshot = repository.snapshot()
    text = repository.file(f"manifests/overlays/{asked.environment}/{POLICY}", snapshot.commit) or b""
    production = (snapshot.state.stable or "") if asked.production == STABLE else asked.production
    return asked.policy or text.decode(), production


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        fix = "name an environment that the image has, or give parameter policy or gitops"
        raise BadInput(str(path), f"cannot be read ({error.strerror})", fix) from error
