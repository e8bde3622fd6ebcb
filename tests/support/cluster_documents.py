"""A cluster that is its documents: Argo CD has synced, KServe has its Deployments, pods serve what they say."""

from __future__ import annotations

import copy
from typing import Any

from sluice.documents.state import ReleaseState
from sluice_cluster.applied import read_back
from sluice_cluster.cluster import Resource
from tests.support.release import A, B

COMMIT = "c" * 40


def rolled_out(reason: str = "NewReplicaSetAvailable") -> Resource:
    """A Deployment; the reason of its condition Progressing says whether pods are still to come."""
    progress = {"type": "Progressing", "status": str(reason != "ProgressDeadlineExceeded"), "reason": reason}
    return {"metadata": {"generation": 2}, "status": {"observedGeneration": 2, "conditions": [progress]}}


class Documents:
    """A cluster that is these documents."""

    def __init__(self) -> None:
        self.name = "sluice-dev"
        self.refreshed: list[str] = []
        self.app: Resource = {
            "status": {
                "sync": {"status": "Synced", "revision": COMMIT},
                "operationState": {"phase": "Succeeded"},
                "health": {"status": "Degraded"},  # the reader's own job may have failed
            }
        }
        accepted = [{"type": kind, "status": "True", "observedGeneration": 3} for kind in ("Accepted", "ResolvedRefs")]
        rule = {
            "backendRefs": [
                {"name": "tiny-stable-predictor", "weight": 100},
                {"name": "tiny-candidate-predictor", "weight": 0},
            ],
            "filters": [{"type": "RequestMirror", "requestMirror": {"percent": 50}}],
        }
        self.route: Resource = {
            "metadata": {"name": "tiny", "generation": 3},
            "spec": {"rules": [rule]},
            "status": {"parents": [{"conditions": accepted}]},
        }
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        self.served = {"stable-0": A, "stable-1": A, "candidate-0": B}
        self.all_pods: list[Resource] = [
            {"metadata": {"name": name}, "status": copy.deepcopy(ready)} for name in self.served
        ]
        self.deployments = {f"tiny-{side}-predictor": rolled_out() for side in ("stable", "candidate")}

    def application(self, name: str) -> Resource:
        assert name == self.name
        return self.app

    def refresh(self, name: str) -> None:
        self.refreshed.append(name)

    def routes(self, namespace: str) -> list[Resource]:
        assert namespace == "sluice-dev"
        return [self.route, {"metadata": {"name": "another"}}]

    def pods(self, namespace: str, service: str) -> list[Resource]:
        assert namespace == "sluice-dev"
        return [pod for pod in self.all_pods if pod["metadata"]["name"].startswith(service.removeprefix("tiny-"))]

    def deployment(self, namespace: str, name: str) -> Resource | None:
        assert namespace == "sluice-dev"
        return self.deployments.get(name)

    def service(self, namespace: str, name: str) -> Resource:
        raise AssertionError(f"{namespace}/{name} is asked only where one service splits the traffic")

    def revision(self, namespace: str, name: str) -> Resource:
        raise AssertionError(f"{namespace}/{name} is asked only in Knative mode")

    def ask(self, pod: Resource) -> str:
        return self.served[pod["metadata"]["name"]]

    def read(self) -> Any:
        return read_back(self, "sluice-dev", "sluice-dev", "tiny", self.ask).applied


def unready(cluster: Documents, side: str, waiting: str = "") -> None:
    """No pod of a side is ready; its container waits for something."""
    for pod in cluster.pods("sluice-dev", f"tiny-{side}"):
        pod["status"]["conditions"][0]["status"] = "False"
        pod["status"]["containerStatuses"] = [{"state": {"waiting": {"reason": waiting}} if waiting else {}}]


class Cluster(Documents):
    """One that has brought a state about; its servers say what the state says."""

    def __init__(self, state: ReleaseState, synced: str) -> None:
        super().__init__()
        self.name = f"sluice-{state.environment}"
        syncs = (("d" * 40, "2013-01-01T00:00:00Z"), (COMMIT, synced))
        self.app["status"]["history"] = [{"revision": revision, "deployedAt": ended} for revision, ended in syncs]
        self.served = {f"{side}-0": found for side in ("stable", "candidate") if (found := getattr(state, side))}
        self.all_pods = [pod for pod in self.all_pods if pod["metadata"]["name"] in self.served]
        self.deployments = {
            name: found for name, found in self.deployments.items() if getattr(state, name.split("-")[1])
        }
        rule = self.route["spec"]["rules"][0]
        rule["backendRefs"] = [
            {"name": f"tiny-{side}-predictor", "weight": getattr(state, f"{side}_weight")}
            for side in ("stable", "candidate")
        ]
        if state.mirror_percent:
            rule["filters"][0]["requestMirror"]["percent"] = state.mirror_percent
        else:
            rule["filters"] = []
