"""Every service account, asked of the API server: what it may do, and that it may do nothing else."""

from __future__ import annotations

import pytest

from tests.support.cluster.api_server import allowed
from tests.support.cluster.checkout import TRIAL_NAMESPACE, Checkout, with_option
from tests.support.cluster.kubectl import apply, get, kubectl

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")
RESOURCES = (
    "pods",
    "pods/exec",
    "pods/proxy",
    "pods/log",
    "secrets",
    "configmaps",
    "services",
    "serviceaccounts/token",
    "deployments.apps",
    "jobs.batch",
    "inferenceservices.serving.kserve.io",
    "revisions.serving.knative.dev",
    "servingruntimes.serving.kserve.io",
    "httproutes.gateway.networking.k8s.io",
    "networkpolicies.networking.k8s.io",
    "roles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
    "applications.argoproj.io",
)
CLUSTER_WIDE = (
    "namespaces",
    "nodes",
    "clusterroles.rbac.authorization.k8s.io",
    "clusterstoragecontainers.serving.kserve.io",
    "validatingadmissionpolicies.admissionregistration.k8s.io",
)
MAY = {
    "default": set[tuple[str, str]](),
    "model-server": set[tuple[str, str]](),
    "gate": {
        ("list", "pods"),
        ("get", "deployments.apps"),
        ("list", "httproutes.gateway.networking.k8s.io"),
        ("get", "inferenceservices.serving.kserve.io"),
        ("get", "revisions.serving.knative.dev"),
    },
}


def permitted(account: str, namespace: str, home: str = TRIAL_NAMESPACE, named: str = "") -> set[tuple[str, str]]:
    """The (verb, resource) pairs above that an account of ``home`` has in a namespace, on every name or on one."""
    user = f"system:serviceaccount:{home}:{account}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{home}", "system:authenticated"]
    asked = [(verb, resource) for verb in VERBS for resource in (*RESOURCES, *CLUSTER_WIDE)]
    specs = []
    for verb, resource in asked:
        plural, _, group = resource.partition(".")
        name, _, below = plural.partition("/")
        attributes = {"verb": verb, "resource": name, "subresource": below, "group": group, "namespace": namespace}
        attributes |= {"name": named} if named else {}
        specs.append({"user": user, "groups": groups, "resourceAttributes": attributes})
    return {pair for pair, answer in zip(asked, allowed(specs), strict=True) if answer}


@pytest.fixture(scope="module")
def gate(checkout: Checkout, installed: list[str]) -> None:
    """The option `gate`, in the trial environment."""
    apply(with_option(checkout, "gate"))


@pytest.mark.parametrize("account", MAY)
def test_an_account_may_what_it_needs_and_nothing_else(gate: None, account: str) -> None:
    assert permitted(account, TRIAL_NAMESPACE) == MAY[account]
    assert permitted(account, "sluice-prod") == set()


def test_only_the_gate_may_change_what_it_remembers_and_only_in_its_own_namespace(gate: None) -> None:
    memory = {(verb, "configmaps") for verb in ("get", "patch")}
    assert permitted("gate", TRIAL_NAMESPACE, named="gate-seen") == MAY["gate"] | memory
    assert permitted("model-server", TRIAL_NAMESPACE, named="gate-seen") == set()
    assert permitted("gate", "sluice-prod", named="gate-seen") == set()


def test_no_account_is_forgotten_and_no_token_is_mounted_by_default(gate: None) -> None:
    accounts = {found["metadata"]["name"]: found for found in get("-n", TRIAL_NAMESPACE, "serviceaccounts")["items"]}
    assert set(accounts) == set(MAY)
    assert all(accounts[name]["automountServiceAccountToken"] is False for name in ("gate", "model-server"))
    bound = {found["metadata"]["name"] for found in get("-n", TRIAL_NAMESPACE, "rolebindings")["items"]}
    assert bound == {"gate"}
    kubectl("-n", TRIAL_NAMESPACE, "delete", "cronjob", "gate")
