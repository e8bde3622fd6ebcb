"""
What each step needs of a cluster: processor, memory, devices, secrets, and what happens when it fails.

The local loop places nothing: it runs the same steps in processes of one machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from kfp import kubernetes

from sluice_pipelines.accelerators import Devices
from sluice_steps.image import STEPS_GPU_IMAGE

STORE = "model-storage"
"""Secret and ConfigMap of the runs' namespace; both may be missing. The servers' namespaces have the same."""
REPOSITORY_SECRET = "release-repository"  # noqa: S105  a name
"""Deploy key: ``ssh-privatekey`` and ``known_hosts``; may be missing."""
PULL_SECRET = "sluice-registry"  # noqa: S105  a name
USER = 65532
"""The image's own. A number, since Kubernetes cannot know whether a name is root."""
_KEY_FOLDER = "/etc/sluice/repository"
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_SETTINGS = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")

Place = Callable[[Any, str], Any]
"""Takes a task and the step's name, returns the task."""


class Size(NamedTuple):
    """Request and limit of each."""

    cpu: tuple[str, str]
    memory: tuple[str, str]


@dataclass(frozen=True)
class Need:
    """
    Of one step.

    Attributes:
        retries: only where doing it again gives the same; a verdict is not asked for twice.
        cached: only where all inputs are content-addressed and the output follows from them.
    """

    size: Size
    hours: float = 1
    retries: int = 0
    cached: bool = True
    device: bool = False
    store: bool = False
    repository: bool = False


_SMALL = Size(("250m", "1"), ("512Mi", "2Gi"))
_MIDDLE = Size(("1", "2"), ("2Gi", "6Gi"))
NEEDS = {
    "check": Need(_SMALL, cached=False, repository=True, hours=0.25),
    "ingest": Need(_MIDDLE, retries=2),
    "validate": Need(_MIDDLE),
    "build_features": Need(_MIDDLE, retries=2),
    "train": Need(_MIDDLE, retries=3, device=True, store=True, hours=24),
    "train_on_nodes": Need(_SMALL, retries=3, store=True, hours=72),
    "compress": Need(_MIDDLE, retries=2, device=True, hours=12),
    "select": Need(_MIDDLE, retries=2),
    "evaluate": Need(_MIDDLE, retries=2, store=True),
    "gate": Need(_SMALL, cached=False, repository=True),
    "bundle": Need(_MIDDLE, retries=2),
    "infra_validate": Need(_MIDDLE, retries=1),
    "release": Need(_SMALL, retries=3, cached=False, store=True, repository=True),
    "promote": Need(_SMALL, cached=False, store=True, repository=True),
    "watch": Need(_MIDDLE, retries=2, cached=False, store=True, repository=True),
    "materialize": Need(_MIDDLE, retries=3, cached=False),
    "exit_note": Need(_SMALL, cached=False, hours=0.25),
}


def locally(task: Any, step: str) -> Any:
    """A step of the local loop: only whether it may be taken from the cache."""
    return task.set_caching_options(NEEDS[step].cached)


def on_cluster(devices: Devices | None = None) -> Place:
    """A step of a cluster; those that train get ``devices``."""

    def place(task: Any, step: str) -> Any:
        need = NEEDS[step]
        locally(task, step)
        if need.device and devices:
            _on_devices(task, devices)
        else:
            _sized(task, need.size)
        if need.retries:
            task.set_retry(
                need.retries, backoff_duration="30s", backoff_factor=2, backoff_max_duration=_all_tries(need)
            )
        _as_a_pod(task, step, need)
        if need.store:
            _with_store(task)
        if need.repository:
            kubernetes.use_secret_as_volume(task, REPOSITORY_SECRET, _KEY_FOLDER, optional=True)
            task.set_env_variable("SLUICE_REPOSITORY_KEY", _KEY_FOLDER)
        return task

    return place


def _all_tries(need: Need) -> str:
    """
    Time for every try and every pause, in seconds.

    KFP's back end counts it from the start of the first try, and kills the try that it ends in: less than this would
    leave a step that failed late with no other try.
    """
    pauses = sum(30 * 2**number for number in range(need.retries))
    return f"{int(need.hours * 3600) * (need.retries + 1) + pauses}s"


def _sized(task: Any, size: Size) -> None:
    task.set_cpu_request(size.cpu[0]).set_cpu_limit(size.cpu[1])
    task.set_memory_request(size.memory[0]).set_memory_limit(size.memory[1])


def _on_devices(task: Any, devices: Devices) -> None:
    kind = devices.accelerator
    _sized(task, Size((kind.cpu, kind.cpu), (kind.memory, kind.memory)))
    task.set_accelerator_type(kind.resource).set_accelerator_limit(devices.count)
    task.set_container_image(STEPS_GPU_IMAGE)
    for label, value in kind.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    for taint in kind.tolerations:
        kubernetes.add_toleration(task, taint.key, taint.operator, taint.value, taint.effect)
    kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=kind.shared_memory)  # noqa: S108


def _as_a_pod(task: Any, step: str, need: Need) -> None:
    kubernetes.set_timeout(task, int(need.hours * 3600))
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.set_image_pull_secrets(task, [PULL_SECRET])
    kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "sluice")
    kubernetes.add_pod_label(task, "sluice.dev/step", step.replace("_", "-"))
    # The root file system may be read-only.
    kubernetes.empty_dir_mount(task, "tmp", "/tmp", size_limit="16Gi")  # noqa: S108


def _with_store(task: Any) -> None:
    kubernetes.use_secret_as_env(task, STORE, {key: key for key in _CREDENTIALS}, optional=True)
    kubernetes.use_config_map_as_env(task, STORE, {key: key for key in _SETTINGS}, optional=True)
