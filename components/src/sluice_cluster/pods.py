"""What pods say that they serve."""

from __future__ import annotations

import json
import urllib.request

from sluice_cluster.cluster import Asking, Document, NotApplied


def served(pods: list[Document], service: str, ask: Asking) -> str | None:
    """
    The one digest that all pods of a service serve; ``None`` where there are no pods.

    Raises:
        NotApplied: one is not ready, does not say its digest, or says another than the rest.
    """
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
