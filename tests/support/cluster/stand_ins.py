"""What a test starts in the cluster beside Sluice: one container behind one Service."""

from __future__ import annotations

from typing import Any

from tests.support.cluster.kubectl import Object

RESTRICTED: Object = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""Security context of a container, as Pod Security `restricted` wants it."""


def behind_a_service(namespace: str, name: str, port: int, pod: dict[str, Any]) -> list[Object]:
    """A Service and a Deployment of pods like this one."""
    metadata, labels = {"namespace": namespace, "name": name}, {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 1} | pod}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"port": port}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
    ]
