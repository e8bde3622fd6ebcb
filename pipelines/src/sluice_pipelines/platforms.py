"""
Where a pipeline's steps run: in processes of one machine, or in pods of a cluster, each with what its step needs:
processor, memory, devices, secrets, and what happens when it fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kfp import kubernetes
from kfp.dsl.structures import ResourceSpec

from sluice_pipelines.accelerators import Devices
from sluice_steps.image import image
from sluice_steps.step import Need, PipelineStep, Size

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


class Platform:
    """Adds steps to the pipeline that is being built. This one is one machine: a step's cache is all that it has."""

    devices: Devices | None = None
    """Of the steps that train; without them everything runs on processors."""

    def __call__(self, step: PipelineStep, parameters: Mapping[str, Any], **inputs: Any) -> Any:
        """The step's task; an input that is not given is the parameter of its name."""
        return step.task(parameters, **inputs).set_caching_options(step.need.cached)


class ClusterPlatform(Platform):
    """Pods of a cluster; steps that train get ``devices``."""

    def __init__(self, devices: Devices | None = None) -> None:
        self.devices = devices

    def __call__(self, step: PipelineStep, parameters: Mapping[str, Any], **inputs: Any) -> Any:
        """The step's task with all that its pod needs."""
        task, need = super().__call__(step, parameters, **inputs), step.need
        if need.device and self.devices:
            _on_devices(task, self.devices)
        else:
            _sized(task, need.size)
        if need.retries:
            task.set_retry(
                need.retries, backoff_duration="30s", backoff_factor=2, backoff_max_duration=_all_tries(need)
            )
        _as_a_pod(task, step)
        if need.store:
            _with_store(task)
        if need.repository:
            kubernetes.use_secret_as_volume(task, REPOSITORY_SECRET, _KEY_FOLDER, optional=True)
            task.set_env_variable("SLUICE_REPOSITORY_KEY", _KEY_FOLDER)
        return task


def _all_tries(need: Need) -> str:
    """
    Time for every try and every pause, in seconds.

    KFP's back end counts it from the start of the first try, and kills the try that it ends in: less than this would
    leave a step that failed late with no other try.
    """
    pauses = sum(30 * 2**number for number in range(need.retries))
    return f"{int(need.hours * 3600) * (need.retries + 1) + pauses}s"


def _sized(task: Any, size: Size) -> None:
    # KFP's own setters look through the whole stack for a caller's name: most of the time to compile a pipeline
    (cpu, most_cpu), (memory, most_memory) = size.cpu, size.memory
    task.container_spec.resources = ResourceSpec(
        cpu_request=cpu, cpu_limit=most_cpu, memory_request=memory, memory_limit=most_memory
    )


def _on_devices(task: Any, devices: Devices) -> None:
    kind = devices.accelerator
    _sized(task, Size((kind.cpu, kind.cpu), (kind.memory, kind.memory)))
    task.set_accelerator_type(kind.resource).set_accelerator_limit(devices.count)
    task.set_container_image(image("steps-gpu"))
    for label, value in kind.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    for taint in kind.tolerations:
        kubernetes.add_toleration(task, taint.key, taint.operator, taint.value, taint.effect)
    kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=kind.shared_memory)  # noqa: S108


def _as_a_pod(task: Any, step: PipelineStep) -> None:
    kubernetes.set_timeout(task, int(step.need.hours * 3600))
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.set_image_pull_secrets(task, [PULL_SECRET])
    kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "sluice")
    kubernetes.add_pod_label(task, "sluice.dev/step", step.name)
    # The root file system may be read-only.
    kubernetes.empty_dir_mount(task, "tmp", "/tmp", size_limit="16Gi")  # noqa: S108


def _with_store(task: Any) -> None:
    kubernetes.use_secret_as_env(task, STORE, {key: key for key in _CREDENTIALS}, optional=True)
    kubernetes.use_config_map_as_env(task, STORE, {key: key for key in _SETTINGS}, optional=True)
