"""The real images as pods: what they answer through the gateway, and what keeps a pod from starting."""

from __future__ import annotations

import json
import math
import time
import urllib.request
from collections import Counter
from typing import Any

import pytest
import yaml

from sluice.documents.state import ReleaseState
from tests.support.cluster.checkout import TRIAL_NAMESPACE, Checkout, in_trial
from tests.support.cluster.kubectl import Object, apply, get, kubectl, wait_until
from tests.support.cluster.store import Bundles

HOST = "flights.trial.example.com"
ROW = {"amount": 1.5, "visits": 3, "colour": "red"}


def ask(gateway: str, version: str = "v1", host: str = HOST) -> str:
    """The digest that answers one request through the gateway."""
    if version == "v1":
        path, body = "/v1/models/tiny:predict", json.dumps({"instances": [ROW]})
    else:
        kinds = {"amount": "FP64", "visits": "INT64", "colour": "BYTES"}
        inputs = [{"name": k, "datatype": kinds[k], "shape": [1], "data": [v]} for k, v in ROW.items()]
        path, body = "/v2/models/tiny/infer", json.dumps({"inputs": inputs})
    headers = {"Host": host, "content-type": "application/json"}
    request = urllib.request.Request(gateway + path, body.encode(), headers)  # noqa: S310  http by configuration
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        document = json.load(answer)
    digest: str = document["predictions"][0]["digest"] if version == "v1" else document["parameters"]["digest"]
    return digest


def answered(service: str) -> int:
    """How many rows a server says that it has answered."""
    path = f"/api/v1/namespaces/{TRIAL_NAMESPACE}/services/{service}-predictor:80/proxy/-/sluice"
    count: int = json.loads(kubectl("get", "--raw", path))["answered"]
    return count


def ready(service: str) -> bool:
    """Whether KServe says that a service is ready for its newest spec."""
    found = get("-n", TRIAL_NAMESPACE, "inferenceservice", service)
    status = found.get("status", {})
    conditions = {entry["type"]: entry["status"] for entry in status.get("conditions", [])}
    return bool(conditions.get("Ready") == "True" and status["observedGeneration"] == found["metadata"]["generation"])


def release(checkout: Checkout, gateway: str, state: ReleaseState) -> list[str]:
    """Apply a release and wait until its servers are ready and its route answers."""
    lines = apply(checkout.release(state))
    for role in ("stable", "candidate"):
        if getattr(state, role):
            wait_until(f"{role} is ready", lambda role=role: ready(f"tiny-{role}"), 150)  # type: ignore[misc]
    wait_until("the gateway has taken the route over", _route_is_taken_over, 30)
    wait_until("the route answers", lambda: _answers(gateway), 30)
    return lines


def _route_is_taken_over() -> bool:
    """Says its status; the gateway's own tables follow within a moment."""
    route = get("-n", TRIAL_NAMESPACE, "httproute", "tiny")
    found = {
        condition["observedGeneration"]
        for parent in route.get("status", {}).get("parents", [])
        for condition in parent["conditions"]
    }
    time.sleep(0.5)
    return found == {route["metadata"]["generation"]}


def _answers(gateway: str) -> bool:
    try:
        return bool(ask(gateway))
    except OSError:
        return False


def tolerance(n: int, share: float) -> float:
    """Half width that a binomial count of n leaves once in a million."""
    return 4.9 * math.sqrt(n * share * (1 - share))


