"""What is in effect where one InferenceService splits the traffic; statuses are as KServe's controller writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sluice.documents.state import Applied
from sluice_cluster.applied import read_back
from sluice_cluster.cluster import NotApplied, Resource
from tests.support.release import A, B, applied_of, state_in

COMMIT = "1" * 40
STABLE, CANDIDATE = "toy-stable-predictor", "toy-candidate-predictor"


def _pod(digest: str, **labels: str) -> Resource:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    labels = {name.replace("__", "/").replace("_", "."): value for name, value in labels.items()}
    return {"metadata": {"name": f"pod-{digest[7:9]}", "labels": labels}, "status": ready, "digest": digest}


class OneService:
    """A cluster that keeps one InferenceService called toy; ``role`` is whose spec it is."""

    def __init__(self, mode: str, role: str) -> None:
        metadata = {
            "name": "toy",
            "annotations": {"serving.kserve.io/deploymentMode": mode},
            "labels": {"sluice.dev/role": role},
        }
        self.found: Resource = {"metadata": metadata, "spec": {"predictor": {}}, "status": {}}
        self.all_pods: list[Resource] = []
        self.backends: list[list[Resource]] = []
        self.revisions: dict[str, Resource] = {}

    def application(self, name: str) -> Resource:
        assert name == "sluice-dev"
        resources = [{"group": "serving.kserve.io", "kind": "InferenceService", "name": "toy"}]
        synced = {"status": "Synced", "revision": COMMIT}
        return {"status": {"sync": synced, "operationState": {"phase": "Succeeded"}, "resources": resources}}

    def refresh(self, name: str) -> None:
        raise AssertionError(f"{name} is only read here")

    def routes(self, namespace: str) -> list[Resource]:
        assert namespace == "sluice-dev"
        accepted = [{"type": kind, "status": "True"} for kind in ("Accepted", "ResolvedRefs")]
        rules = [{"backendRefs": refs} for refs in self.backends]
        route = {"metadata": {"name": "toy", "generation": 2}, "spec": {"rules": rules}}
        return [route | {"status": {"parents": [{"conditions": accepted}]}}] if rules else []

    def pods(self, namespace: str, service: str) -> list[Resource]:
        assert (namespace, service) == ("sluice-dev", "toy")
        return self.all_pods

    def deployment(self, namespace: str, name: str) -> Resource:
        raise AssertionError(f"{namespace}/{name} is asked only where two services share the traffic")

    def service(self, namespace: str, name: str) -> Resource:
        assert (namespace, name) == ("sluice-dev", "toy")
        return self.found

    def revision(self, namespace: str, name: str) -> Resource:
        assert namespace == "sluice-dev"
        return self.revisions[name]

    def read(self) -> Applied:
        return read_back(self, "sluice-dev", "sluice-dev", "toy", lambda pod: str(pod["digest"])).applied


def _standard(percent: int) -> OneService:
    cluster = OneService("Standard", "stable")
    cluster.found["spec"]["canary"] = [{"trafficPercent": percent, "predictor": {"name": "candidate"}}]
    cluster.found["status"]["canaryStatuses"] = [{"name": "candidate", "ready": True, "trafficPercent": percent}]
    cluster.backends = [[{"name": STABLE, "weight": 100 - percent}, {"name": CANDIDATE, "weight": percent}]] * 2
    cluster.all_pods = [_pod(A, app=f"isvc.{STABLE}"), _pod(B, app=f"isvc.{CANDIDATE}")]
    return cluster


def _knative(percent: int) -> OneService:
    """Revision 2 is the candidate's; with all of the traffic on it KServe lists it alone, and the former one sleeps."""
    cluster = OneService("Knative", "candidate")
    cluster.found["spec"]["predictor"]["canaryTrafficPercent"] = percent
    traffic = [{"latestRevision": True, "percent": percent, "revisionName": "toy-2"}]
    status = {"latestReadyRevision": "toy-2", "latestCreatedRevision": "toy-2", "latestRolledoutRevision": "toy-1"}
    cluster.all_pods = [_pod(B, serving_knative_dev__revision="toy-2")]
    if percent < 100:
        traffic.append({"latestRevision": False, "percent": 100 - percent, "revisionName": "toy-1", "tag": "prev"})
        cluster.all_pods.append(_pod(A, serving_knative_dev__revision="toy-1"))
    else:
        status |= {"latestRolledoutRevision": "toy-2", "previousRolledoutRevision": "toy-1"}
    cluster.found["status"]["components"] = {"predictor": status | {"traffic": traffic}}
    cluster.revisions["toy-1"] = {"spec": {"containers": [{"args": [f"--digest={A}", "--model_name=toy"]}]}}
    return cluster


