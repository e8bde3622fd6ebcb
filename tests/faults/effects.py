"""What a cluster does that Git does not say, when no rollout is going on any more."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from sluice.documents.event_time import iso
from sluice.documents.state import ReleaseState
from sluice.installation import MANIFESTS
from sluice.release.file import render_release
from sluice.rollout.advance import back, forward
from tests.faults import sample
from tests.faults.history import ledger_problems
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


def _over(end: str, begun: ReleaseState) -> ReleaseState:
    """What a rollout's end makes of a state: back, or the candidate confirmed."""
    now = iso(sample.BEGIN + timedelta(hours=1))
    return forward(begun, sample.policy(), now)[1] if end == "confirmed" else back(begun, now, "too many errors")


def pruned_alone(directory: Path, phase: str, end: str) -> Trial:
    """Of each commit at a rollout's end Argo CD brings the prune about alone: no server goes that requests go to."""
    begun = sample.state_in(phase, sample.BEGIN)
    states = [begun, _over(end, begun)]
    while states[-1].leftover:
        states.append(states[-1].drained(iso(sample.BEGIN + timedelta(hours=2))))
    shutil.copytree(MANIFESTS, directory / "manifests")
    objects = [_rendered(directory, state) for state in states]
    lost = {
        f"{before.stage} to {after.stage}": names
        for (before, had), (after, has) in pairwise(zip(states, objects, strict=True))
        if (names := _asked(had) - (_servers(had) & _servers(has)))
    }
    pruned = _servers(objects[0]) != _servers(objects[-1])
    return Trial(pruned, not lost, said=f"{end}: {lost}" if lost else "")


def _rendered(directory: Path, state: ReleaseState) -> list[dict[str, Any]]:
    (directory / "manifests/overlays/dev/release/kustomization.yaml").write_bytes(render_release(state))
    done = subprocess.run(
        ["kubectl", "kustomize", directory / "manifests/overlays/dev"], capture_output=True, text=True, check=True
    )
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def _servers(objects: list[dict[str, Any]]) -> set[str]:
    return {f"{each['metadata']['name']}-predictor" for each in objects if each["kind"] == "InferenceService"}


def _asked(objects: list[dict[str, Any]]) -> set[str]:
    """The servers that a route sends requests to."""
    rules = [rule for each in objects if each["kind"] == "HTTPRoute" for rule in each["spec"]["rules"]]
    return {ref["name"] for rule in rules for ref in rule["backendRefs"] if ref["weight"]}


def taken_away(directory: Path, name: str) -> Trial:
    """After a rollback its route is not brought about at first: the candidate's server stays until it is."""
    begun = sample.state_in("canary 50 %", sample.BEGIN).model_copy(update={"task": "tiny"})
    state = _over("back", begun)
    policy = sample.POLICY_TEXT.decode().replace("task: toy", "task: tiny")
    gitops, now = repository_in(directory, state, policy), iso(sample.BEGIN + timedelta(hours=2))
    stuck, whole = Cluster(state, iso(sample.BEGIN)), Cluster(state, iso(sample.BEGIN))
    _DIFFERENCES[name](stuck)
    actions = []
    for cluster in (stuck, stuck, whole, Cluster(state.drained(now), now)):
        cluster.app["status"]["sync"]["revision"] = gitops.snapshot().commit
        actions.append(gate_of(gitops, cluster, now).look()["action"])
    problems = ledger_problems(gitops)
    if actions != ["wait", "wait", "remove-server", "wait"]:
        problems.append(f"{name}: {actions}")
    return Trial(
        bool(state.leftover), not problems, wrong=int("remove-server" in actions[:2]), said="; ".join(problems)
    )


ROWS = (
    Row(
        "cluster: half of a rollback was brought about",
        "cluster",
        "the difference is told, Argo CD is asked to refresh, the run fails so that an alert fires",
        lambda _: [(name,) for name in _DIFFERENCES],
        half_applied,
    ),
    Row(
        "cluster: the prune of a rollout's end alone was brought about",
        "cluster",
        "the server goes by a commit of its own, when the route names it no more: no request is sent to nobody",
        lambda _: [("canary 50 %", "back"), ("confirm", "back"), ("confirm", "confirmed"), ("bootstrap", "confirmed")],
        pruned_alone,
    ),
    Row(
        "cluster: the route of a rollback waits",
        "cluster",
        "the candidate's server stays until the route is read back, then one commit takes it away",
        lambda _: [(name,) for name in _DIFFERENCES],
        taken_away,
    ),
)
