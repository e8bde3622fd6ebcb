"""Servers behind the gateway: a release applied, a user who asks, and what pods say of themselves."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from functools import partial
from http import HTTPStatus
from typing import Any

from sluice.documents.state import ReleaseState
from tests.support.cluster.checkout import TRIAL_NAMESPACE, Checkout, in_trial
from tests.support.cluster.kubectl import Object, apply, get, kubectl, wait_until

HOST = "flights.trial.example.com"


PREDICT = "/v1/models/tiny:predict"
ROW = {"amount": 1.5, "visits": 3, "colour": "red"}


def post(url: str, document: Any, headers: dict[str, str]) -> tuple[int, str]:
    """Status and body of one request; raises ``OSError`` where nobody answers."""
    body, headers = json.dumps(document), {**headers, "content-type": "application/json"}
    request = urllib.request.Request(url, body.encode(), headers)  # noqa: S310  http by configuration
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def predict(gateway: str, row: dict[str, Any], headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and body of a request with one row, as a user of the trial environment sends it."""
    return post(gateway + PREDICT, {"instances": [row]}, {"Host": HOST, **(headers or {})})


def ask(gateway: str, version: str = "v1", host: str = HOST, **headers: str) -> str:
    """The digest that answers one request through the gateway."""
    if version == "v1":
        path, question = PREDICT, dict[str, Any](instances=[ROW])
    else:
        kinds = {"amount": "FP64", "visits": "INT64", "colour": "BYTES"}
        inputs = [{"name": k, "datatype": kinds[k], "shape": [1], "data": [v]} for k, v in ROW.items()]
        path, question = "/v2/models/tiny/infer", {"inputs": inputs}
    status, text = post(gateway + path, question, {"Host": host, **headers})
    if status != HTTPStatus.OK:
        raise OSError(f"{status}: {text}")
    document = json.loads(text)
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


def given_a_stable_release(checkout: Checkout, gateway: str, digest: str) -> list[str]:
    """One model, which answers all; the lines of the apply."""
    return given_a_release(checkout, gateway, in_trial("stable", stable=digest))


def given_a_release(checkout: Checkout, gateway: str, state: ReleaseState) -> list[str]:
    """Apply a release and wait until its servers are ready and its route answers."""
    lines = apply(checkout.release(state))
    then_servers_are_ready(*(role for role in ("stable", "candidate") if getattr(state, role)))
    wait_until("the gateway has taken the route over", _route_is_taken_over, 30)
    wait_until("the route answers", lambda: _answers(gateway), 30)
    return lines


def then_servers_are_ready(*roles: str) -> None:
    """Wait until KServe says so of each side."""
    for role in roles:
        wait_until(f"{role} is ready", partial(ready, f"tiny-{role}"), 150)


def weights(namespace: str = TRIAL_NAMESPACE) -> dict[str, int]:
    """What the route says, by side."""
    (rule,) = get("-n", namespace, "httproute", "tiny")["spec"]["rules"]
    return {ref["name"].removeprefix("tiny-").removesuffix("-predictor"): ref["weight"] for ref in rule["backendRefs"]}


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


def initializer_message(role: str, namespace: str = TRIAL_NAMESPACE) -> str:
    """Why the storage initializer of a side failed; empty while it did not."""
    for pod in get("-n", namespace, "pods", "-l", f"sluice.dev/role={role}")["items"]:
        for status in pod["status"].get("initContainerStatuses", []):
            ended: Object = status["state"].get("terminated") or status["lastState"].get("terminated") or {}
            if ended.get("exitCode"):
                return str(ended.get("message", ""))
    return ""
