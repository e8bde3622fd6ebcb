"""
Kill a part of the machinery around the models and let it come back.

    SLUICE_TEST_RESTART   a command that is given the part's name and kills and restarts it, where parts are processes
                          of the test's host; where they are pods it is not needed
"""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest

from tests.support.cluster.kubectl import get, kubectl, wait_until

PARTS = {
    "argocd-repo-server": ("argocd", "app.kubernetes.io/name=argocd-repo-server"),
    "argocd-controller": ("argocd", "app.kubernetes.io/name=argocd-application-controller"),
    "gateway": ("", "gateway.networking.k8s.io/gateway-name=kserve-ingress-gateway"),
}
"""Namespace (none: any) and label of each part's pods, as Argo CD's manifests and gateways of the Gateway API set."""


def pods_of(part: str) -> dict[str, str]:
    """Names with namespaces of a part's pods, by their uid; empty where it does not run as pods."""
    namespace, label = PARTS[part]
    where = ("-n", namespace) if namespace else ("-A",)
    found = get(*where, "pods", "-l", label)["items"]
    return {pod["metadata"]["uid"]: f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in found}


def can_restart() -> None:
    """Skip, loudly, where a part is neither pods nor in reach of a command."""
    lost = [part for part in PARTS if not pods_of(part)]
    if lost and not os.environ.get("SLUICE_TEST_RESTART"):
        pytest.skip(f"NOT CHECKED: {', '.join(lost)} run as no pods here, and SLUICE_TEST_RESTART is unset")


def restart(part: str) -> None:
    """Kill a part at once; returns when another instance of it runs."""
    before = pods_of(part)
    if before:
        for name in before.values():
            namespace, _, pod = name.partition("/")
            kubectl("-n", namespace, "delete", "pod", pod, "--grace-period=0", "--force")
        wait_until(f"{part} is back", lambda: _ready(part, set(before)), 120)
        return
    command = [*shlex.split(os.environ["SLUICE_TEST_RESTART"]), part]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    old, new = done.stdout.split()
    assert old != new, "it was never killed"


def _ready(part: str, gone: set[str]) -> bool:
    namespace, label = PARTS[part]
    items = get(*(("-n", namespace) if namespace else ("-A",)), "pods", "-l", label)["items"]
    fresh = [pod for pod in items if pod["metadata"]["uid"] not in gone]
    conditions = [c["status"] for pod in fresh for c in pod["status"].get("conditions", []) if c["type"] == "Ready"]
    return bool(fresh) and len(fresh) == len(items) and set(conditions) == {"True"}
