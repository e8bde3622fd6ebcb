"""The step that submits a training to a cluster, against a real API server; a person plays the training operator."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster.kubectl import Object, get, kubectl, wait_until
from tests.support.train_job import RUN, TrainOnNodes

NAME = f"sluice-{RUN}"
KINDS = {"TrainJob": "trainjobs.trainer.kubeflow.org", "TFJob": "tfjobs.kubeflow.org"}


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"nodes-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def submitted(operator: str, namespace: str) -> Object:
    found: Object = wait_until("something is submitted", lambda: get("-n", namespace, KINDS[operator], NAME), 20)
    return found


def node_of(operator: str, document: Object, namespace: str) -> Object:
    """The container of a node, as the API server has it."""
    if operator == "TFJob":
        pod = document["spec"]["tfReplicaSpecs"]["Worker"]["template"]["spec"]
    else:
        name = document["spec"]["runtimeRef"]["name"]
        runtime = get("-n", namespace, "trainingruntimes.trainer.kubeflow.org", name)
        (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
        pod = job["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    found: Object = container
    return found


def say(operator: str, namespace: str, condition: str) -> None:
    now = "2026-01-01T00:00:00Z"
    told = {"type": condition, "status": "True", "reason": "Test", "message": "so it is", "lastTransitionTime": now}
    body = json.dumps({"status": {"conditions": [told]}})
    kubectl("-n", namespace, "patch", KINDS[operator], NAME, "--subresource=status", "--type=merge", "-p", body)


@pytest.mark.parametrize(("operator", "end"), [("TrainJob", "Complete"), ("TFJob", "Succeeded")])
def test_a_training_is_submitted_followed_and_fetched(
    operator: str, end: str, namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = TrainOnNodes(operator, namespace, tmp_path)
    document = submitted(operator, namespace)
    assert document["metadata"]["name"] == NAME
    assert node_of(operator, document, namespace)["envFrom"] == [
        {kind: {"name": "object-storage", "optional": True}} for kind in ("configMapRef", "secretRef")
    ]
    assert (step.shared / NAME / "frame" / "frame.parquet").read_bytes() == b"rows"
    (step.shared / NAME / "teacher").mkdir()
    (step.shared / NAME / "teacher" / "history.json").write_text(json.dumps({"epochs": 3, "tune_log_loss": 0.5}))
    say(operator, namespace, end)
    step.ends()
    assert step.error is None
    assert (step.teacher / "history.json").exists()
    assert step.logged == {"epochs": 3, "tune_log_loss": 0.5}
    assert f"{operator} {NAME}: {end}: so it is" in capsys.readouterr().out


def test_a_failed_training_fails_the_step_and_says_why(namespace: str, tmp_path: Path) -> None:
    step = TrainOnNodes("TrainJob", namespace, tmp_path)
    submitted("TrainJob", namespace)
    say("TrainJob", namespace, "Failed")
    step.ends()
    assert "so it is" in str(step.error)
    assert not step.teacher.exists()
