"""Both sides ready and only stable asked."""

from __future__ import annotations

from typing import Any

from tests.cluster.test_serving import ask, release
from tests.support.cluster.checkout import Checkout, in_trial
from tests.support.cluster.kubectl import Object, get
from tests.support.cluster.store import Bundles


def test_a_preview_runs_both_sides_and_asks_only_stable(
    checkout: Checkout, bundles: Bundles, gateway: str, trial: str
) -> None:
    two: dict[str, Any] = {"stable": bundles.first, "candidate": bundles.second}
    release(checkout, gateway, in_trial("preview", **two))
    assert _weights(trial) == {"tiny-stable-predictor": 100, "tiny-candidate-predictor": 0}
    assert {ask(gateway) for _ in range(50)} == {bundles.first}
    pods = _pods(trial)
    assert {pod["metadata"]["labels"]["sluice.dev/role"] for pod in pods} == {"stable", "candidate"}
    release(checkout, gateway, in_trial("preview", **two, paused=True))
    assert _weights(trial)["tiny-candidate-predictor"] == 0
    assert _names(_pods(trial)) == _names(pods), "a pause restarts nothing"
    release(checkout, gateway, in_trial("confirm", **two))
    assert {ask(gateway) for _ in range(50)} == {bundles.second}
    assert _names(_pods(trial)) == _names(pods), "the switch restarts nothing"


def _weights(namespace: str) -> dict[str, int]:
    (rule,) = get("-n", namespace, "httproute", "tiny")["spec"]["rules"]
    assert "filters" not in rule, "no request is copied"
    return {ref["name"]: ref["weight"] for ref in rule["backendRefs"]}


def _pods(namespace: str) -> list[Object]:
    found: list[Object] = get("-n", namespace, "pods")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def _names(pods: list[Object]) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods}
