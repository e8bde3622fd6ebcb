"""What counts as in effect, and what does not yet."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from sluice_cluster.applied import Document, NotApplied, read_applied
from tests.unit.release_sample import A, B

COMMIT = "c" * 40


class Documents:
    """A cluster that is these documents."""

    def __init__(self) -> None:
        self.app: Document = {
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
        self.route: Document = {
            "metadata": {"name": "tiny", "generation": 3},
            "spec": {"rules": [rule]},
            "status": {"parents": [{"conditions": accepted}]},
        }
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        self.served = {"stable-0": A, "stable-1": A, "candidate-0": B}
        self.all_pods: list[Document] = [
            {"metadata": {"name": name}, "status": copy.deepcopy(ready)} for name in self.served
        ]

    def application(self, name: str) -> Document:
        assert name == "sluice-dev"
        return self.app

    def routes(self, namespace: str) -> list[Document]:
        assert namespace == "sluice-dev"
        return [self.route, {"metadata": {"name": "another"}}]

    def pods(self, namespace: str, service: str) -> list[Document]:
        assert namespace == "sluice-dev"
        return [pod for pod in self.all_pods if pod["metadata"]["name"].startswith(service.removeprefix("tiny-"))]

    def service(self, namespace: str, name: str) -> Document:
        raise AssertionError(f"{namespace}/{name} is asked only where one service splits the traffic")

    def revision(self, namespace: str, name: str) -> Document:
        raise AssertionError(f"{namespace}/{name} is asked only in Knative mode")

    def ask(self, pod: Document) -> str:
        return self.served[pod["metadata"]["name"]]

    def read(self) -> Any:
        return read_applied(self, "sluice-dev", "sluice-dev", "tiny", self.ask)


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
    cluster.route["metadata"]["name"], cluster.all_pods = "another", []
    read = cluster.read()
    assert (read.stable, read.candidate, read.stable_weight, read.candidate_weight) == (None, None, 0, 0)


def _deaf(cluster: Documents) -> None:
    del cluster.served["stable-1"]


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
