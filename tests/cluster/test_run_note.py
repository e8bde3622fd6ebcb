"""What a run's last step says, from the pods that KFP makes, of a fault, a refusal and a night without a run."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from sluice.steps.evaluate import EVALUATION
from sluice.steps.select import SELECTION
from sluice_cluster.run_pods import RUN
from sluice_pipelines.compile import COMPILED, MANIFESTS
from sluice_pipelines.inputs import default_policy
from tests.support.cluster.kubectl import apply, get, kubectl, wait_until
from tests.support.cluster.step_pods import check_values, ended, executor_input, pod_of, steps_of
from tests.support.report_evaluations import evaluation_of

ACCOUNT = "pipeline-runner"
GIVEN = "s3://given/evaluation"
HERE = "/s3/given/evaluation"
"""Where KFP's launcher leaves what it fetched from there."""
DEV = default_policy()
NOW = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A namespace as KFP's own is: `restricted`, an account that may list pods, a store that nobody answers for."""
    name = f"run-note-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}])
    evaluation = evaluation_of(random.Random(1), 1)  # noqa: S311
    files = {EVALUATION: evaluation.model_dump_json(), SELECTION: json.dumps({"name": "m"})}
    files |= {file: json.dumps({"digest": f"sha256:{64 * 'a'}"}) for file in ("span.json", "frame.json")}
    store = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_DEFAULT_REGION": "us-east-1"}
    keys = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_SESSION_TOKEN": "none"}
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": name}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT}
    rbac = "rbac.authorization.k8s.io/v1"
    objects: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}},
        {"apiVersion": rbac, "kind": "Role", "metadata": {"name": ACCOUNT}, "rules": rules},
        {
            "apiVersion": rbac,
            "kind": "RoleBinding",
            "metadata": {"name": ACCOUNT},
            "subjects": [subject],
            "roleRef": role,
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "evaluation"}, "data": files},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "model-storage"}, "data": store},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "model-storage"}, "stringData": keys},
    ]
    apply(objects, "-n", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def start(namespace: str, name: str, image: str, given: dict[str, Any]) -> str:
    """Start the pod of a step, by name of the run and of the step; returns that name."""
    run, _, step = name.partition("-")
    pod = pod_of(name, steps_of(COMPILED / "monitor-and-retrain.yaml")[step], image, given)
    assert pod["metadata"]["labels"]["sluice.dev/step"] == step
    pod["metadata"]["labels"][RUN] = run
    pod["spec"] |= {"serviceAccountName": ACCOUNT, "automountServiceAccountToken": True}
    if step == "gate":
        pod["spec"]["volumes"].append({"name": "given", "configMap": {"name": "evaluation"}})
        pod["spec"]["containers"][0]["volumeMounts"].append({"name": "given", "mountPath": HERE})
    apply([pod], "-n", namespace)
    return name


def end_of(namespace: str, name: str) -> tuple[str, dict[str, Any]]:
    """The phase in which a pod ended, and what Kubernetes keeps of its container."""
    phase = wait_until(f"{name} ends", lambda: ended(namespace, name), 300)
    (status,) = get("-n", namespace, "pod", name)["status"]["containerStatuses"]
    terminated: dict[str, Any] = status["state"]["terminated"]
    return phase, terminated


def note(namespace: str, run: str, image: str, state: str, *, name: str = "") -> str:
    """The last line of the log of the run's last step."""
    status = {"state": state, "pipelineJobResourceName": run, "pipelineTaskName": "exit-handler-1", "error": {}}
    values = {"job_name": name, "job_id": run, "status": status}
    pod = start(namespace, f"{run}-exit-note", image, executor_input(values, {"note": "system.Markdown"}))
    phase, _ = end_of(namespace, pod)
    log = kubectl("-n", namespace, "logs", pod)
    assert phase == "Succeeded", log
    return next(line for line in log.splitlines() if line.startswith("run "))


def test_a_wrong_parameter_is_named_with_its_step(namespace: str, image: str) -> None:
    pod = start(namespace, "wrong-check", image, executor_input(check_values(checkpoint_every=0)))
    phase, terminated = end_of(namespace, pod)
    rule = "parameter checkpoint_every: Input should be greater than or equal to 1"
    assert (phase, terminated["exitCode"]) == ("Failed", 2)
    assert terminated["message"].startswith(f"sluice: BadInput: {rule}")
    line = note(namespace, "wrong", image, "FAILED", name="by-hand")
    assert line.startswith(f"run by-hand: failed in check: BadInput: {rule}")


@pytest.mark.parametrize(
    ("run", "given", "rule"),
    [
        ("lines", {"policy": "task: flights environment: dev"}, "parameter policy: is neither "),
        ("outside", {"policy": "../dev/gate-policy.yaml"}, "parameter policy: is neither "),
        ("recipe", {"recipe": "flights-all"}, "recipe 'flights-all': cannot be loaded "),
    ],
)
def test_what_a_person_typed_into_the_form_is_refused_by_name(
    run: str, given: dict[str, str], rule: str, namespace: str, image: str
) -> None:
    """The form takes the line breaks out of what is pasted into it."""
    phase, terminated = end_of(
        namespace, start(namespace, f"{run}-check", image, executor_input(check_values(**given)))
    )
    assert (phase, terminated["exitCode"]) == ("Failed", 2)
    assert terminated["message"].startswith(f"sluice: BadInput: {rule}")
    line = note(namespace, run, image, "FAILED", name="by-hand")
    assert line.startswith(f"run by-hand: failed in check: BadInput: {rule}")


def test_a_store_that_does_not_answer_is_no_wrong_input(namespace: str, image: str) -> None:
    pod = start(namespace, "silent-check", image, executor_input(check_values(bundles="s3://models/bundles")))
    phase, terminated = end_of(namespace, pod)
    assert (phase, terminated["exitCode"]) == ("Failed", 1)
    assert terminated["message"].startswith("sluice: Unavailable: s3://models/bundles")
    assert "try 3 of 4: " in kubectl("-n", namespace, "logs", pod)
    assert note(namespace, "silent", image, "RUNNING").startswith("run silent: failed in check: Unavailable: ")


def test_a_refusal_by_the_gate_is_no_failure(namespace: str, image: str) -> None:
    """A recurring run has no name: the note names it by KFP's id."""
    policy = yaml.safe_load((MANIFESTS.parent / "overlays" / DEV.environment / "gate-policy.yaml").read_text())
    policy["offline"] = [
        {"metric": "auc", "role": "success", "against": "best-baseline"},
        {"metric": "auc", "role": "limit", "limit": 0.99},
    ]
    values = {"gitops": "", "record": "", "environment": DEV.environment, "now": NOW, "policy": json.dumps(policy)}
    values["run"] = json.dumps({"id": "refused", "name": "m", "kfp_run": "refused"})
    outputs = {"decision": "system.Artifact", "verdict": "system.Markdown"}
    given = executor_input(values, outputs, {"evaluation": GIVEN})
    phase, terminated = end_of(namespace, start(namespace, "refused-gate", image, given))
    log = kubectl("-n", namespace, "logs", "refused-gate")
    assert (phase, terminated["exitCode"]) == ("Succeeded", 0), log
    assert "Wrote executor output file" in log
    rule = "m: FAIL by rule limit auc: The AUC is 0.7"
    assert terminated["message"].startswith(f"sluice: Refused: {rule}")
    end_of(
        namespace,
        start(namespace, "refused-refused", image, executor_input({"reason": "x"}, {"why": "system.Markdown"})),
    )
    assert note(namespace, "refused", image, "COMPLETE").startswith(f"run refused: refused by gate: {rule}")


def test_a_night_on_which_nothing_is_due_ends_well(namespace: str, image: str) -> None:
    given = executor_input({"reason": "no trigger fires"}, {"why_not": "system.Markdown"})
    phase, _ = end_of(namespace, start(namespace, "quiet-not-due", image, given))
    assert phase == "Succeeded"
    assert note(namespace, "quiet", image, "COMPLETE") == "run quiet: ended well"
