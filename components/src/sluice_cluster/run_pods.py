"""The pods of a KFP run, and how each of its steps ended: KFP's own back end tells its exit handler a state alone."""

from __future__ import annotations

from typing import Any

from sluice.errors import SluiceError
from sluice.steps.ending import StepEnding
from sluice_cluster.api import KubernetesCluster
from sluice_cluster.cluster import Resource
from sluice_cluster.train_job import own_namespace

STEP = "sluice.dev/step"
"""Label of a step's pod."""
RUN = "pipeline/runid"
"""Label that KFP puts on every pod of a run."""
_CONTAINER = "main"


def endings_of(run: str) -> list[StepEnding]:
    """
    How the steps of a run ended, by the pods that it has in the namespace of this pod: of each step its last try.

    Args:
        run: KFP's id of it.

    Raises:
        BadInput: this is no pod.
        NotApplied: the API server does not answer, or refuses.
    """
    return endings(KubernetesCluster().labelled(own_namespace(), f"{RUN}={run},{STEP}"))


def endings_if_readable(run: str) -> tuple[list[StepEnding], str]:
    """As ``endings_of``; where pods cannot be read, none and why."""
    try:
        own_namespace()  # a KUBECONFIG of somebody's own machine is not asked
        return endings_of(run), ""
    except SluiceError as error:
        return [], str(error)


def endings(pods: list[Resource]) -> list[StepEnding]:
    """Of each step that ended, in the order of their ends."""
    newest: dict[str, Resource] = {}
    for pod in sorted(pods, key=lambda one: str(one["metadata"]["creationTimestamp"])):
        newest[pod["metadata"]["labels"][STEP]] = pod
    ended = [(pod, _terminated(pod)) for pod in newest.values()]
    ended.sort(key=lambda one: str(one[1].get("finishedAt", "")))
    return [_ending(pod, state) for pod, state in ended if pod["status"].get("phase") in {"Succeeded", "Failed"}]


def _ending(pod: Resource, state: dict[str, Any]) -> StepEnding:
    failed = pod["status"]["phase"] == "Failed"
    causes = [pod["status"].get("reason"), state.get("reason"), pod["status"].get("message")]
    cause = ", ".join(str(one) for one in causes if one and one != "Error")
    exit_code = f"exit code {state['exitCode']}" if state.get("exitCode") else ""
    cause = ", ".join(one for one in (cause if failed else "", exit_code) if one)
    return StepEnding.of_message(pod["metadata"]["labels"][STEP], state.get("message", ""), failed=failed, cause=cause)


def _terminated(pod: Resource) -> dict[str, Any]:
    for status in pod["status"].get("containerStatuses", []):
        if status["name"] == _CONTAINER:
            state: dict[str, Any] = status.get("state", {}).get("terminated") or {}
            return state
    return {}
