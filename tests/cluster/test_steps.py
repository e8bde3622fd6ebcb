"""The pods that KFP makes of the steps: admitted under `restricted`, run with a read-only root, placed on devices."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from sluice.content import digest_of_files
from sluice.tasks.task import load_task
from sluice.training.train_job import tf_job, train_job, training_runtime
from sluice_pipelines.accelerators import ALLOWED
from sluice_pipelines.catalogue import CATALOGUE
from sluice_pipelines.compile import COMPILED, MANIFESTS
from sluice_pipelines.inputs import default_policy
from tests.support.cluster.api_server import accepted
from tests.support.cluster.kubectl import apply, get, kubectl, render, wait_until
from tests.support.cluster.step_pods import check_values, ended, executor_input, pod_of, steps_of
from tests.support.train_job import JOB, PLACE

STEPS = [(name, step) for name in sorted(CATALOGUE) for step in sorted(steps_of(COMPILED / f"{name}.yaml"))]
NVIDIA = ALLOWED["nvidia"]
DEV = default_policy()


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace that enforces `restricted`."""
    name = f"pipes-{uuid.uuid4().hex[:8]}"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}])
    wait_until("the service account is there", lambda: get("-n", name, "serviceaccount", "default"))
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize(("pipeline", "step"), STEPS)
def test_the_pod_of_every_step_is_admitted(pipeline: str, step: str, namespace: str) -> None:
    pod = pod_of(step, steps_of(COMPILED / f"{pipeline}.yaml")[step])
    assert accepted([pod], namespace) == 1


def test_a_step_runs_to_its_end_with_a_read_only_root(namespace: str, image: str) -> None:
    """The real image, KFP's own executor, nobody's root: the task's source becomes a span."""
    source = digest_of_files(load_task(DEV.task).source_files())
    given = executor_input({"task": DEV.task, "source": source}, {"span": "system.Dataset"})
    apply([pod_of("ingest", steps_of(COMPILED / "training.yaml")["ingest"], image, given)], "-n", namespace)
    phase = wait_until("the step ends", lambda: ended(namespace, "ingest"), 300)
    log = kubectl("-n", namespace, "logs", "ingest")
    assert phase == "Succeeded", log
    assert "Wrote executor output file" in log


def test_a_wrong_parameter_is_told_in_one_line(namespace: str, image: str) -> None:
    values = check_values(checkpoint_every=0)
    pod = pod_of("check", steps_of(COMPILED / "training.yaml")["check"], image, executor_input(values, {}))
    apply([pod], "-n", namespace)
    assert wait_until("the step ends", lambda: ended(namespace, "check"), 180) == "Failed"
    status = get("-n", namespace, "pod", "check")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert status["exitCode"] == 2
    last = kubectl("-n", namespace, "logs", "check").splitlines()[-1]
    assert last.startswith("sluice: BadInput: parameter checkpoint_every: Input should be greater than or equal to 1")


@pytest.fixture
def node() -> Iterator[str]:
    """The test's node, which loses its label and device again."""
    name: str = get("nodes")["items"][0]["metadata"]["name"]
    yield name
    key = NVIDIA.resource.replace("/", "~1")
    patch = ",".join(f'{{"op":"remove","path":"/status/{kind}/{key}"}}' for kind in ("capacity", "allocatable"))
    if NVIDIA.resource in get("node", name)["status"]["capacity"]:
        kubectl("patch", "node", name, "--subresource=status", "--type=json", "-p", f"[{patch}]")
    kubectl("label", "node", name, *(f"{label}-" for label in NVIDIA.node_selector))


def test_a_pod_that_asks_for_a_device_waits_for_a_node_that_has_one(namespace: str, image: str, node: str) -> None:
    pod = pod_of("train", steps_of(COMPILED / "training-gpu.yaml")["train"], image)
    container = pod["spec"]["containers"][0]
    container |= {"command": ["python", "-c", "print('on a device')"], "args": []}
    for kind in ("requests", "limits"):  # the node of the tests is small
        container["resources"][kind] |= {"cpu": "100m", "memory": "256Mi"}
    apply([pod], "-n", namespace)
    wait_until("it is found unschedulable", lambda: "nvidia.com/gpu" in waiting(namespace, "train") or None, 30)
    key = NVIDIA.resource.replace("/", "~1")
    offer = ",".join(
        f'{{"op":"add","path":"/status/{kind}/{key}","value":"1"}}' for kind in ("capacity", "allocatable")
    )
    kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", f"[{offer}]")
    assert ended(namespace, "train") == ""  # the device alone is not enough: the node has no label yet
    kubectl("label", "node", node, *(f"{label}={value}" for label, value in NVIDIA.node_selector.items()))
    assert wait_until("it runs on the device", lambda: ended(namespace, "train"), 120) == "Succeeded"


def waiting(namespace: str, name: str) -> str:
    """What the scheduler says of a pod that it cannot place, with what the pod asks for."""
    pod = get("-n", namespace, "pod", name)
    conditions = pod["status"].get("conditions", [])
    said = "".join(one.get("message", "") for one in conditions if one.get("reason") == "Unschedulable")
    return said and f"{said} {pod['spec']['containers'][0]['resources']['limits']}"


def test_pipelines_and_their_versions_are_accepted_strictly(namespace: str) -> None:
    objects = [{**found, "metadata": {**found["metadata"], "namespace": namespace}} for found in render(MANIFESTS)]
    lines = apply(objects, "--dry-run=server")
    assert sorted(found["kind"] for found in objects) == ["Pipeline"] * len(CATALOGUE) + ["PipelineVersion"] * len(
        CATALOGUE
    )
    assert len([line for line in lines if line.endswith("serverside-applied (server dry run)")]) == 2 * len(CATALOGUE)


def test_training_jobs_are_accepted_strictly(namespace: str) -> None:
    place = PLACE.model_copy(update={"namespace": namespace})
    lines = apply([training_runtime(place), train_job(JOB, place), tf_job(JOB, place)], "--dry-run=server")
    assert len([line for line in lines if line.endswith("serverside-applied (server dry run)")]) == 3
