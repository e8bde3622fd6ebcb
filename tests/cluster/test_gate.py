"""
A promotion that only jobs of the gate's CronJob decide, on what a Prometheus scrapes from the servers that users asked.

    SLUICE_TEST_HOST   an address of this machine that pods reach; 10.244.0.1. A Git host (sshd) and a Prometheus listen
                       on it while the test runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluice.content import write_json
from sluice.documents.state import ReleaseState
from sluice.gitops.writer import GitOps
from sluice.rollout.advance import propose
from sluice_cluster.api import KubernetesCluster
from sluice_cluster.applied import read_back
from sluice_cluster.cluster import NotApplied
from tests.support.cluster.argo_cd import followed, refresh
from tests.support.cluster.checkout import Checkout, with_option, write_checkout
from tests.support.cluster.kubectl import Refused, apply, get, kubectl, wait_until
from tests.support.cluster.promotion import Requests, digest_by_proxy
from tests.support.cluster.store import Bundles
from tests.support.release import GOOD
from tests.support.ssh_host import SshHost, ssh_host_in

pytestmark = pytest.mark.timeout(900)
HOST = os.environ.get("SLUICE_TEST_HOST", "10.244.0.1")
SCRAPE_SECONDS = 2
POLICY = """
apiVersion: sluice.dev/v1
kind: GatePolicy
task: tiny
environment: dev
select: {}
offline: [{metric: auc, role: success, against: best-baseline}]
bootstrap: {allowed: true, minimum_n: 30}
online:
  design_effect: 1
  look_every_hours: 0.01
  evidence_hours: 1
  shadow:
    minimum_n: 30
    maximum_hours: 1
    approval: true
    rules:
      - {metric: split, role: quality, alpha: 0.001}
      - {metric: error_rate, role: limit, limit: 0.3}
  canary:
    steps: [50]
    minimum_n: 30
    maximum_hours: 1
    rules:
      - {metric: split, role: quality, alpha: 0.001}
      - {metric: error_rate, role: limit, limit: 0.3}
  confirm: {minimum_n: 30, maximum_hours: 1, rules: [{metric: error_rate, role: limit, limit: 0.3}]}