@pytest.mark.parametrize("make", [_standard, _knative])
@pytest.mark.parametrize("stage", ["preview", "canary", "confirm"])
def test_a_split_is_read_from_what_kserve_brought_about(make: Callable[[int], OneService], stage: str) -> None:
    state = state_in(stage)
    assert make(state.candidate_weight).read() == applied_of(state)


def _alone(mode: str, stage: str) -> OneService:
    role, digest = ("stable", A) if stage == "stable" else ("candidate", B)
    cluster = OneService(mode, role)
    cluster.backends = [[{"name": "toy-predictor", "weight": 1}]]
    cluster.all_pods = [_pod(digest, app="isvc.toy-predictor", serving_knative_dev__revision="toy-1")]
    traffic = [{"latestRevision": True, "percent": 100, "revisionName": "toy-1"}]
    status = {"latestReadyRevision": "toy-1", "latestCreatedRevision": "toy-1", "traffic": traffic}
    cluster.found["status"]["components"] = {"predictor": status}
    return cluster


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
@pytest.mark.parametrize("stage", ["bootstrap", "stable"])
def test_one_model_alone_has_all_of_the_traffic(mode: str, stage: str) -> None:
    assert _alone(mode, stage).read() == applied_of(state_in(stage))


def _predictor(cluster: OneService) -> Resource:
    found: Resource = cluster.found["status"]["components"]["predictor"]
    return found


NOT_YET: dict[str, tuple[Callable[[], OneService], Callable[[OneService], Any], str]] = {
    "a canary that is not ready": (
        lambda: _standard(10),
        lambda c: c.found["status"]["canaryStatuses"][0].update(ready=False),
        "its canary is not ready",
    ),
    "a canary without a status": (
        lambda: _standard(10),
        lambda c: c.found["status"].clear(),
        "its canary is not ready",
    ),
    "no route": (lambda: _standard(10), lambda c: c.backends.clear(), "no route"),
    "rules that differ": (
        lambda: _standard(10),
        lambda c: c.backends.__setitem__(1, [{"name": STABLE, "weight": 100}]),
        "split the traffic differently",
    ),
    "a revision that is not ready": (
        lambda: _knative(10),
        lambda c: _predictor(c).update(latestCreatedRevision="toy-3"),
        "revision toy-3 is not ready",
    ),
    "a revision without all traffic": (
        lambda: _alone("Knative", "stable"),
        lambda c: _predictor(c)["traffic"][0].update(percent=40),
        "has 40 % of the traffic",
    ),
}


@pytest.mark.parametrize("case", NOT_YET)
def test_what_is_on_its_way_is_not_judged(case: str) -> None:
    make, change, says = NOT_YET[case]
    cluster = make()
    change(cluster)
    with pytest.raises(NotApplied, match=says):
        cluster.read()


def test_weights_that_kserve_did_not_write_are_told_as_they_are() -> None:
    """KServe 0.20 takes spec.canary and moves no traffic."""
    cluster = _standard(10)
    cluster.backends = [[{"name": STABLE, "weight": 1}]]
    read = cluster.read()
    assert (read.candidate, read.candidate_weight) == (B, 0)
    assert not state_in("canary").is_applied(read)


def test_a_former_revision_that_is_gone_serves_nothing() -> None:
    cluster = _knative(100)
    cluster.revisions["toy-1"]["spec"]["containers"][0]["args"] = []
    assert cluster.read().stable is None
