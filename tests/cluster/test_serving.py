"""The real images as pods: what they answer through the gateway, and what keeps a pod from starting."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import pytest
import yaml

from tests.support.cluster.checkout import ENVIRONMENTS, Checkout, in_trial
from tests.support.cluster.kubectl import apply, get, kubectl, wait_until
from tests.support.cluster.promotion import Requests
from tests.support.cluster.serving import (
    HOST,
    answered,
    ask,
    given_a_release,
    given_a_stable_release,
    initializer_message,
    ready,
    weights,
)
from tests.support.cluster.store import Bundles


def tolerance(n: int, share: float) -> float:
    """Half width that a binomial count of n leaves once in a million."""
    return 4.9 * math.sqrt(n * share * (1 - share))


def test_weights_and_mirror_are_what_a_release_says(
    checkout: Checkout, bundles: Bundles, gateway: str, trial: str
) -> None:
    two: dict[str, Any] = {"stable": bundles.first, "candidate": bundles.second}
    lines = given_a_release(checkout, gateway, in_trial("shadow", **two, mirror_percent=50))
    assert sum("inferenceservice" in line for line in lines) == 2
    before = answered("tiny-candidate")
    assert {ask(gateway, version) for version in ("v1", "v2") for _ in range(150)} == {bundles.first}
    wait_until("mirrored requests are answered", lambda: answered("tiny-candidate") > before, 10)
    mirrored = answered("tiny-candidate") - before
    assert abs(mirrored - 150) <= tolerance(300, 0.5)

    given_a_release(checkout, gateway, in_trial("canary", **two, stable_weight=90, candidate_weight=10))
    wait_until("the weight moved", lambda: weights() == {"stable": 90, "candidate": 10}, 10)
    counts = Counter(ask(gateway, version) for version in ("v1", "v2") for _ in range(300))
    assert set(counts) == {bundles.first, bundles.second}
    assert abs(counts[bundles.second] - 60) <= tolerance(600, 0.1)

    given_a_release(checkout, gateway, in_trial("confirm", **two))
    wait_until("the candidate answers all", lambda: weights() == {"stable": 0, "candidate": 100}, 10)
    wait_until("the gateway follows", lambda: ask(gateway) == bundles.second, 10)
    assert {ask(gateway, version) for version in ("v1", "v2") for _ in range(50)} == {bundles.second}


def test_pods_run_restricted_and_say_which_digest_is_loaded(
    checkout: Checkout, bundles: Bundles, gateway: str, trial: str
) -> None:
    given_a_stable_release(checkout, gateway, bundles.first)
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


def test_the_only_server_of_a_side_starts_anew_and_no_request_fails(
    checkout: Checkout, bundles: Bundles, gateway: str, trial: str
) -> None:
    given_a_stable_release(checkout, gateway, bundles.first)
    deployment = ("deployment", "tiny-stable-predictor")
    strategy = get("-n", trial, *deployment)["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    user = Requests(gateway, HOST)
    user.start()
    try:
        kubectl("-n", trial, "rollout", "restart", *deployment)
        kubectl("-n", trial, "rollout", "status", *deployment, "--timeout=150s")
        wait_until("the old server is gone", lambda: len(_pods(trial)) == 1, 60)
    finally:
        user.stop()
    assert not user.failures
    assert user.answers[bundles.first]


def _pods(namespace: str) -> list[Any]:
    found: list[Any] = get("-n", namespace, "pods")["items"]
    return found


@pytest.mark.parametrize(
    ("which", "says"),
    [("tampered", "model.tflite: has digest"), ("absent", "is not in the store")],
)
def test_a_bundle_that_is_not_what_its_digest_says_never_starts(
    checkout: Checkout, bundles: Bundles, trial: str, which: str, says: str
) -> None:
    digest = getattr(bundles, which, "sha256:" + "1" * 64)
    apply(checkout.release(in_trial("stable", stable=digest)))
    wait_until(f"the initializer says {says!r}", lambda: says in initializer_message("stable"), 120)
    assert not ready("tiny-stable")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_environment_has_its_own_room(checkout: Checkout, installed: list[str], environment: str) -> None:
    objects = list(yaml.safe_load_all(kubectl("kustomize", checkout.overlay(environment))))
    places = {found["metadata"].get("namespace", f"sluice-{environment}") for found in objects}
    assert places == {f"sluice-{environment}"}
    assert {found["kind"] for found in objects if "namespace" not in found["metadata"]} == {"Namespace"}
