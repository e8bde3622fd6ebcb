"""
What is in effect where one InferenceService named by the task splits the traffic by itself.

    Standard  spec.canary            weights of the HTTPRoute that KServe writes; pods told apart by their Deployment
    Knative   canaryTrafficPercent   status.components.predictor.traffic; pods told apart by their Revision

What KServe's controller writes there: ``applyCanaryWeights`` in httproute_reconciler.go (a canary that is not ready is
left out of the route), ``PropagateStatus`` in inference_service_status.go and ksvc_reconciler.go, at aaac4e29. Its
``status.observedGeneration`` is the Deployment's, not the InferenceService's, so it is not asked; digests and weights
are compared with the release anyway.
"""

from __future__ import annotations

from typing import NamedTuple

from sluice_cluster.cluster import Asking, Cluster, NotApplied, Resource
from sluice_cluster.pods import digest_of_pods
from sluice_cluster.routes import split_of

_MODE, _ROLE = "serving.kserve.io/deploymentMode", "sluice.dev/role"
_REVISION = "serving.knative.dev/revision"


class Split(NamedTuple):
    """Digest and percent of both sides."""

    digests: dict[str, str | None]
    weights: dict[str, int]


def read_one_service(cluster: Cluster, namespace: str, task: str, ask: Asking) -> Split:
    """
    Digests and weights of both sides; there is no mirror.

    Raises:
        NotApplied: KServe or the gateway is on its way, or pods are not ready or serve different digests.
    """
    service = cluster.service(namespace, task)
    pods = cluster.pods(namespace, task)
    if service["metadata"]["annotations"][_MODE] == "Knative":
        return _by_revision(cluster, namespace, service, pods, ask)
    return _by_deployment(cluster, namespace, service, pods, ask)


def _by_deployment(cluster: Cluster, namespace: str, service: Resource, pods: list[Resource], ask: Asking) -> Split:
    name, only = service["metadata"]["name"], service["metadata"]["labels"][_ROLE]
    weights, _ = split_of(cluster.routes(namespace), name)
    if not weights:
        raise NotApplied(f"service {name}", "KServe has written no route for it", "wait, or see its IngressReady")
    if not service["spec"].get("canary"):
        return Split({only: digest_of_pods(pods, name, ask)}, {only: 100})
    statuses = service.get("status", {}).get("canaryStatuses", [])
    if not statuses or not all(each.get("ready") for each in statuses):
        raise NotApplied(f"service {name}", "its canary is not ready", "wait, or see CanaryPredictorReady")
    candidate = f"{name}-candidate-predictor"
    percent = weights.get(candidate, 0)
    theirs = [pod for pod in pods if pod["metadata"]["labels"].get("app") == f"isvc.{candidate}"]
    ours = [pod for pod in pods if pod not in theirs]
    digests = {"stable": digest_of_pods(ours, name, ask), "candidate": digest_of_pods(theirs, candidate, ask)}
    return Split(digests, {"stable": sum(weights.values()) - percent, "candidate": percent})


def _by_revision(cluster: Cluster, namespace: str, service: Resource, pods: list[Resource], ask: Asking) -> Split:
    name, only = service["metadata"]["name"], service["metadata"]["labels"][_ROLE]
    status = service.get("status", {}).get("components", {}).get("predictor", {})
    latest = status.get("latestReadyRevision")
    if not latest or latest != status.get("latestCreatedRevision"):
        raise NotApplied(f"service {name}", f"revision {status.get('latestCreatedRevision')} is not ready", "wait")
    percents = {each["revisionName"]: 0 for each in status.get("traffic", [])}
    for each in status.get("traffic", []):
        percents[each["revisionName"]] += each.get("percent") or 0
    percent = percents.pop(latest, 0)

    def digest_of(revision: str | None) -> str | None:
        theirs = [pod for pod in pods if pod["metadata"]["labels"].get(_REVISION) == revision]
        return (
            digest_of_pods(theirs, str(revision), ask)
            if theirs or revision is None
            else _asleep(cluster, namespace, revision)
        )

    if service["spec"]["predictor"].get("canaryTrafficPercent") is None:
        if percent != 100:
            raise NotApplied(f"service {name}", f"its newest revision has {percent} % of the traffic", "wait")
        return Split({only: digest_of(latest)}, {only: 100})
    former = next(iter(percents), None) or _former(status, latest)
    digests = {"stable": digest_of(former), "candidate": digest_of(latest)}
    return Split(digests, {"stable": sum(percents.values()), "candidate": percent})


def _former(status: Resource, latest: str) -> str | None:
    """The revision that had all traffic before ``latest``, where none of it goes there any more."""
    rolled = status.get("latestRolledoutRevision")
    return status.get("previousRolledoutRevision") if rolled == latest else rolled


def _asleep(cluster: Cluster, namespace: str, revision: str) -> str | None:
    """The digest in the arguments of a revision without pods: Knative starts it when a request comes."""
    arguments = cluster.revision(namespace, revision)["spec"]["containers"][0].get("args", [])
    digests = [argument.removeprefix("--digest=") for argument in arguments if argument.startswith("--digest=")]
    return digests[0] if digests else None
