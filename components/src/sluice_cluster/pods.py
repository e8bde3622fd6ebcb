"""What pods say that they serve."""

from __future__ import annotations

import urllib3

from sluice_cluster.cluster import Asking, NotApplied, Resource

_OVER = ("NewReplicaSetAvailable", "ProgressDeadlineExceeded")
"""Reasons of a Deployment's condition Progressing: its pods have all been ready once, or the time for that is over."""


def digest_of_deployment(deployment: Resource, pods: list[Resource], service: str, ask: Asking) -> str | None:
    """
    The one digest that the pods of a Deployment serve; ``None`` where it is lost.

    Lost: none of its pods is ready, and it is not being rolled out. A pod that crashes again and again while its
    Deployment has time left (``progressDeadlineSeconds``) may only wait for what it needs.

    Raises:
        NotApplied: as ``served``, and while there are no pods yet.
    """
    if not any(_is_ready(pod) for pod in pods) and _is_over(deployment):
        return None
    if not pods:
        raise NotApplied(f"service {service}", "has no pods yet", "wait, or see its Deployment's events")
    return digest_of_pods(pods, service, ask)


def digest_of_pods(pods: list[Resource], service: str, ask: Asking) -> str | None:
    """
    The one digest that all pods of a service serve; ``None`` where there are no pods.

    Raises:
        NotApplied: one is not ready, does not say its digest, or says another than the rest.
    """
    digests = set()
    for pod in pods:
        name = pod["metadata"]["name"]
        if not _is_ready(pod):
            raise NotApplied(f"service {service}", f"pod {name} is not ready{_why(pod)}", "wait, or see the pod")
        try:
            digests.add(ask(pod))
        except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError) as error:
            raise NotApplied(f"service {service}", f"pod {name} does not say what it serves", "wait") from error
    if len(digests) > 1:
        raise NotApplied(
            f"service {service}", f"its pods serve {', '.join(sorted(digests))}", "wait for the newer ones"
        )
    return digests.pop() if digests else None


def _is_ready(pod: Resource) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in _conditions(pod))


def _is_over(deployment: Resource) -> bool:
    if deployment.get("status", {}).get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return False
    return any(each["type"] == "Progressing" and each.get("reason") in _OVER for each in _conditions(deployment))


def _conditions(document: Resource) -> list[Resource]:
    conditions: list[Resource] = document.get("status", {}).get("conditions") or []
    return conditions


def _why(pod: Resource) -> str:
    """What its containers wait for, for example CrashLoopBackOff."""
    status = pod.get("status", {})
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    reasons = (each.get("state", {}).get("waiting", {}).get("reason") for each in containers)
    causes = sorted({reason for reason in reasons if reason and reason != "PodInitializing"})
    return f" ({', '.join(causes)})" if causes else ""


def ask_pod(pod: Resource) -> str:
    """Ask a model server for its digest, at the pod's address; no proxy that the environment names is in between."""
    url = f"http://{pod['status']['podIP']}:8080/-/sluice"
    digest: str = urllib3.request("GET", url, timeout=5, retries=False).json()["digest"]
    return digest
