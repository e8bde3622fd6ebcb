"""A rollout by commits: each is in effect before the next, while a user asks all the time."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from sluice.documents.evidence import Evidence
from sluice.documents.state import Applied, ReleaseState
from sluice.documents.verdict import Decision
from sluice.gitops.writer import GitOps, Snapshot
from sluice.operations.operator import roll_back
from sluice.rollout.advance import look, propose
from sluice.rollout.drain import remove_server
from sluice_cluster.api import KubernetesCluster
from sluice_cluster.applied import read_back
from sluice_cluster.cluster import NotApplied, Resource
from tests.support.cluster.argo_cd import (
    refresh,
    refresh_again,
)
from tests.support.cluster.kubectl import Refused, kubectl, wait_until
from tests.support.cluster.serving import ask, initializer_message
from tests.support.release import GOOD, arm, evidence_of, passing

HOST = "flights.dev.example.com"


def digest_by_proxy(pod: Resource) -> str:
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

    def __init__(self, gateway: str, host: str = HOST) -> None:
        super().__init__(daemon=True)
        self._gateway, self._host, self._end = gateway, host, threading.Event()
        self.answers: Counter[str] = Counter()
        self.failures: list[tuple[float, str]] = []
        """When, on the monotonic clock, and why."""

    def run(self) -> None:
        while not self._end.wait(0.05):
            try:
                self.answers[ask(self._gateway, host=self._host)] += 1
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

    def roll_back(self) -> Applied:
        """A person ends the rollout; returns what is in effect then."""
        now = self._now()
        return self._settle(lambda: roll_back(self.gitops, "complaints", "kim", now))

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
        if state.leftover is None:
            return found
        now = self._now()
        return self._commit(lambda snapshot: remove_server(snapshot, found, now))

    def _in_effect(self, snapshot: Snapshot) -> Applied:
        applied = self.applied()
        if applied.commit != snapshot.commit:
            refresh_again("sluice-dev")
        if applied.commit != snapshot.commit or not snapshot.state.is_applied(applied):
            raise Refused(f"{applied} is in effect, {snapshot.commit} says {snapshot.state}")
        return applied

    def applied(self) -> Applied:
        """What the cluster says."""
        about = "sluice-dev", "sluice-dev", "tiny", digest_by_proxy, self.gitops.snapshot().state.answering
        try:
            return read_back(self.cluster, *about).applied
        except NotApplied as error:
            raise Refused(str(error)) from error
