"""A whole promotion by commits through Argo CD: each step is read back before the next is decided."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice.documents.evidence import Evidence
from sluice.documents.state import Applied, ReleaseState
from sluice.documents.verdict import Decision
from sluice.gitops.writer import GitOps, Snapshot
from sluice.operations.operator import roll_back
from sluice.rollout.advance import look, propose
from sluice_cluster.api import KubernetesCluster
from sluice_cluster.applied import read_back
from sluice_cluster.cluster import ClusterObject, NotApplied
from tests.cluster.checkout import ENVIRONMENTS, Checkout, write_checkout
from tests.cluster.kubectl import Refused, apply, get, kubectl, wait_until
from tests.cluster.store import Bundles
from tests.cluster.test_serving import ask, initializer_message
from tests.unit.release_sample import GOOD, arm, evidence_of, passing

HOST = "flights.dev.example.com"
APPLICATIONS = ("sluice-cluster", "sluice-dev", "sluice-staging", "sluice-prod")


def digest_by_proxy(pod: ClusterObject) -> str:
    """What a pod says it serves, by way of the API server: tests need not run inside the cluster."""
    place = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}:8080/proxy/-/sluice"
    try:
        digest: str = json.loads(kubectl("get", "--raw", place))["digest"]
    except Refused as error:
        raise OSError(str(error)) from error
    return digest


def broken(state: ReleaseState, now: str) -> Evidence:
    """Half of the candidate's answers are errors."""
    return evidence_of(state, candidate=arm(state.candidate or "", 4000, errors=2000), now=now)


class Requests(threading.Thread):
    """A user who asks all the time and remembers what answered."""

    def __init__(self, gateway: str) -> None:
        super().__init__(daemon=True)
        self._gateway, self._end = gateway, threading.Event()
        self.answers: Counter[str] = Counter()
        self.failures: list[tuple[float, str]] = []
        """When, on the monotonic clock, and why."""

    def run(self) -> None:
        while not self._end.wait(0.05):
            try:
                self.answers[ask(self._gateway, host=HOST)] += 1
            except OSError as error:
                self.failures.append((time.monotonic(), str(error)))

    def stop(self) -> None:
        """End, and wait for the last answer."""
        self._end.set()
        self.join(30)


class Promotion:
    """Commits, waits until a commit is in effect, and keeps how long that took."""

    def __init__(self, gitops: GitOps) -> None:
        self.gitops, self.cluster = gitops, KubernetesCluster()
        self.day, self.patience = 0, 90.0
        self.seconds: list[tuple[str, float]] = []
        self.meanwhile: Callable[[], None] = lambda: None
        """Happens after a commit, before it is in effect."""

    def _now(self) -> str:
        self.day += 1
        return f"2020-01-{self.day:02d}T00:00:00Z"

    def propose(self, digest: str) -> Applied:
        """Start a rollout; returns what is in effect then."""
        now = self._now()
        return self._commit(lambda snapshot: propose(snapshot, digest, GOOD, {}, {}, now))

    def propose_and_go_back(self, digest: str) -> Applied:
        """Start a rollout of what never gets ready; a person ends it. Returns what is in effect then."""
        now = self._now()
        written = self.gitops.commit(lambda snapshot: propose(snapshot, digest, GOOD, {}, {}, now))
        assert written is not None
        refresh("sluice-dev", "normal")
        wait_until("the candidate fails", lambda: "has digest" in initializer_message("candidate", "sluice-dev"), 90)
        with pytest.raises(Refused, match="is not ready"):
            self.applied()
        now = self._now()
        return self._settle(lambda: roll_back(self.gitops, "never got ready", "kim", now))

    def look(self, make: Any = passing) -> Applied:
        """Judge what is in effect; returns what is in effect after the decision."""
        snapshot, now = self.gitops.snapshot(), self._now()
        applied = wait_until("all is in effect", lambda: self._in_effect(snapshot))

        def decide(snapshot: Snapshot) -> Decision | None:
            evidence: Evidence = make(snapshot.state, now)
            return look(snapshot, evidence.model_copy(update={"applied": applied}), now, {})

        return self._commit(decide)

    def _commit(self, decide: Any) -> Applied:
        return self._settle(lambda: self.gitops.commit(decide))

    def _settle(self, write: Any) -> Applied:
        started = time.monotonic()
        assert write() is not None
        refresh("sluice-dev", "normal")  # as the Git host's webhook would
        self.meanwhile()
        snapshot = self.gitops.snapshot()
        state = snapshot.state
        found: Applied = wait_until(f"{state.stage} is in effect", lambda: self._in_effect(snapshot), self.patience)
        self.seconds.append((f"{state.stage}{state.step}", round(time.monotonic() - started, 1)))
        return found

    def _in_effect(self, snapshot: Snapshot) -> Applied:
        applied = self.applied()
        if applied.commit != snapshot.commit or not snapshot.state.is_applied(applied):
            raise Refused(f"{applied} is in effect, {snapshot.commit} says {snapshot.state}")
        return applied

    def applied(self) -> Applied:
        """What the cluster says."""
        try:
            return read_back(self.cluster, "sluice-dev", "sluice-dev", "tiny", digest_by_proxy).applied
        except NotApplied as error:
            raise Refused(str(error)) from error


