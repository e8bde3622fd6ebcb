"""
Read back what took effect: not what Git says, but what Argo CD brought about, the gateway took over and pods serve.

    Argo CD Application   the commit that was synced, whole
    HTTPRoute             weights and mirror, of the generation that every gateway accepted
    pods                  the digest that each ready one says is loaded
    Deployments           whether a side without a ready pod is on its way or lost

Where an option has one InferenceService split by itself, ``sluice_cluster.one_service`` says what is read instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sluice.documents.event_time import moment_of
from sluice.documents.state import Applied
from sluice.stages.stage import SIDES
from sluice_cluster.cluster import Asking, Cluster, NotApplied, Resource
from sluice_cluster.one_service import Split, read_one_service
from sluice_cluster.pods import ask_pod, digest_of_deployment
from sluice_cluster.routes import split_of


class Sync(NamedTuple):
    """One sync that Argo CD ended: of which revision, and when."""

    revision: str
    ended: datetime


class ReadBack(NamedTuple):
    """What is in effect, and the syncs that Argo CD still knows of, oldest first."""

    applied: Applied
    synced: tuple[Sync, ...]


def read_back(
    cluster: Cluster,
    application: str,
    namespace: str,
    task: str,
    ask: Asking | None = None,
    answering: Sequence[str] = SIDES,
) -> ReadBack:
    """
    What is in effect for one task in one environment. A side that is lost serves no digest.

    Args:
        cluster: where to read.
        application: name of the Argo CD Application of the environment.
        namespace: of the environment.
        task: names the route and, with ``-stable`` and ``-candidate``, the services; or the one service that splits.
        ask: how a pod is asked for its digest; by default at its own address.
        answering: the sides whose servers are asked; of the others it is only read what is sent to them.

    Raises:
        NotApplied: a sync is under way or failed, a gateway has not taken the route over, or pods are not ready or
            serve different digests. Says which.
    """
    document, asking = cluster.application(application), ask or ask_pod
    commit = _synced_commit(document, application)
    if _keeps(document, task):
        sides, mirror = read_one_service(cluster, namespace, task, asking), 0
    else:
        weights, mirror = split_of(cluster.routes(namespace), task)
        names = {side: f"{task}-{side}" for side in SIDES}
        digests = {side: _service(cluster, document, namespace, names[side], asking) for side in answering}
        sides = Split(digests, {side: weights.get(f"{name}-predictor", 0) for side, name in names.items()})
    applied = Applied(
        commit=commit,
        stable=sides.digests.get("stable"),
        candidate=sides.digests.get("candidate"),
        stable_weight=sides.weights.get("stable", 0),
        candidate_weight=sides.weights.get("candidate", 0),
        mirror_percent=mirror,
    )
    history = document["status"].get("history", [])
    syncs = (Sync(one.get("revision", ""), moment_of(one["deployedAt"])) for one in history)
    return ReadBack(applied, tuple(syncs))


def _service(cluster: Cluster, application: Resource, namespace: str, name: str, ask: Asking) -> str | None:
    deployment = cluster.deployment(namespace, f"{name}-predictor")
    if deployment:
        return digest_of_deployment(deployment, cluster.pods(namespace, name), name, ask)
    if _keeps(application, name):
        raise NotApplied(f"service {name}", "KServe has made no Deployment for it", "wait, or see its conditions")
    return None


def _keeps(application: Resource, service: str) -> bool:
    """Whether Argo CD keeps an InferenceService of this name."""
    resources = application.get("status", {}).get("resources", [])
    return any((each.get("kind"), each.get("name")) == ("InferenceService", service) for each in resources)


def _synced_commit(application: Resource, name: str) -> str:
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
