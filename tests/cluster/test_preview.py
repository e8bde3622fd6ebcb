"""Both sides ready and only stable asked; and what is applied twice changes nothing."""

from __future__ import annotations

from typing import Any

from sluice.release.state import ReleaseState
from tests.cluster.conftest import ENVIRONMENTS, Bundles, Checkout
from tests.cluster.kubectl import Object, apply, get, kubectl
from tests.cluster.test_serving import ask, release
from tests.unit.release_sample import state_in


def test_a_preview_runs_both_sides_and_asks_only_stable(
    checkout: Checkout, bundles: Bundles, gateway: str, dev: str
) -> None:
    two: dict[str, Any] = {"task": "tiny", "stable": bundles.first, "candidate": bundles.second}
    release(checkout, gateway, state_in("preview", **two))
    assert _weights(dev) == {"tiny-stable-predictor": 100, "tiny-candidate-predictor": 0}
    assert {ask(gateway) for _ in range(50)} == {bundles.first}
    pods = _pods(dev)
    assert {pod["metadata"]["labels"]["sluice.dev/role"] for pod in pods} == {"stable", "candidate"}
    release(checkout, gateway, state_in("preview", **two, paused=True))
    assert _weights(dev)["tiny-candidate-predictor"] == 0
    assert _names(_pods(dev)) == _names(pods), "a pause restarts nothing"
    release(checkout, gateway, state_in("confirm", **two))
    assert {ask(gateway) for _ in range(50)} == {bundles.second}
    assert _names(_pods(dev)) == _names(pods), "the switch restarts nothing"


def _weights(namespace: str) -> dict[str, int]:
    (rule,) = get("-n", namespace, "httproute", "tiny")["spec"]["rules"]
    assert "filters" not in rule, "no request is copied"
    return {ref["name"]: ref["weight"] for ref in rule["backendRefs"]}


def _pods(namespace: str) -> list[Object]:
    found: list[Object] = get("-n", namespace, "pods")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def _names(pods: list[Object]) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods}


def test_a_second_apply_changes_nothing(checkout: Checkout, dev: str) -> None:
    for environment in ENVIRONMENTS:
        overlay = checkout.release(ReleaseState.empty("tiny", environment))
        apply(overlay)
        versions = kubectl("get", "-k", overlay, "-o", "jsonpath={.items[*].metadata.resourceVersion}")
        apply(overlay)
        assert kubectl("get", "-k", overlay, "-o", "jsonpath={.items[*].metadata.resourceVersion}") == versions