@pytest.fixture
def promotion(bundles: Bundles, gateway: str, dev: str, tmp_path: Path) -> Iterator[Promotion]:
    """Argo CD follows a repository of the test's own; nothing is released yet."""
    checkout = write_checkout(tmp_path / "checkout")
    with followed(checkout, tmp_path / "gitops.git") as gitops:
        yield Promotion(gitops)


@contextlib.contextmanager
def followed(checkout: Checkout, repository: Path) -> Iterator[GitOps]:
    """A repository with a checkout in it, that Argo CD follows while the block runs."""
    gitops = GitOps(repository, "dev")
    gitops.seed(checkout.root)
    source = checkout.root / "manifests/argocd/kustomization.yaml"
    source.write_text(source.read_text().replace("https://github.com/sluice-ml/sluice.git", f"file://{repository}"))
    health = checkout.root / "manifests/argocd/settings/health.yaml"
    kubectl("-n", "argocd", "patch", "configmap", "argocd-cm", "--patch-file", health)
    apply(checkout.root / "manifests/argocd")
    try:
        for name in APPLICATIONS:
            wait_until(f"{name} is synced", lambda name=name: calm(name), 60)  # type: ignore[misc]
        yield gitops
    finally:
        kubectl("delete", "-k", checkout.root / "manifests/argocd", "--wait=true")
        kubectl("-n", "argocd", "delete", "application", "--all", "--wait=false")


def refresh(name: str, how: str) -> None:
    """Ask Argo CD to look at Git now."""
    kubectl("-n", "argocd", "annotate", "application", name, f"argocd.argoproj.io/refresh={how}", "--overwrite")


def calm(name: str) -> bool:
    """Whether Argo CD says that an Application is synced and healthy; what it says else is the refusal."""
    status = get("-n", "argocd", "application", name).get("status", {})
    told = [status.get("sync", {}).get("status"), status.get("health", {}).get("status")]
    if told != ["Synced", "Healthy"]:
        raise Refused(f"{name} is {told}: {status.get('conditions')} {status.get('operationState', {}).get('message')}")
    return True


def test_a_promotion_is_commits_and_nobody_notices(
    promotion: Promotion, bundles: Bundles, gateway: str, dev: str
) -> None:
    promotion.propose(bundles.first)
    user = Requests(gateway)
    user.start()
    promotion.look()
    promotion.propose(bundles.second)
    kubectl("-n", dev, "delete", "pod", "-l", "sluice.dev/role=candidate", "--wait=false")
    wait_until("the candidate is lost", lambda: promotion.applied().candidate is None, 20)
    canary = promotion.look()
    assert (canary.stable_weight, canary.candidate_weight) == (50, 50)

    route = [{"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 90}]
    route += [{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 10}]
    started = time.monotonic()
    kubectl("-n", dev, "patch", "httproute", "tiny", "--type=json", "-p", json.dumps(route))
    wait_until("the hand-edited weight is healed", lambda: promotion.applied().stable_weight == 50, 60)
    promotion.seconds.append(("healed", round(time.monotonic() - started, 1)))

    assert promotion.look().candidate_weight == 100
    promoted = promotion.look()
    assert (promoted.stable, promoted.candidate, promoted.stable_weight) == (bundles.second, None, 100)

    assert promotion.propose_and_go_back(bundles.tampered).candidate is None
    promotion.propose(bundles.third)
    back = promotion.look(broken)
    assert (back.stable, back.candidate) == (bundles.second, None)
    user.stop()
    print("\nseconds from commit to read back:", promotion.seconds)  # noqa: T201
    assert set(user.answers) == {bundles.first, bundles.second}
    assert not user.failures
    _assert_held(promotion, bundles.third, dev)
    assert_calm_for_three_syncs()


def _assert_held(promotion: Promotion, digest: str, namespace: str) -> None:
    """The namespace knows the hold, and the API server refuses the digest."""
    assert promotion.gitops.snapshot().state.held(digest)
    (service,) = get("-n", namespace, "inferenceservice")["items"]
    copy = {key: service[key] for key in ("apiVersion", "kind", "spec")}
    copy["metadata"] = {"namespace": namespace, "name": "other"} | {
        key: service["metadata"][key] for key in ("labels", "annotations")
    }
    text = json.dumps(copy).replace(service["spec"]["predictor"]["model"]["storageUri"].split("/")[-1], "DIGEST")
    spelt = text.replace("DIGEST", digest.replace(":", "-"))
    held = json.loads(spelt)
    held["spec"]["predictor"]["model"]["args"][0] = f"--digest={digest}"
    with pytest.raises(Refused, match=f"{digest} is held"):
        apply([held], "--dry-run=server")


def assert_calm_for_three_syncs() -> None:
    for _ in range(3):
        for name in APPLICATIONS:
            refresh(name, "hard")
        for name in APPLICATIONS:
            wait_until(f"{name} was compared", lambda name=name: _compared(name), 60)  # type: ignore[misc]
            assert calm(name), name


def _compared(name: str) -> bool:
    return "argocd.argoproj.io/refresh" not in get("-n", "argocd", "application", name)["metadata"]["annotations"]


def test_a_second_apply_changes_nothing(checkout: Checkout, dev: str) -> None:
    for environment in ENVIRONMENTS:
        overlay = checkout.release(ReleaseState.empty("tiny", environment))
        apply(overlay)
        versions = kubectl("get", "-k", overlay, "-o", "jsonpath={.items[*].metadata.resourceVersion}")
        apply(overlay)
        assert kubectl("get", "-k", overlay, "-o", "jsonpath={.items[*].metadata.resourceVersion}") == versions
