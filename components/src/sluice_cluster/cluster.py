"""What is asked of a cluster, and the answer that there is nothing to judge yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sluice.errors import SluiceError

Resource = dict[str, Any]
Asking = Callable[[Resource], str]
"""From a pod to the digest that it says it serves; raises ``OSError`` when it does not answer."""


class NotApplied(SluiceError):
    """The cluster is still on its way, or hangs; there is nothing to judge yet."""


class Alarm(SluiceError):
    """What is in effect has differed from Git for longer than a step takes, or the stable model fails its limits."""

    exit_code = 4


class Cluster(Protocol):
    """What this needs; ``sluice_cluster.api`` does them with the kubernetes package."""

    def application(self, name: str) -> Resource:
        """An Argo CD Application."""

    def refresh(self, name: str) -> None:
        """Let Argo CD compare an Application with Git and with the cluster now."""

    def routes(self, namespace: str) -> list[Resource]:
        """The HTTPRoutes of a namespace."""

    def pods(self, namespace: str, service: str) -> list[Resource]:
        """The pods of an InferenceService that are not being deleted."""

    def deployment(self, namespace: str, name: str) -> Resource | None:
        """A Deployment, or ``None`` where there is none."""

    def service(self, namespace: str, name: str) -> Resource:
        """An InferenceService; asked only where one service splits the traffic by itself."""

    def revision(self, namespace: str, name: str) -> Resource:
        """A Knative Revision; asked only in Knative mode, for one without pods."""