def test_weights_and_mirror_are_what_a_release_says(
    checkout: Checkout, bundles: Bundles, gateway: str, trial: str
) -> None:
    two: dict[str, Any] = {"stable": bundles.first, "candidate": bundles.second}
    lines = release(checkout, gateway, in_trial("shadow", **two, mirror_percent=50))
    assert sum("inferenceservice" in line for line in lines) == 2
    before = answered("tiny-candidate")
    assert {ask(gateway, version) for version in ("v1", "v2") for _ in range(150)} == {bundles.first}
    wait_until("mirrored requests are answered", lambda: answered("tiny-candidate") > before, 10)
    mirrored = answered("tiny-candidate") - before
    assert abs(mirrored - 150) <= tolerance(300, 0.5)

    release(checkout, gateway, in_trial("canary", **two, stable_weight=90, candidate_weight=10))
    wait_until("the weight moved", lambda: _weights() == {"tiny-stable": 90, "tiny-candidate": 10}, 10)
    counts = Counter(ask(gateway, version) for version in ("v1", "v2") for _ in range(300))
    assert set(counts) == {bundles.first, bundles.second}
    assert abs(counts[bundles.second] - 60) <= tolerance(600, 0.1)

    release(checkout, gateway, in_trial("confirm", **two))
    wait_until("the candidate answers all", lambda: _weights() == {"tiny-stable": 0, "tiny-candidate": 100}, 10)
    wait_until("the gateway follows", lambda: ask(gateway) == bundles.second, 10)
    assert {ask(gateway, version) for version in ("v1", "v2") for _ in range(50)} == {bundles.second}


def _weights() -> dict[str, int]:
    (rule,) = get("-n", TRIAL_NAMESPACE, "httproute", "tiny")["spec"]["rules"]
    return {ref["name"].removesuffix("-predictor"): ref["weight"] for ref in rule["backendRefs"]}


def test_pods_run_restricted_and_say_which_digest_is_loaded(
    checkout: Checkout, bundles: Bundles, gateway: str, trial: str
) -> None:
    release(checkout, gateway, in_trial("stable", stable=bundles.first))
    (pod,) = get("-n", trial, "pods", "-l", "sluice.dev/role=stable")["items"]
    assert pod["metadata"]["labels"]["app.kubernetes.io/part-of"] == "sluice"
    assert not [volume for volume in pod["spec"]["volumes"] if "projected" in volume], "no token is mounted"
    images = [c["image"] for c in pod["spec"]["containers"] + pod["spec"]["initContainers"]]
    assert all("@sha256:" in image for image in images)
    name = pod["metadata"]["name"]
    script = "import os; print(os.getuid()); open('/nothing', 'w')"
    with pytest.raises(AssertionError, match="Read-only file system"):
        kubectl("-n", trial, "exec", name, "-c", "kserve-container", "--", "python", "-c", script)
    proxy = f"/api/v1/namespaces/{trial}/pods/{name}:8080/proxy/-/serves/"
    assert json.loads(kubectl("get", "--raw", proxy + bundles.first))["served"] == [bundles.first]
    with pytest.raises(AssertionError, match=r"409|conflict"):
        kubectl("get", "--raw", proxy + bundles.second)


@pytest.mark.parametrize(
    ("which", "says"),
    [("tampered", "model.tflite: has digest"), ("absent", "is not in the store")],
)
def test_a_bundle_that_is_not_what_its_digest_says_never_starts(
    checkout: Checkout, bundles: Bundles, trial: str, which: str, says: str
) -> None:
    digest = getattr(bundles, which, "sha256:" + "1" * 64)
    apply(checkout.release(in_trial("stable", stable=digest)))
    assert says in wait_until("the initializer says why", lambda: initializer_message("stable"), 120)
    assert not ready("tiny-stable")


def initializer_message(role: str, namespace: str = TRIAL_NAMESPACE) -> str:
    """Why the storage initializer of a side failed; empty while it did not."""
    for pod in get("-n", namespace, "pods", "-l", f"sluice.dev/role={role}")["items"]:
        for status in pod["status"].get("initContainerStatuses", []):
            ended: Object = status["state"].get("terminated") or status["lastState"].get("terminated") or {}
            if ended.get("exitCode"):
                return str(ended.get("message", ""))
    return ""


def test_three_environments_have_their_own_room(checkout: Checkout, installed: list[str]) -> None:
    for environment in ("dev", "staging", "prod"):
        objects = list(yaml.safe_load_all(kubectl("kustomize", checkout.overlay(environment))))
        places = {found["metadata"].get("namespace", f"sluice-{environment}") for found in objects}
        assert places == {f"sluice-{environment}"}
        assert {found["kind"] for found in objects if "namespace" not in found["metadata"]} == {"Namespace"}
