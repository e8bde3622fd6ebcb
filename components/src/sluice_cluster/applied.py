"""
Read back what took effect: not what Git says, but what Argo CD brought about, the gateway took over and pods serve.

    Argo CD Application   the commit that was synced, whole
    HTTPRoute             weights and mirror, of the generation that every gateway accepted
    pods                  the digest that each ready one says is loaded
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import Any, Protocol

from sluice.errors import SluiceError
from sluice.release.state import Applied

Document = dict[str, Any]
Asking = Callable[[Document], str]
"""From a pod to the digest that it says it serves; raises ``OSError`` when it does not answer."""


class NotApplied(SluiceError):
    """The cluster is still on its way, or hangs; there is nothing to judge yet."""


class Cluster(Protocol):
    """The three reads that this needs; ``sluice_cluster.api`` does them with the kubernetes package."""

    def application(self, name: str) -> Document:
        """An Argo CD Application."""

    def routes(self, namespace: str) -> list[Document]:
        """The HTTPRoutes of a namespace."""

    def pods(self, namespace: str, service: str) -> list[Document]:
        """The pods of an InferenceService that are not being deleted."""


def read_applied(cluster: Cluster, application: str, namespace: str, task: str, ask: Asking | None = None) -> Applied:
    """
    What is in effect for one task in one environment.

    Args:
        cluster: where to read.
        application: name of the Argo CD Application of the environment.
        namespace: of the environment.
        task: names the route and, with ``-stable`` and ``-candidate``, the services.
        ask: how a pod is asked for its digest; by default at its own address.

    Raises:
        NotApplied: a sync is under way or failed, a gateway has not taken the route over, or pods are not ready or
            serve different digests. Says which.
    """
    commit = _synced(cluster.application(application), application)
    weights, mirror = _route([route for route in cluster.routes(namespace) if route["metadata"]["name"] == task], task)
    asking = ask or ask_pod
    served = {side: _served(cluster.pods(namespace, f"{task}-{side}"), f"{task}-{side}", asking) for side in _SIDES}
    return Applied(
        commit=commit,
        stable=served["stable"],
        candidate=served["candidate"],
        stable_weight=weights.get(f"{task}-stable-predictor", 0),
        candidate_weight=weights.get(f"{task}-candidate-predictor", 0),
        mirror_percent=mirror,
    )


_SIDES = ("stable", "candidate")


def _synced(application: Document, name: str) -> str:
    # Its health is not asked for: that of route and pods is read from them, and who reads this may be part of it.
    status = application.get("status", {})
    sync, operation = status.get("sync", {}), status.get("operationState", {})
    thing = f"application {name}"
    if sync.get("status") != "Synced":
        raise NotApplied(thing, f"is {sync.get('status', 'not compared yet')}", "wait, or see its conditions")
    if operation.get("phase") != "Succeeded":
        rule = f"its sync is {operation.get('phase', 'not there')}: {str(operation.get('message', ''))[:300]}"
        raise NotApplied(thing, rule, "wait, or see its conditions")
    revision: str = sync["revision"]
    return revision


def _route(routes: list[Document], task: str) -> tuple[dict[str, int], int]:
    """Weight by service, and the mirror's percent; no route is no traffic."""
    if not routes:
        return {}, 0
    (route,) = routes
    parents = route.get("status", {}).get("parents", [])
    for wanted in ("Accepted", "ResolvedRefs"):
        if not parents or not all(_holds(parent, wanted, route["metadata"]["generation"]) for parent in parents):
            raise NotApplied(
                f"route {task}", f"its newest generation is not {wanted} by its gateway", "wait, or see it"
            )
    (rule,) = route["spec"]["rules"]
    mirrors = [each["requestMirror"]["percent"] for each in rule.get("filters", []) if each["type"] == "RequestMirror"]
    return {ref["name"]: ref["weight"] for ref in rule["backendRefs"]}, sum(mirrors)


def _holds(parent: Document, wanted: str, generation: int) -> bool:
    return any(
        each["type"] == wanted and each["status"] == "True" and each.get("observedGeneration", generation) == generation
        for each in parent.get("conditions", [])
    )


def _served(pods: list[Document], service: str, ask: Asking) -> str | None:
    """The one digest that all pods of a service serve; ``None`` where there are no pods."""
    digests = set()
    for pod in pods:
        name = pod["metadata"]["name"]
        conditions = {each["type"]: each["status"] for each in pod.get("status", {}).get("conditions", [])}
        if conditions.get("Ready") != "True":
            raise NotApplied(f"service {service}", f"pod {name} is not ready", "wait, or see the pod")
        try:
            digests.add(ask(pod))
        except (OSError, ValueError, KeyError) as error:
            raise NotApplied(f"service {service}", f"pod {name} does not say what it serves", "wait") from error
    if len(digests) > 1:
        raise NotApplied(
            f"service {service}", f"its pods serve {', '.join(sorted(digests))}", "wait for the newer ones"
        )
    return digests.pop() if digests else None


def ask_pod(pod: Document) -> str:
    """Ask a model server for its digest, at the pod's address."""
    with urllib.request.urlopen(f"http://{pod['status']['podIP']}:8080/-/sluice", timeout=5) as answer:
        digest: str = json.load(answer)["digest"]
    return digest
