"""What counts as in effect, and what does not yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sluice_cluster.cluster import NotApplied
from tests.support.cluster_documents import COMMIT, Documents, rolled_out, unready
from tests.support.release import A, B


def test_what_is_in_effect_is_what_everybody_says() -> None:
    read = Documents().read()
    assert read.model_dump() == {
        "commit": COMMIT,
        "stable": A,
        "candidate": B,
        "stable_weight": 100,
        "candidate_weight": 0,
        "mirror_percent": 50,
    }


def test_nothing_released_is_no_route_and_no_pods() -> None:
    cluster = Documents()
    cluster.route["metadata"]["name"], cluster.all_pods, cluster.deployments = "another", [], {}
    read = cluster.read()
    assert (read.stable, read.candidate, read.stable_weight, read.candidate_weight) == (None, None, 0, 0)


def _deaf(cluster: Documents) -> None:
    del cluster.served["stable-1"]


def _on_its_way(cluster: Documents, reason: str = "ReplicaSetUpdated") -> None:
    unready(cluster, "candidate", "CrashLoopBackOff")
    cluster.deployments["tiny-candidate-predictor"] = rolled_out(reason)


def _newer_spec(cluster: Documents) -> None:
    unready(cluster, "candidate")
    cluster.deployments["tiny-candidate-predictor"]["metadata"]["generation"] = 3


def _no_pods(cluster: Documents) -> None:
    cluster.all_pods = cluster.all_pods[:2]
    cluster.deployments["tiny-candidate-predictor"] = rolled_out("NewReplicaSetCreated")


def _no_deployment(cluster: Documents) -> None:
    del cluster.deployments["tiny-candidate-predictor"]
    cluster.app["status"]["resources"] = [{"kind": "InferenceService", "name": "tiny-candidate"}]


def _two_mirrors(cluster: Documents) -> None:
    cluster.route["spec"]["rules"][0]["filters"] *= 2


def mirror(cluster: Documents, **how: object) -> None:
    """Let the route mirror in another way."""
    cluster.route["spec"]["rules"][0]["filters"][0]["requestMirror"] = how


NOT_YET: dict[str, tuple[Callable[[Documents], Any], str]] = {
    "a sync is due": (lambda c: c.app["status"]["sync"].update(status="OutOfSync"), "is OutOfSync"),
    "a sync is under way": (lambda c: c.app["status"]["operationState"].update(phase="Running"), "its sync is Running"),
    "a sync failed": (lambda c: c.app["status"]["operationState"].update(phase="Failed", message="no"), "Failed: no"),
    "never compared": (lambda c: c.app.pop("status"), "not compared yet"),
    "no gateway took the route": (lambda c: c.route["status"].update(parents=[]), "not Accepted"),
    "the gateway took an older route": (lambda c: c.route["metadata"].update(generation=4), "not Accepted"),
    "a backend is missing": (
        lambda c: c.route["status"]["parents"][0]["conditions"][1].update(status="False"),
        "not ResolvedRefs",
    ),
    "one of two gateways refused it": (
        lambda c: c.route["status"]["parents"].append({"conditions": [{"type": "Accepted", "status": "False"}]}),
        "not Accepted",
    ),
    "a pod is not ready": (
        lambda c: c.all_pods[1]["status"]["conditions"][0].update(status="False"),
        "stable-1 is not",
    ),
    "no pod is ready yet": (_on_its_way, r"candidate-0 is not ready \(CrashLoopBackOff\)"),
    "a newer spec than Kubernetes has seen": (_newer_spec, "candidate-0 is not ready"),
    "no pods yet": (_no_pods, "tiny-candidate: has no pods yet"),
    "no Deployment yet": (_no_deployment, "tiny-candidate: KServe has made no Deployment"),
    "a mirror of a third": (lambda c: mirror(c, fraction={"numerator": 1, "denominator": 3}), "mirrors 33.3333 %"),
    "a mirror of half a percent": (lambda c: mirror(c, fraction={"numerator": 5, "denominator": 1000}), "0.5 %"),
    "two mirrors": (_two_mirrors, "mirrors 50 % and 50 %"),
    "pods of two digests": (lambda c: c.served.update({"stable-1": B}), "its pods serve"),
    "a pod that does not say": (_deaf, "does not say"),
}


@pytest.mark.parametrize("case", NOT_YET)
def test_what_is_on_its_way_is_not_judged(case: str) -> None:
    change, says = NOT_YET[case]
    cluster = Documents()
    change(cluster)
    with pytest.raises(NotApplied, match=says):
        cluster.read()


@pytest.mark.parametrize("reason", ["NewReplicaSetAvailable", "ProgressDeadlineExceeded"])
@pytest.mark.parametrize("side", ["stable", "candidate"])
def test_a_side_that_was_up_or_had_its_time_and_has_no_ready_pod_is_lost(side: str, reason: str) -> None:
    cluster = Documents()
    whole = cluster.read()
    unready(cluster, side, "CrashLoopBackOff")
    cluster.deployments[f"tiny-{side}-predictor"] = rolled_out(reason)
    assert cluster.read() == whole.model_copy(update={side: None})


def test_a_side_without_any_pod_left_is_lost() -> None:
    cluster = Documents()
    cluster.all_pods = cluster.all_pods[:2]
    assert cluster.read().candidate is None


@pytest.mark.parametrize(
    ("how", "percent"),
    [
        ({"percent": 7}, 7),
        ({}, 100),
        ({"fraction": {"numerator": 7}}, 7),
        ({"fraction": {"numerator": 1, "denominator": 2}}, 50),
        ({"fraction": {"numerator": 58, "denominator": 200}}, 29),
        ({"fraction": {"numerator": 0, "denominator": 3}}, 0),
    ],
)
def test_a_mirror_is_read_as_the_api_means_it(how: dict[str, object], percent: int) -> None:
    cluster = Documents()
    mirror(cluster, **how)
    assert cluster.read().mirror_percent == percent
