"""What a cluster does that Git does not say, while no rollout is going on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

from sluice.documents.event_time import iso
from tests.faults import sample
from tests.faults.registry import Row, Trial
from tests.support.cluster_documents import Cluster
from tests.support.gate import gate_of
from tests.support.release import C, state_in
from tests.support.release_repository import repository_in


def _route_stayed(cluster: Cluster) -> None:
    for ref in cluster.route["spec"]["rules"][0]["backendRefs"]:
        ref["weight"] = 50


def _copies_go_on(cluster: Cluster) -> None:
    cluster.route["spec"]["rules"][0]["filters"] = [{"type": "RequestMirror", "requestMirror": {"percent": 100}}]


def _another_model(cluster: Cluster) -> None:
    cluster.served["stable-0"] = C


_DIFFERENCES: Mapping[str, Callable[[Cluster], None]] = {
    "the route stayed at 50/50": _route_stayed,
    "copies are still made": _copies_go_on,
    "stable serves another model": _another_model,
}


def half_applied(directory: Path, name: str) -> Trial:
    """The gate looks half an hour after a rollback of which something was not brought about."""
    state = state_in("stable", task="tiny", since=iso(sample.BEGIN))
    policy = sample.POLICY_TEXT.decode().replace("task: toy", "task: tiny")
    gitops, cluster = repository_in(directory, state, policy), Cluster(state, iso(sample.BEGIN))
    gate = gate_of(gitops, cluster, iso(sample.BEGIN + timedelta(minutes=30)))
    calm = gate.look()
    _DIFFERENCES[name](cluster)
    told = gate.look()
    seen = bool(told["difference"] and told["alarm"] and cluster.refreshed)
    return Trial(calm["difference"] is None, seen, said="" if seen else f"{name}: {told}")


ROWS = (
    Row(
        "cluster: half of a rollback was brought about",
        "cluster",
        "the difference is told, Argo CD is asked to refresh, the run fails so that an alert fires",
        lambda _: [(name,) for name in _DIFFERENCES],
        half_applied,
    ),
)
