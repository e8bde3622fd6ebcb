"""The option `collector` as pods: what servers answer is in the store, once, and what needs labels is exposed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from sluice.documents.state import ReleaseState
from tests.support import tiny_task
from tests.support.cluster.checkout import TRIAL, Checkout, in_trial, with_option
from tests.support.cluster.kubectl import Refused, apply, available, get, kubectl, wait_until
from tests.support.cluster.serving import ROW, predict, then_servers_are_ready
from tests.support.cluster.store import STORE, Bundles
from tests.support.tiny_bundle import tiny_rows

_READ = "import polars; print(*sorted(polars.read_parquet('/written/predictions/%s/**/*.parquet')['request_id']))"


def answering_digest(gateway: str, request_id: str, row: dict[str, Any]) -> str:
    """One request with an id of its own."""
    try:
        status, text = predict(gateway, row, {"x-request-id": request_id})
    except OSError as error:
        raise Refused(str(error)) from error
    if status != HTTPStatus.OK:
        raise Refused(text)
    digest: str = json.loads(text)["predictions"][0]["digest"]
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


@pytest.fixture
def canary(checkout: Checkout, bundles: Bundles, trial: str) -> Iterator[ReleaseState]:
    """Half and half, with the option."""
    two: dict[str, Any] = {"stable": bundles.first, "candidate": bundles.second}
    state = in_trial("canary", **two, stable_weight=50, candidate_weight=50)
    release = checkout.release(state) / "release/kustomization.yaml"
    overlay = with_option(checkout, "collector")
    (overlay / "release/kustomization.yaml").write_bytes(release.read_bytes())
    try:
        apply(overlay)
        with_task(trial)
        then_servers_are_ready("stable", "candidate")
        wait_until("the collector runs", lambda: available(trial, "collector"), 120)
        yield state
    finally:
        kubectl("-n", trial, "delete", "deployment,service,poddisruptionbudget", "collector", "--ignore-not-found")
        kubectl("-n", trial, "delete", "deployment/exposition", "configmap/tiny-task", "--ignore-not-found")
        apply(checkout.overlay(TRIAL))


def test_pods_log_through_to_the_store_and_to_prometheus(canary: ReleaseState, gateway: str, trial: str) -> None:
    digests = {canary.stable, canary.candidate}

    def sides() -> set[str]:
        return {answering_digest(gateway, f"before{n}", ROW) for n in range(20)}

    wait_until("both sides answer", lambda: sides() == digests, 30)
    ids = [f"q{number:03d}" for number in range(120)]
    answered = set()
    for name, row in zip(ids, tiny_rows(120), strict=True):
        answered.add(answering_digest(gateway, name, row))
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
    assert {(one.labels["rollout"], one.labels["stage"]) for one in losses(trial)} == {(canary.rollout, "canary")}


def losses(namespace: str) -> list[Sample]:
    """How many losses there are, by arm, window and slice."""
    families = text_string_to_metric_families(metrics(namespace))
    return [sample for family in families for sample in family.samples if sample.name == "sluice_loss_count"]


def metrics(namespace: str) -> str:
    """What the exposition says, by way of the API server."""
    pods = get("-n", namespace, "pods", "-l", "app.kubernetes.io/name=exposition")["items"]
    name = max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])["metadata"]["name"]
    return kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/{name}:8080/proxy/metrics")
