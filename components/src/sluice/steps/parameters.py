"""
What the pipelines can be given: each parameter once, with its type, default, range and description.

KFP's inputs, the checks before a run is sent and in its first step, the local run and the page of the documentation are
made of these fields. A default that depends on when, where and on what a run goes is empty here (``settlement``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from sluice.documents.event_time import moment_of
from sluice.errors import BadInput
from sluice.gates.policy import parse_policy
from sluice.release.snapshot import POLICY
from sluice.retraining.triggers import TriggerLimits
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import load_recipe, load_task

STABLE = "stable"
"""``production``: whatever the repository says is stable; without a repository, nothing."""
_DIGEST = r"sha256:[0-9a-f]{64}"
_REMOTE = re.compile(r"(ssh|https|file)://[^\s?#]+|[\w.-]+@[\w.-]+:[^\s]+")
_STORE = re.compile(r"(s3|gs|abfss?|file)://[^\s?#]+")
_SECRET = re.compile(r"://[^/]*:[^/]*@")
_LINE = "the dashboard's form keeps no line breaks"
POLICY_NAME = re.compile(r"[A-Za-z0-9][\w-]*(\.[\w-]+)*\.ya?ml")
"""``policy`` as the name of a file instead of a text."""
_Document = TypeVar("_Document", bound=BaseModel)


def parse_recipe(text: str) -> Recipe | None:
    """
    The recipe in JSON, or the one that is called so; ``None`` where the text is empty.

    Raises:
        BadInput: it is none.
    """
    if text and not text.lstrip().startswith("{"):
        return load_recipe(text.strip())
    return _document("recipe", Recipe, text) if text else None


def parse_limits(text: str) -> TriggerLimits:
    """
    The limits in JSON; an empty text is the defaults.

    Raises:
        BadInput: an unknown key, or a value out of range.
    """
    return _document("limits", TriggerLimits, text or "{}")


def _document(parameter: str, kind: type[_Document], text: str) -> _Document:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        fix = f"write a JSON object on one line, of {', '.join(kind.model_fields)}"
        raise BadInput(
            f"parameter {parameter}: {where}", f"{first['msg']}, got {first['input']!r}"[:200], fix
        ) from error


def _task(name: str) -> str:
    load_task(name)
    return name


def _recipe(text: str) -> str:
    parse_recipe(text)
    return text


def _policy(text: str) -> str:
    if text and not POLICY_NAME.fullmatch(text.strip()):
        try:
            parse_policy(text.encode(), "parameter policy")
        except BadInput as error:
            if "\n" in text or text.lstrip().startswith("{"):
                raise
            rule = "is neither JSON nor YAML of several lines, nor the name of a file"
            fix = f"write it as JSON on one line ({_LINE}), or name a file of the image such as {POLICY}"
            raise BadInput("parameter policy", rule, fix) from error
    return text


def _limits(text: str) -> str:
    parse_limits(text)
    return text


def _run(text: str) -> str:
    try:
        named = json.loads(text or "{}")
    except ValueError as error:
        raise ValueError(f"is no JSON ({error})") from error
    if not isinstance(named, dict) or not all(isinstance(value, str) for value in named.values()):
        raise ValueError("is no JSON object of texts")
    if any(named.get(key, "-") == "" for key in ("id", "name", "code")):
        raise ValueError("has an empty id, name or code")
    return text


def _time(text: str) -> str:
    if text:
        moment_of(text)
    return text


def _place(url: re.Pattern[str], kind: str) -> AfterValidator:
    def check(place: str) -> str:
        if _SECRET.search(place):
            raise ValueError("holds a password, and parameters are shown to everybody; use a Secret")
        if place and not (url.fullmatch(place) or place.startswith("/")):
            raise ValueError(f"is not {kind}")
        return place

    return AfterValidator(check)


_TaskName = Annotated[str, Field(pattern=r"^[a-z][\w.]{0,80}(:[A-Za-z_]\w*)?$"), AfterValidator(_task)]
_Environment = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")]
_Time = Annotated[str, AfterValidator(_time)]
_RepositoryAddress = Annotated[str, _place(_REMOTE, "a path or URL (ssh, https) of a Git repository")]
_Store = Annotated[str, _place(_STORE, "a folder or URL (s3, gs, abfs)")]


class PipelineParameters(BaseModel):
    """Parameters of a pipeline. The text below a field is what the dashboard says of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """
        Parameters by name, each in its range; tasks are loaded, and documents are read.

        Raises:
            BadInput: names the first that is wrong, its rule and what was given instead.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise cls._first_error(error, values) from error

    @classmethod
    def of_step(cls, variables: Mapping[str, Any]) -> Self:
        """As ``parse``, of a step's variables: those that are no parameters are left out."""
        return cls.parse({name: variables[name] for name in cls.model_fields if name in variables})

    @classmethod
    def described(cls, name: str) -> str:
        """What a parameter is, in one line, or which there are: the dashboard's form does not say."""
        if name in cls.model_fields:
            return f"it is: {' '.join(str(cls.model_fields[name].description).split()).rstrip('.')}"
        return f"choose of {', '.join(sorted(cls.model_fields))}"

    @classmethod
    def _first_error(cls, error: ValidationError, values: Mapping[str, Any]) -> BadInput:
        first = error.errors()[0]
        rule = first["msg"].removeprefix("Value error, ")
        name = ".".join(str(part) for part in first["loc"])
        if not name:
            name, _, rule = rule.partition(": ")
        printable = values.get(name, "") != "" and not _SECRET.search(str(values[name]))
        value = f", got {values[name]!r}"[:120] if printable else ""
        return BadInput(f"parameter {name}", rule + value, cls.described(name))


