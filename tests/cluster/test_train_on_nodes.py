"""The step that submits a training to a cluster, against a real API server; a person plays the training operator."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.training.setup import TrainingRecord
from sluice_pipelines.compile import COMPILED
from tests.support.cluster.kubectl import Object, apply, get, kubectl, wait_until
from tests.support.cluster.step_pods import ended, executor_input, pod_of, steps_of
from tests.support.train_job import JOB, PLACE, RUN, TrainOnNodes

NAME = f"sluice-{RUN}"
RECORD = TrainingRecord(
    epochs=3,
    best_epoch=2,
    tune_loss=0.5,
    tune_auc=None,
    temperature=1,
    positive_weight=1,
    parameters=1,
    width=1,
    history=(),
)
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
    (step.shared / NAME / "teacher" / "history.json").write_text(RECORD.model_dump_json())
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


def step_pod(name: str, image: str) -> Object:
    """The step as KFP makes it; an empty folder stands in for the claim that the nodes would share."""
    place = PLACE.model_dump(mode="json", exclude={"namespace", "claim"})
    values: dict[str, object] = {
        "task": JOB.task,
        "recipe": JOB.recipe.model_dump_json(),
        "run": json.dumps({"id": RUN}),
    }
    values |= {"operator": "TrainJob", "nodes": 2, "accelerators": 1, "checkpoints": "", "checkpoint_every": 10}
    values |= {"placement": json.dumps(place), "claim": PLACE.claim}
    made = {"teacher": "system.Model", "learning": "system.Metrics"}
    given = executor_input(values, made, {"frame": "s3://given/frame"})
    pod = pod_of(name, steps_of(COMPILED / "training-on-nodes.yaml")["train-on-nodes"], image, given)
    pod["spec"] |= {"serviceAccountName": "trainer", "automountServiceAccountToken": True}
    others = [volume for volume in pod["spec"]["volumes"] if volume["name"] != "claim"]
    frame = {"name": "frame", "configMap": {"name": "frame"}}
    pod["spec"]["volumes"] = [*others, frame, {"name": "claim", "emptyDir": {}}]
    pod["spec"]["containers"][0]["volumeMounts"].append({"name": "frame", "mountPath": "/s3/given/frame"})
    return pod


def grant(namespace: str, *verbs: str) -> None:
    """To the step's account, for the kinds that it makes."""
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "trainer"}}
    kinds = ["trainjobs", "trainingruntimes"]
    rules = [{"apiGroups": ["trainer.kubeflow.org"], "resources": kinds, "verbs": list(verbs)}]
    subject = {"kind": "ServiceAccount", "name": "trainer", "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "trainer"}
    binding = {**rbac, "kind": "RoleBinding", "subjects": [subject], "roleRef": role}
    apply([{**rbac, "kind": "Role", "rules": rules}, binding], "-n", namespace)


def test_the_step_needs_to_create_and_get_no_more_and_says_so_without(namespace: str, image: str) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "trainer"}}
    frame = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "frame"}, "data": {"frame.parquet": "rows"}}
    apply([account, frame, step_pod("without", image)], "-n", namespace)
    assert wait_until("the step ends", lambda: ended(namespace, "without"), 300) == "Failed"
    (status,) = get("-n", namespace, "pod", "without")["status"]["containerStatuses"]
    end = status["state"]["terminated"]
    assert end["exitCode"] == 2
    assert "the API server answers 403 Forbidden; install the operator, and let the step's" in end["message"]
    assert end["message"].rstrip().endswith("create and get them")
    grant(namespace, "create", "get")
    apply([step_pod("with", image)], "-n", namespace)
    wait_until("a training is submitted", lambda: get("-n", namespace, KINDS["TrainJob"], NAME), 300)
    say("TrainJob", namespace, "Failed")
    assert wait_until("the step ends", lambda: ended(namespace, "with"), 300) == "Failed"
    assert "so it is" in kubectl("-n", namespace, "logs", "with")
