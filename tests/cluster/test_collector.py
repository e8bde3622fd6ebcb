"""The option `collector` as pods: what servers answer is in the store, once, and what needs labels is exposed."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.cluster.checkout import TRIAL, Checkout, in_trial, with_option
from tests.cluster.kubectl import Refused, apply, available, get, kubectl, wait_until
from tests.cluster.store import STORE, Bundles
from tests.cluster.test_serving import HOST, ROW, ready
from tests.integration.tiny_bundle import tiny_rows
from tests.unit import tiny_task

_READ = "import polars; print(*sorted(polars.read_parquet('/written/predictions/%s/**/*.parquet')['request_id']))"


def predict(gateway: str, request_id: str, row: dict[str, Any]) -> str:
    """The digest that answers."""
    headers = {"Host": HOST, "content-type": "application/json", "x-request-id": request_id}
    body = json.dumps({"instances": [row]}).encode()
    request = urllib.request.Request(f"{gateway}/v1/models/tiny:predict", body, headers)  # noqa: S310  http by configuration
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            digest: str = json.load(answer)["predictions"][0]["digest"]
    except OSError as error:
        raise Refused(str(error)) from error
    return digest


def stored(kind: str) -> list[str]:
    """Request ids in the store, each as often as it is there."""
    return kubectl("-n", STORE, "exec", "deployment/store", "--", "python", "-c", _READ % kind).split()


def with_task(namespace: str) -> None:
    """Give the join the tests' task, which no image has."""
    task = {"tiny_task.py": Path(tiny_task.__file__).read_text(), "tiny_schema.json": "{}"}
    metadata = {"name": "tiny-task", "namespace": namespace}
    apply([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": task}])
    place = "/spec/template/spec"
    changes = [
        {"op": "add", "path": f"{place}/volumes/-", "value": {"name": "task", "configMap": {"name": "tiny-task"}}},
        {
            "op": "add",
            "path": f"{place}/containers/0/volumeMounts/-",
            "value": {"name": "task", "mountPath": "/task"},
        },
        {"op": "add", "path": f"{place}/containers/0/env/-", "value": {"name": "PYTHONPATH", "value": "/task"}},
        {"op": "add", "path": f"{place}/containers/0/command/-", "value": "--task=tiny_task:TASK"},
        {"op": "add", "path": f"{place}/containers/0/command/-", "value": "--every=3"},
    ]
    kubectl("-n", namespace, "patch", "deployment", "exposition", "--type=json", "-p", json.dumps(changes))


def test_pods_log_through_to_the_store_and_to_prometheus(
    checkout: Checkout, bundles: Bundles, gateway: str, trial: str
) -> None:
    two: dict[str, Any] = {"stable": bundles.first, "candidate": bundles.second}
    state = in_trial("canary", **two, stable_weight=50, candidate_weight=50)
    release = checkout.release(state) / "release/kustomization.yaml"
    overlay = with_option(checkout, "collector")
    (overlay / "release/kustomization.yaml").write_bytes(release.read_bytes())
    try:
        apply(overlay)
        with_task(trial)
        for role in ("stable", "candidate"):
            wait_until(f"{role} is ready", lambda role=role: ready(f"tiny-{role}"), 150)  # type: ignore[misc]
        wait_until("the collector runs", lambda: available(trial, "collector"), 120)
        _all_of_it(gateway, trial, {bundles.first, bundles.second}, state.rollout or "")
    finally:
        kubectl("-n", trial, "delete", "deployment,service,poddisruptionbudget", "collector", "--ignore-not-found")
        kubectl("-n", trial, "delete", "deployment/exposition", "configmap/tiny-task", "--ignore-not-found")
        apply(checkout.overlay(TRIAL))


def _all_of_it(gateway: str, trial: str, digests: set[str], rollout: str) -> None:
    wait_until("both sides answer", lambda: {predict(gateway, f"before{n}", ROW) for n in range(20)} == digests, 30)
    ids = [f"q{number:03d}" for number in range(120)]
    answered = set()
    for name, row in zip(ids, tiny_rows(120), strict=True):
        answered.add(predict(gateway, name, row))
        if name == "q040":
            kubectl("-n", trial, "delete", "pod", "-l", "app.kubernetes.io/name=collector", "--wait=false", "--now")
    assert answered == digests
    wait_until("all predictions are stored", lambda: set(ids) <= set(stored("predictions")), 120)
    assert [name for name in stored("predictions") if name in ids] == ids, "each once"

    proxy = f"/api/v1/namespaces/{trial}/services/collector:8080/proxy/v1/feedback"
    labels = [{"request_id": name, "label": number % 2} for number, name in enumerate(ids[:100])]
    wait_until("the collector is back", lambda: available(trial, "collector"), 120)
    told = kubectl("create", "--raw", proxy, "-f", "-", stdin=json.dumps({"labels": labels}))
    assert json.loads(told) == {"stored": 100}
    assert stored("labels") == ids[:100]

    def exposed() -> bool:
        whole = [one for one in losses(trial) if not one.labels["window"] and not one.labels["slice"]]
        return sum(sample.value for sample in whole) == 100

    wait_until("the join is exposed", exposed, 120)
    assert {(one.labels["rollout"], one.labels["stage"]) for one in losses(trial)} == {(rollout, "canary")}


def losses(namespace: str) -> list[Sample]:
    """How many losses there are, by arm, window and slice."""
    families = text_string_to_metric_families(metrics(namespace))
    return [sample for family in families for sample in family.samples if sample.name == "sluice_loss_count"]


def metrics(namespace: str) -> str:
    """What the exposition says, by way of the API server."""
    pods = get("-n", namespace, "pods", "-l", "app.kubernetes.io/name=exposition")["items"]
    name = max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])["metadata"]["name"]
    return kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/{name}:8080/proxy/metrics")
