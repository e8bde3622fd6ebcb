"""Submits a training to a training operator, follows it to its end, and fetches what it made."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from sluice.errors import BadInput, Unavailable
from sluice.steps.patience import patiently
from sluice.training.setup import TrainingRecord
from sluice.training.train_job import Placement, TrainingJob, outcome, tf_job, train_job, training_runtime

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LOOK_SECONDS = 5


def own_namespace() -> str:
    """
    The namespace of the pod that this runs in.

    Raises:
        BadInput: this runs in no pod.
    """
    try:
        return _NAMESPACE.read_text().strip()
    except OSError as error:
        raise BadInput("placement", "names no namespace, and this is no pod", "name one") from error


def train_over_nodes(job: TrainingJob, place: Placement, operator: str, frame: Path, teacher: Path) -> TrainingRecord:
    """
    Train, and return the teacher's record.

    Args:
        operator: ``TrainJob`` or ``TFJob``.
        frame: copied to the volume that the nodes share, which is mounted here at ``place.mount``.
        teacher: receives what the chief wrote there.

    Raises:
        BadInput: an unknown operator, or one that is not installed or does not let us.
        Unavailable: the API server does not answer.
        RuntimeError: the training failed; says what the operator says.
    """
    if operator not in {"TrainJob", "TFJob"}:
        raise BadInput(f"operator {operator!r}", "is not known", "choose TrainJob or TFJob")
    shared = Path(place.mount)
    shutil.copytree(frame, shared / job.frame, dirs_exist_ok=True)
    documents = [training_runtime(place), train_job(job, place)] if operator == "TrainJob" else [tf_job(job, place)]
    config.load_config()
    api = client.CustomObjectsApi()
    for document in documents:
        _create(api, document, place.namespace)
    _follow(api, documents[-1], place.namespace)
    shutil.copytree(shared / job.out, teacher, dirs_exist_ok=True)
    return TrainingRecord.model_validate_json((teacher / "history.json").read_bytes())


class _Kind(NamedTuple):
    """Where the API server has the objects of a kind, in the order in which its client takes it."""

    group: str
    version: str
    namespace: str
    plural: str


def _kind_of(document: dict[str, Any], namespace: str) -> _Kind:
    group, version = document["apiVersion"].split("/")
    return _Kind(group, version, namespace, plural=document["kind"].lower() + "s")


def _create(api: Any, document: dict[str, Any], namespace: str) -> None:
    kind = _kind_of(document, namespace)
    patiently(lambda: _answer(kind, api.create_namespaced_custom_object, document, field_validation="Strict"))


def _answer(kind: _Kind, ask: Callable[..., Any], *what: Any, **options: Any) -> Any:
    """
    What the API server says of an object; nothing where it is there already.

    Raises:
        BadInput: the operator is not installed, or does not let us.
        Unavailable: no answer, or none that would stay the same.
    """
    thing = f"{kind.plural}.{kind.group} in {kind.namespace}"
    try:
        return ask(*kind, *what, **options)
    except client.ApiException as error:
        rule = f"the API server answers {error.status} {error.reason}"
        if error.status in {401, 403, 404}:
            fix = "install the operator, and let the step's service account create and get them"
            raise BadInput(thing, rule, fix) from error
        if error.status == 429 or error.status >= 500:
            raise Unavailable(thing, rule, "wait, or see it") from error
        if error.status != 409:
            raise
    except HTTPError as error:
        raise Unavailable(thing, f"the API server does not answer ({type(error).__name__})", "wait") from error
    return None


def _follow(api: Any, document: dict[str, Any], namespace: str) -> None:
    kind, name, place = document["kind"], document["metadata"]["name"], _kind_of(document, namespace)
    message, success = "", None
    while success is None:
        time.sleep(_LOOK_SECONDS)
        success, now = outcome(patiently(lambda: _answer(place, api.get_namespaced_custom_object, name)))
        if now != message:
            sys.stdout.write(f"{kind} {name}: {now}\n")
            sys.stdout.flush()
        message = now
    if not success:
        raise RuntimeError(f"{kind} {name} failed: {message}")
