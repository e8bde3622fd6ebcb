"""What a service account may do, asked of the API server."""

from __future__ import annotations

from tests.support.cluster.api_server import allowed
from tests.support.cluster.checkout import TRIAL_NAMESPACE

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
