"""
A training over several nodes as Kubernetes documents: a TrainJob and its runtime, or a TFJob where only that exists.

Plain dictionaries; nothing here talks to a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field, ValidationError, field_validator

from sluice.content import digest_of_value
from sluice.documents.model import FrozenDocument, first_violation
from sluice.errors import BadInput
from sluice.tasks.recipe import Recipe
from sluice.training.distribution import PORT, node_addresses
from sluice.training.worker import NODES

_RUNTIME = "sluice-tensorflow"
_CONTAINER = "node"
"""Name that Kubeflow Trainer looks for, of the replicated job and of its container."""
_FINAL_CODES = [2, 3]
"""Exit codes of wrong input and of a rule that forbids: to start again would change nothing."""
_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"


class Placement(FrozenDocument):
    """
    What a platform team decides once: images, nodes, storage.

    Resource quantities are Kubernetes' (``4``, ``500m``, ``16Gi``).
    """

    namespace: str = Field(pattern=_NAME, max_length=63)
    image: str = Field(min_length=1)
    claim: str = Field(pattern=_NAME, max_length=63)
    """PersistentVolumeClaim that every node mounts (ReadWriteMany): frame in, teacher out."""
    mount: str = Field(default="/mnt/training", pattern=r"^/[^:]+$")
    cpu: str = "4"
    memory: str = "16Gi"
    shared_memory: str = "2Gi"
    """``/dev/shm``, which NCCL exchanges gradients through; it counts towards ``memory``."""
    accelerator: str = "nvidia.com/gpu"
    """Name of the extended resource."""
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, str], ...] = ()
    service_account: str = "default"
    storage: str = ""
    """ConfigMap and Secret, each of which may be missing, whose keys become environment variables: endpoint, region
    and credentials of the object storage (``sluice.object_store``)."""
    grace_s: int = Field(default=60, ge=1)
    """Seconds from SIGTERM to SIGKILL; saving takes one piece of steps and one upload."""
    restarts: int = Field(default=10, ge=0)


class TrainingJob(FrozenDocument):
    """One training over several nodes."""

    name: str = Field(pattern=_NAME, max_length=40)
    task: str
    recipe: Recipe
    frame: str
    """Folder below the mount."""
    out: str
    """Folder below the mount, for what ``train_teacher`` writes."""
    checkpoints: str
    """Folder or URL of this training's own."""
    every: int = Field(default=200, ge=1)
    nodes: int = Field(default=2, ge=1, le=64)
    accelerators: int = Field(default=1, ge=0, le=16)
    """Of each node; 0 trains on processors."""

    @field_validator("frame", "out")
    @classmethod
    def _below(cls, path: str) -> str:
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError("must be relative and stay below the mount")
        return path


def placement_of(document: Mapping[str, Any], claim: str, namespace: Callable[[], str]) -> Placement:
    """
    The placement in a document, with the claim; ``namespace`` is asked where the document names none.

    Raises:
        BadInput: the document, the claim or the namespace is wrong.
    """
    whole = {**document, "claim": claim, "namespace": document.get("namespace") or namespace()}
    try:
        return Placement.model_validate(whole)
    except ValidationError as error:
        raise _wrong("placement", error) from error


def job_of(
    run: Mapping[str, str],
    task: str,
    recipe: Recipe,
    size: tuple[int, int],
    checkpoints: tuple[str, int],
    placement: Placement,
) -> TrainingJob:
    """
    The training of a pipeline run, in folders of its own.

    Args:
        run: as decisions name it; ``id`` makes the job's name.
        size: nodes, and accelerators of each.
        checkpoints: where they go (empty: beside the frame), and steps between two.

    Raises:
        BadInput: a number or name is out of range.
    """
    folder = f"sluice-{run['id']}"
    try:
        return TrainingJob(
            name=folder,
            task=task,
            recipe=recipe,
            frame=f"{folder}/frame",
            out=f"{folder}/teacher",
            checkpoints=checkpoints[0] or f"{placement.mount}/{folder}/checkpoints",
            every=checkpoints[1],
            nodes=size[0],
            accelerators=size[1],
        )
    except ValidationError as error:
        raise _wrong("training job", error) from error


def _wrong(thing: str, error: ValidationError) -> BadInput:
    key, rule, value = first_violation(error)
    return BadInput(f"{thing}: {key}", f"{rule}, got {value!r}"[:200], "see docs/train-on-more-gpus.md")