"""


@dataclass
class Dev:
    """The environment dev, in which nothing but jobs of the CronJob looks."""

    gitops: GitOps
    repository: str
    home: Path
    jobs: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def propose(self, digest: str) -> None:
        """As the training pipeline does; waits until it is in effect."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        assert self.gitops.commit(lambda snapshot: propose(snapshot, digest, GOOD, {}, {}, now)) is not None
        self.settle()

    def settle(self) -> ReleaseState:
        """Wait until the newest commit is in effect; keeps how long that took."""
        started = time.monotonic()
        refresh("sluice-dev", "normal")  # as the Git host's webhook would
        snapshot = self.gitops.snapshot()

        def settled() -> bool:
            try:
                about = "sluice-dev", "sluice-dev", "tiny", digest_by_proxy, snapshot.state.answering
                applied, _ = read_back(KubernetesCluster(), *about)
            except NotApplied as error:
                raise Refused(str(error)) from error
            return applied.commit == snapshot.commit and snapshot.state.is_applied(applied)

        wait_until(f"{snapshot.state.stage} is in effect", settled, 120)
        self.seconds.setdefault(f"commit to traffic ({snapshot.state.stage})", []).append(time.monotonic() - started)
        return snapshot.state

    def look(self) -> dict[str, Any]:
        """One job of the CronJob; what it says."""
        self.jobs += 1
        name, started = f"look-{self.jobs}", time.monotonic()
        kubectl("-n", "sluice-dev", "create", "job", name, "--from=cronjob/gate")
        status = wait_until(f"{name} ends", lambda: self._ended(name), 200)
        self.seconds.setdefault("gate", []).append(time.monotonic() - started)
        said = kubectl("-n", "sluice-dev", "logs", f"job/{name}")
        assert status.get("succeeded"), said
        (line,) = said.splitlines()
        told: dict[str, Any] = json.loads(line)
        return told

    @staticmethod
    def _ended(name: str) -> Any:
        status = get("-n", "sluice-dev", "job", name)["status"]
        return status if status.get("succeeded") or status.get("failed") else None

    def decided(self) -> dict[str, Any]:
        """Look until something is decided; waits until that is in effect."""
        time.sleep(3 * SCRAPE_SECONDS)  # before that there is nothing to decide by
        for _ in range(25):
            told = self.look()
            if told["action"] != "wait":
                assert told["commit"] == self.gitops.snapshot().commit
                self.settle()
                return told
            time.sleep(3)
        raise AssertionError(f"nothing was decided: {told}")

    def approve(self) -> None:
        """As a person on a machine of theirs."""
        command = [str(Path(sys.executable).with_name("sluice")), "approve", "--env", "dev", "--reason", "looks right"]
        here = {"PATH": os.environ["PATH"], "SLUICE_HOME": str(self.home), "SLUICE_REPOSITORY": self.repository}
        done = subprocess.run(command, env=here, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        self.settle()


class Targets(threading.Thread):
    """Tells a Prometheus where the model servers are; Debian's has no discovery of Kubernetes built in."""

    def __init__(self, file: Path) -> None:
        super().__init__(daemon=True)
        self._file, self._end = file, threading.Event()

    def run(self) -> None:
        while not self._end.wait(1):
            with contextlib.suppress(Refused):
                pods = get("-n", "sluice-dev", "pods", "-l", "app.kubernetes.io/name=model-server")["items"]
                found = [f"{pod['status']['podIP']}:8080" for pod in pods if pod["status"].get("podIP")]
                write_json(self._file, [{"targets": found, "labels": {"namespace": "sluice-dev"}}])

    def stop(self) -> None:
        """End, and wait for the last question."""
        self._end.set()
        self.join(30)


@contextlib.contextmanager
def prometheus_in(folder: Path) -> Iterator[str]:
    """A Prometheus that is told where the model servers are; its URL for pods."""
    if shutil.which("prometheus") is None:
        pytest.skip("NOT CHECKED: the binary `prometheus` is absent; Debian: apt-get install prometheus")
    folder.mkdir()
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port = listener.getsockname()[1]
    targets = folder / "targets.json"
    job = {"job_name": "sluice", "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "5s"}]}
    every = {"scrape_interval": f"{SCRAPE_SECONDS}s", "scrape_timeout": "2s"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump({"global": every, "scrape_configs": [job]}))
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", "--log.level=warn"]
    command += [f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address={HOST}:{port}"]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
    telling = Targets(targets)
    telling.start()
    try:
        wait_until("the Prometheus answers", lambda: _answers(port) or child.poll(), 60)
        assert child.poll() is None, (folder / "log").read_text()
        yield f"http://{HOST}:{port}"
    finally:
        telling.stop()
        child.terminate()
        child.wait(20)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=2):
        return True
    return False


@pytest.fixture
def environment(bundles: Bundles, gateway: str, dev: str, tmp_path: Path) -> Iterator[Dev]:
    """Argo CD follows a repository; pods reach it by ssh with a deploy key, and a Prometheus scrapes the servers."""
    repository = tmp_path / "gitops.git"
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(ssh_host_in(tmp_path / "host", HOST))
        url = stack.enter_context(prometheus_in(tmp_path / "prometheus"))
        checkout = write_checkout(tmp_path / "checkout")
        _use_gate(checkout, {"SLUICE_REPOSITORY": host.url(repository), "SLUICE_PROMETHEUS_URL": url})
        apply([_secret(host)])
        gitops = stack.enter_context(followed(checkout, repository))
        try:
            yield Dev(gitops, f"file://{repository}", tmp_path / "home")
        finally:
            kubectl("-n", "sluice-dev", "delete", "secret", "release-repository")


def _use_gate(checkout: Checkout, settings: dict[str, str]) -> None:
    """Dev has the option, with settings of its own; the schedule is years away, so that each look is the test's."""
    overlay = checkout.overlay("dev")
    document = yaml.safe_load((with_option(checkout, "gate", "dev") / "kustomization.yaml").read_text())
    settings |= {"SLUICE_PROMETHEUS_SCRAPE_SECONDS": str(SCRAPE_SECONDS), "SLUICE_PROMETHEUS_JOINED": "false"}
    changed = [{"op": "replace", "path": f"/data/{key}", "value": value} for key, value in settings.items()]
    document["patches"] = [
        {"target": {"kind": "ConfigMap", "name": "gate"}, "patch": yaml.safe_dump(changed)},
        {
            "target": {"kind": "CronJob", "name": "gate"},
            "patch": yaml.safe_dump([{"op": "replace", "path": "/spec/schedule", "value": "0 0 29 2 *"}]),
        },
    ]
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(document))
    (overlay / "gate-policy.yaml").write_text(POLICY)


def _secret(host: SshHost) -> dict[str, Any]:
    files = {path.name: path.read_text() for path in host.keys.iterdir()}
    metadata = {"name": "release-repository", "namespace": "sluice-dev"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": files}


def test_jobs_of_the_gate_alone_promote_and_take_back(environment: Dev, bundles: Bundles, gateway: str) -> None:
    dev = environment
    assert dev.look()["reasons"][0]["rule"] == "rollout"
    dev.propose(bundles.first)
    user = Requests(gateway)
    user.start()
    try:
        assert dev.decided()["action"] == "confirm"
        dev.propose(bundles.second)
        paused = dev.decided()
        assert (paused["stage"], paused["action"]) == ("shadow", "pause")
        assert dev.look()["reasons"][-1]["rule"] == "approval"
        dev.approve()
        canary = dev.decided()
        assert (canary["stage"], canary["action"]) == ("canary", "promote")
        confirmed = dev.decided()
        assert (confirmed["stage"], confirmed["action"]) == ("confirm", "confirm")
        assert dev.gitops.snapshot().state.stable == bundles.second

        dev.propose(bundles.failing)
        back = dev.decided()
        assert (back["stage"], back["action"], back["verdict"]) == ("shadow", "rollback", "FAIL")
        state = dev.gitops.snapshot().state
        assert (state.stable, state.candidate, bool(state.held(bundles.failing))) == (bundles.second, None, True)
        assert dev.decided()["action"] == "remove-server"
        assert len(get("-n", "sluice-dev", "inferenceservice")["items"]) == 1
        seen = get("-n", "sluice-dev", "configmap", "gate-seen")["data"]
        assert seen == {"commit": dev.gitops.snapshot().commit}, "it remembers, and no sync made it forget"
    finally:
        user.stop()
        print("\nseconds:", {key: [round(one, 1) for one in value] for key, value in dev.seconds.items()})  # noqa: T201
    assert set(user.answers) == {bundles.first, bundles.second}
    assert not user.failures
    evidence = [made.evidence for made in dev.gitops.decisions() if made.stage in ("shadow", "canary", "confirm")]
    assert all(one["sources"] for one in evidence if "sources" in one)
