"""Argo CD: a repository that it follows, and whether it is content."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from sluice.gitops.writer import GitOps
from tests.support.cluster.checkout import Checkout
from tests.support.cluster.kubectl import Refused, apply, get, kubectl, namespaces, wait_until

APPLICATIONS = ("sluice-cluster", "sluice-dev", "sluice-staging", "sluice-prod")


def given_argo_cd() -> None:
    """Skip, loudly, where there is none."""
    if "argocd" not in namespaces():
        pytest.skip("NOT CHECKED: there is no namespace argocd")


@contextlib.contextmanager
def followed(checkout: Checkout, repository: Path) -> Iterator[GitOps]:
    """A repository with a checkout in it, that Argo CD follows while the block runs."""
    gitops = GitOps(repository, "dev")
    gitops.seed(checkout.root)
    source = checkout.root / "manifests/argocd/kustomization.yaml"
    source.write_text(source.read_text().replace("https://github.com/sluice-ml/sluice.git", f"file://{repository}"))
    health = checkout.root / "manifests/argocd/settings/health.yaml"
    kubectl("-n", "argocd", "patch", "configmap", "argocd-cm", "--patch-file", health)
    apply(checkout.root / "manifests/argocd")
    try:
        then_argo_cd_is_calm(120)
        yield gitops
    finally:
        kubectl("delete", "-k", checkout.root / "manifests/argocd", "--wait=true")
        kubectl("-n", "argocd", "delete", "application", "--all", "--wait=false")


def refresh(name: str, how: str) -> None:
    """Ask Argo CD to look at Git now."""
    kubectl("-n", "argocd", "annotate", "application", name, f"argocd.argoproj.io/refresh={how}", "--overwrite")


def refresh_again(name: str) -> None:
    """As ``refresh``, unless one is still to come: what is asked while Argo CD looks is lost with that."""
    if _compared(name):
        refresh(name, "normal")


def calm(name: str) -> bool:
    """Whether an Application is synced and healthy; else it is asked to look anew, and what it says is the refusal."""
    status = get("-n", "argocd", "application", name).get("status", {})
    told = [status.get("sync", {}).get("status"), status.get("health", {}).get("status")]
    if told != ["Synced", "Healthy"]:
        refresh_again(name)
        raise Refused(f"{name} is {told}: {status.get('conditions')} {status.get('operationState', {}).get('message')}")
    return True


def work_on(name: str) -> object:
    """What changes while a sync of an Application goes on: its operation, its objects, the pods where it deploys."""
    application = get("-n", "argocd", "application", name)
    status, namespace = application.get("status", {}), application["spec"]["destination"].get("namespace", "default")
    operation = {key: status.get("operationState", {}).get(key) for key in ("phase", "message", "retryCount")}
    pods = [(each["metadata"]["name"], each["status"]) for each in get("-n", namespace, "pods")["items"]]
    return operation, status.get("resources"), pods


def then_argo_cd_is_calm(seconds: float) -> None:
    """Wait until every Application is synced and healthy."""
    for name in APPLICATIONS:
        wait_until(f"{name} is synced", partial(calm, name), seconds, partial(work_on, name))


def then_argo_cd_is_calm_for_three_syncs() -> None:
    """Nothing is changed by comparing anew, three times."""
    for _ in range(3):
        for name in APPLICATIONS:
            refresh(name, "hard")
        for name in APPLICATIONS:
            wait_until(f"{name} was compared", partial(_compared, name), 60)
            assert calm(name), name


def _compared(name: str) -> bool:
    return "argocd.argoproj.io/refresh" not in get("-n", "argocd", "application", name)["metadata"].get(
        "annotations", {}
    )