class ReleaseParameters(PipelineParameters):
    """Where a run reads and writes, and when it thinks it is."""

    gitops: _RepositoryAddress = ""
    """
    URL of the GitOps repository, without a password (the key is Secret release-repository); empty releases nothing, and
    the last step says so.
    """
    bundles: _Store = ""
    """
    bundle store that servers fetch from, such as s3://models/TASK (credentials are Secret model-storage); empty leaves
    the bundle an artifact of the run.
    """
    now: _Time = ""
    """time of the run, ISO 8601 in UTC; empty is the clock's."""

    @model_validator(mode="after")
    def _stored(self) -> Self:
        if self.gitops and not self.bundles:
            raise ValueError("bundles: is empty, and a release names a bundle that servers fetch from there")
        return self


class TaskParameters(ReleaseParameters):
    """Whose models."""

    task: _TaskName
    """name of a module of sluice.tasks."""
    environment: _Environment
    """whose gate policy judges, and whose release file is written."""


class CandidateParameters(TaskParameters):
    """How a candidate is made and judged, wherever it is trained."""

    recipe: Annotated[str, AfterValidator(_recipe)] = ""
    """
    the candidate: JSON on one line (sluice.tasks.recipe.Recipe), or module:ATTRIBUTE of a recipe in the image; empty is
    the task's own.
    """
    policy: Annotated[str, AfterValidator(_policy)] = ""
    """
    gate policy as JSON on one line (the dashboard's form keeps no line breaks), or as YAML, or the name of a file that
    the image has beside the environment's gate-policy.yaml; empty is the repository's, or without one the image's.
    """
    production: Annotated[str, Field(pattern=rf"^({STABLE}|{_DIGEST})?$")] = STABLE
    """digest to compare with, sha256:...; stable is the repository's, empty is none."""
    run: Annotated[str, AfterValidator(_run)] = ""
    """
    JSON object on one line of what names the run in every decision, texts by name; what it leaves out is made of KFP's
    name and id of the run and of the other parameters, and a key with an empty text is left out.
    """
    source: Annotated[str, Field(pattern=rf"^({_DIGEST})?$")] = ""
    """digest that the raw files must have; empty takes them as they are."""
    checkpoints: _Store = ""
    """folder or URL of this training's own, from which a retry goes on; empty keeps none."""
    checkpoint_every: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """steps between two checkpoints, 1 to 1000000."""
    feature_repo: str = "/app/feature_repo"
    """folder of the Feast definitions."""
    overlays: str = "/app/manifests/overlays"
    """folder of the gate policies that the image brings."""
    server: str = "sluice_serving.predictor"
    """the model server's module."""
    record: str = ""
    """folder that the run's documents are copied to; empty for nowhere."""

    @model_validator(mode="after")
    def _against_baseline(self) -> Self:
        if self.production.startswith("sha256:") and not self.bundles:
            raise ValueError("bundles: is empty, and production is compared from there")
        return self


class TrainingParameters(CandidateParameters):
    """Of a training in one step."""

    distribution: Literal["single", "mirrored"] = "single"
    """single, or mirrored over all devices of one node."""


class TrainingOnNodesParameters(CandidateParameters):
    """Of a training by a training operator."""

    claim: str
    """PersistentVolumeClaim (ReadWriteMany) that the nodes share: frame in, teacher out."""
    operator: Literal["TrainJob", "TFJob"] = "TrainJob"
    """TrainJob (Kubeflow Trainer) or TFJob (Training Operator)."""
    nodes: Annotated[int, Field(ge=1, le=64)] = 2
    """how many, 1 to 64."""


class WatchParameters(TaskParameters):
    """What is watched; an empty place leaves its triggers INCONCLUSIVE."""

    predictions: _Store = ""
    """
    store of the collector, such as s3://predictions, as its --store says (credentials are Secret model-storage); empty
    leaves drift, decay and volume INCONCLUSIVE.
    """
    days: Annotated[float, Field(gt=0, le=3650)] = 14.0
    """how many days of predictions are read, up to 3650."""
    limits: Annotated[str, AfterValidator(_limits)] = ""
    """JSON object on one line of the limits that differ from sluice.retraining.triggers.TriggerLimits."""


class MonitoringParameters(WatchParameters, TrainingParameters):
    """The watch, and the training that it may start."""


class PromotionParameters(ReleaseParameters):
    """Of a digest's way into an environment."""

    gitops: _RepositoryAddress
    """URL of the GitOps repository, without a password (the key is Secret release-repository)."""
    bundles: _Store
    """bundle store that servers fetch from, such as s3://models/TASK."""
    digest: Annotated[str, Field(pattern=rf"^({_DIGEST})?$")] = ""
    """the bundle, sha256:...; empty: what the environment before has confirmed."""
    environment: _Environment = "staging"
    """whose release file is written."""
    now: _Time = ""
    """time of the proposal, ISO 8601 in UTC; empty is the clock's."""

    @model_validator(mode="after")
    def _proposed(self) -> Self:
        if not self.gitops:
            raise ValueError("gitops: is empty, and a promotion is a commit in a repository")
        return self


class MaterializationParameters(PipelineParameters):
    """Of bringing an online store up to date."""

    task: _TaskName
    """name of a module of sluice.tasks."""
    feature_repo: str = "/app/feature_repo"
    """folder of the Feast definitions in the steps' image."""
    until: _Time = ""
    """event time up to which rows may be used, ISO 8601; empty: the time of the run."""
    since: _Time = ""
    """write what came after this time again, corrected rows too; empty: go on from the watermark."""
    tables: bool = True
    """also build the task's tables and put them into the shared place; off where another job writes them."""
