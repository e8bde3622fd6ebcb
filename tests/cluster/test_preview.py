"""Both sides ready, users ask only stable, and a host of its own leads to the candidate."""

from __future__ import annotations

from typing import Any

from tests.support.cluster.checkout import Checkout, in_trial
from tests.support.cluster.kubectl import Object, get
from tests.support.cluster.serving import HOST, ask, given_a_release, weights
from tests.support.cluster.store import Bundles


def test_a_preview_runs_both_sides_and_asks_only_stable(
    checkout: Checkout, bundles: Bundles, gateway: str, trial: str
) -> None:
    two: dict[str, Any] = {"stable": bundles.first, "candidate": bundles.second}
    given_a_release(checkout, gateway, in_trial("preview", **two))
    assert weights(trial) == {"stable": 100, "candidate": 0}
    assert not _copies_requests(trial)
    assert {ask(gateway) for _ in range(50)} == {bundles.first}
    assert {ask(gateway, host=f"preview-{HOST}") for _ in range(20)} == {bundles.second}
    pods = _pods(trial)
    assert {pod["metadata"]["labels"]["sluice.dev/role"] for pod in pods} == {"stable", "candidate"}
    given_a_release(checkout, gateway, in_trial("preview", **two, paused=True))
    assert weights(trial)["candidate"] == 0
    assert not _copies_requests(trial)
    assert _names(_pods(trial)) == _names(pods), "a pause restarts nothing"
    given_a_release(checkout, gateway, in_trial("confirm", **two))
    assert {ask(gateway) for _ in range(50)} == {bundles.second}
    assert _names(_pods(trial)) == _names(pods), "the switch restarts nothing"


def _copies_requests(namespace: str) -> bool:
    (rule,) = get("-n", namespace, "httproute", "tiny")["spec"]["rules"]
    return "filters" in rule


def _pods(namespace: str) -> list[Object]:
    found: list[Object] = get("-n", namespace, "pods")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def _names(pods: list[Object]) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods}