def training_runtime(placement: Placement) -> dict[str, Any]:
    """
    The ``TrainingRuntime`` that ``train_job`` refers to: Kubeflow Trainer ships none for TensorFlow.

    One lost pod fails its job, and the JobSet starts all pods anew, since the others cannot go on without it. A pod
    that ends because its input is wrong fails the JobSet for good. Its name ends with a digest of what it says: one of
    another placement, or of another version of this, stays beside it, and jobs keep theirs.
    """
    job = {
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": _CONTAINER, "operator": "In", "values": _FINAL_CODES},
                }
            ]
        },
        "template": {"spec": _pod(placement, _CONTAINER, 0) | {"restartPolicy": "Never"}},
    }
    final = {"name": "wrong-input", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    replicated = {
        "name": _CONTAINER,
        "template": {"metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}}, "spec": job},
    }
    jobs = {
        "failurePolicy": {"maxRestarts": placement.restarts, "rules": [final]},
        "network": {"publishNotReadyAddresses": True},
        "replicatedJobs": [replicated],
    }
    spec = {"mlPolicy": {"numNodes": 1}, "template": {"spec": jobs}}
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainingRuntime",
        "metadata": {"name": f"{_RUNTIME}-{digest_of_value(spec)[7:19]}", "namespace": placement.namespace},
        "spec": spec,
    }


def train_job(job: TrainingJob, placement: Placement) -> dict[str, Any]:
    """The ``TrainJob`` (Kubeflow Trainer 2.3) of a training, by ``training_runtime``."""
    nodes, runtime = ",".join(node_addresses(job.name, job.nodes)), training_runtime(placement)["metadata"]["name"]
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": job.name, "namespace": placement.namespace},
        "spec": {
            "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": runtime},
            "trainer": {
                "image": placement.image,
                "command": ["python", "-m", "sluice.training.worker"],
                "args": _arguments(job, placement),
                "env": [{"name": NODES, "value": nodes}],
                "numNodes": job.nodes,
                "resourcesPerNode": _resources(placement, job.accelerators),
            },
        },
    }


def tf_job(job: TrainingJob, placement: Placement) -> dict[str, Any]:
    """
    The same as a ``TFJob`` (Training Operator 1.9), which sets ``TF_CONFIG`` itself.

    Its restart policy ``ExitCode`` takes codes up to 127 for final and starts again after those above.
    """
    pod = _pod(placement, "tensorflow", job.accelerators)
    container = pod["containers"][0] | {
        "command": ["python", "-m", "sluice.training.worker"],
        "args": _arguments(job, placement),
        "ports": [{"name": "tfjob-port", "containerPort": PORT}],
    }
    worker = {
        "replicas": job.nodes,
        "restartPolicy": "ExitCode",
        "template": {"spec": pod | {"containers": [container]}},
    }
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "TFJob",
        "metadata": {"name": job.name, "namespace": placement.namespace},
        "spec": {
            "runPolicy": {"backoffLimit": placement.restarts, "cleanPodPolicy": "Running"},
            "successPolicy": "AllWorkers",
            "tfReplicaSpecs": {"Worker": worker},
        },
    }


def outcome(document: Mapping[str, Any]) -> tuple[bool | None, str]:
    """
    How a TrainJob or TFJob stands: True complete, False failed, None still going on, and what its operator says.

    Args:
        document: the object as the API server has it.
    """
    ends = {"Complete": True, "Succeeded": True, "Failed": False}
    conditions = [each for each in document.get("status", {}).get("conditions", []) if each.get("status") == "True"]
    message = "; ".join(f"{each['type']}: {each.get('message') or each.get('reason', '')}" for each in conditions)
    results = [ends[each["type"]] for each in conditions if each["type"] in ends]
    return (results[-1] if results else None), message or "waiting for the operator"


def _arguments(job: TrainingJob, placement: Placement) -> list[str]:
    options = {
        "task": job.task,
        "recipe": job.recipe.model_dump_json(),
        "frame": f"{placement.mount}/{job.frame}",
        "out": f"{placement.mount}/{job.out}",
        "distribution": "multi_worker",
        "checkpoints": job.checkpoints,
        "every": str(job.every),
    }
    return [f"--{name}={value}" for name, value in options.items()]


def _pod(placement: Placement, container: str, accelerators: int) -> dict[str, Any]:
    """A pod spec that the Pod Security Standard ``restricted`` admits."""
    volumes: dict[str, tuple[str, dict[str, Any]]] = {
        "training": (placement.mount, {"persistentVolumeClaim": {"claimName": placement.claim}}),
        "shm": ("/dev/shm", {"emptyDir": {"medium": "Memory", "sizeLimit": placement.shared_memory}}),  # noqa: S108
        "tmp": ("/tmp", {"emptyDir": {}}),  # noqa: S108  the pod's own
    }
    storage = {"name": placement.storage, "optional": True}
    trainer = {
        "name": container,
        "image": placement.image,
        "envFrom": [{"configMapRef": storage}, {"secretRef": storage}] if placement.storage else [],
        "resources": _resources(placement, accelerators),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": name, "mountPath": path} for name, (path, _) in volumes.items()],
    }
    return {
        "automountServiceAccountToken": False,
        "containers": [trainer],
        "nodeSelector": placement.node_selector,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "serviceAccountName": placement.service_account,
        "terminationGracePeriodSeconds": placement.grace_s,
        "tolerations": [dict(toleration) for toleration in placement.tolerations],
        "volumes": [{"name": name, **source} for name, (_, source) in volumes.items()],
    }


def _resources(placement: Placement, accelerators: int) -> dict[str, Any]:
    amounts = {"cpu": placement.cpu, "memory": placement.memory}
    if accelerators:
        amounts[placement.accelerator] = str(accelerators)
    return {"requests": dict(amounts), "limits": dict(amounts)}
