"""Sluice in a cluster, once for all tests: installed with empty environments, emptied, and removed."""

from __future__ import annotations

import os

import pytest

from tests.support.cluster.checkout import ENVIRONMENTS, TRIAL, Checkout
from tests.support.cluster.kubectl import Object, Refused, apply, get, kubectl, namespaces, wait_until
from tests.support.cluster.store import STORE

_OURS = [f"sluice-{environment}" for environment in (*ENVIRONMENTS, TRIAL)] + [STORE]


def install(checkout: Checkout) -> list[str]:
    """What a cluster has once, and every environment with nothing released; the lines of the apply."""
    there = namespaces().keys() & set(_OURS)
    if there:
        pytest.exit(f"namespaces {sorted(there)} exist: these tests want a cluster without Sluice", returncode=2)
    try:
        lines = apply(checkout.root / "manifests/cluster")
        for environment in (*ENVIRONMENTS, TRIAL):
            lines += apply(checkout.overlay(environment))
    except Refused:
        remove(checkout)
        raise
    return lines


def remove(checkout: Checkout) -> None:
    """All of it."""
    kubectl("delete", "namespace", "--ignore-not-found", "--wait=true", "--timeout=120s", *_OURS)
    kubectl("delete", "--ignore-not-found", "-k", checkout.root / "manifests/cluster")


def gateway_objects() -> list[Object]:
    """The Gateway that KServe's routes name, with a class for the tests' controller."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kserve"}},
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "sluice-test"},
            "spec": {"controllerName": os.environ.get("SLUICE_TEST_GATEWAY_CLASS", "sluice.test/gateway")},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "kserve-ingress-gateway", "namespace": "kserve"},
            "spec": {
                "gatewayClassName": "sluice-test",
                "listeners": [
                    {
                        "name": "http",
                        "protocol": "HTTP",
                        "port": 80,
                        "allowedRoutes": {"namespaces": {"from": "All"}},
                    }
                ],
            },
        },
    ]


def empty(namespace: str) -> None:
    """Nothing is released there, no pod is left, and no gate remembers the repository of a test that has ended."""
    try:
        for kind in ("cronjob", "job", "deployment", "httproute", "inferenceservice"):
            kubectl("-n", namespace, "delete", kind, "--all", "--wait=true")
        kubectl("-n", namespace, "delete", "configmap", "gate-seen", "--ignore-not-found")
    except Refused as error:
        pytest.fail(f"cannot clean up: {error}")
    wait_until("the pods are gone", lambda: not get("-n", namespace, "pods")["items"], 120)
