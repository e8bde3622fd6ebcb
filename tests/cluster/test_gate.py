"""
Promotions that only jobs of the gate's CronJob decide, on what a Prometheus scrapes: from the servers that users asked,
and from a join of their answers with labels.

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
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
from tests.support.cluster.argo_cd import followed, refresh, refresh_again, work_on
from tests.support.cluster.checkout import Checkout, with_option, write_checkout
from tests.support.cluster.feedback import LabellingUser, use_join
from tests.support.cluster.kubectl import Refused, apply, get, kubectl, wait_until
from tests.support.cluster.promotion import HOST as DEV_HOST
from tests.support.cluster.promotion import Requests, digest_by_proxy
from tests.support.cluster.serving import ask
from tests.support.cluster.store import Bundles
from tests.support.release import GOOD, state_in
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
BLUE_GREEN = (
    POLICY[: POLICY.index("  shadow:")]
    + """
  label_maturity_hours: 0.001
  blue_green:
    maximum_hours: 1
    rules: [{metric: error_rate, role: limit, limit: 0.3}]
  confirm:
    holdback: 20
    minimum_n: 30
    maximum_hours: 1
    rules:
      - {metric: label_coverage, role: quality, limit: 0.5}
      - {metric: log_loss, role: guardrail, margin: 0.4}
"""
)
PREVIEW_HOST = f"preview-{DEV_HOST}"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


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
        now = _now()
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
                refresh_again("sluice-dev")
                raise Refused(str(error)) from error
            if applied.commit != snapshot.commit:
                refresh_again("sluice-dev")
            return applied.commit == snapshot.commit and snapshot.state.is_applied(applied)

        wait_until(f"{snapshot.state.stage} is in effect", settled, 120, partial(work_on, "sluice-dev"))
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
    """Tells a Prometheus where servers and exposition are; Debian's has no discovery of Kubernetes built in."""

    def __init__(self, file: Path) -> None:
        super().__init__(daemon=True)
        self._file, self._end = file, threading.Event()

    def run(self) -> None:
        while not self._end.wait(1):
            with contextlib.suppress(Refused):
                names = "app.kubernetes.io/name in (model-server, exposition)"
                pods = get("-n", "sluice-dev", "pods", "-l", names)["items"]
                found = [f"{pod['status']['podIP']}:8080" for pod in pods if pod["status"].get("podIP")]
                write_json(self._file, [{"targets": found, "labels": {"namespace": "sluice-dev"}}])

    def stop(self) -> None:
        """End, and wait for the last question."""
        self._end.set()
        self.join(30)


@contextlib.contextmanager
def prometheus_in(folder: Path) -> Iterator[str]:
    """A Prometheus that is told where servers and exposition are; its URL for pods."""
    if shutil.which("prometheus") is None:
        pytest.skip("NOT CHECKED: the binary `prometheus` is absent; Debian: apt-get install prometheus")
    folder.mkdir()
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port = listener.getsockname()[1]
    targets = folder / "targets.json"
    job: dict[str, Any] = {"job_name": "sluice", "honor_labels": True}
    job["file_sd_configs"] = [{"files": [str(targets)], "refresh_interval": "5s"}]
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
    with _followed_gate(tmp_path, lambda _: None) as found:
        yield found


@pytest.fixture
def labelled(bundles: Bundles, gateway: str, dev: str, tmp_path: Path) -> Iterator[Dev]:
    """The same with one model stable, blue/green for the next ones, and a join that tells the gate what labels say."""
    state = state_in("stable", task="tiny", environment="dev", stable=bundles.first, since=_now())

    def change(checkout: Checkout) -> None:
        checkout.release(state)
        use_join(checkout)
        (checkout.overlay("dev") / "gate-policy.yaml").write_text(BLUE_GREEN)

    with _followed_gate(tmp_path, change, SLUICE_PROMETHEUS_JOINED="true") as found:
        found.settle()
        yield found


@contextlib.contextmanager
def _followed_gate(tmp_path: Path, change: Callable[[Checkout], None], **settings: str) -> Iterator[Dev]:
    repository = tmp_path / "gitops.git"
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(ssh_host_in(tmp_path / "host", HOST))
        url = stack.enter_context(prometheus_in(tmp_path / "prometheus"))
        checkout = write_checkout(tmp_path / "checkout")
        _use_gate(checkout, {"SLUICE_REPOSITORY": host.url(repository), "SLUICE_PROMETHEUS_URL": url} | settings)
        change(checkout)
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
    settings = {"SLUICE_PROMETHEUS_JOINED": "false"} | settings
    settings |= {"SLUICE_PROMETHEUS_SCRAPE_SECONDS": str(SCRAPE_SECONDS)}
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
        assert (back["stage"], back["action"], back["verdict"]) == ("shadow", "rollback", "FAIL"), back["reasons"]
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


def _checked(gateway: str) -> set[str]:
    """Ask the preview, once its servers were scraped and what they answer counts; which digests answered."""
    time.sleep(6 * SCRAPE_SECONDS)
    return {ask(gateway, host=PREVIEW_HOST) for _ in range(60)}


def test_blue_green_waits_for_its_preview_to_be_asked_and_labels_decide(
    labelled: Dev, bundles: Bundles, gateway: str
) -> None:
    dev, user = labelled, LabellingUser(gateway, DEV_HOST)
    user.start()
    try:
        dev.propose(bundles.second)
        assert dev.gitops.snapshot().state.stage == "preview"
        waiting = dev.look()
        assert (waiting["stage"], waiting["action"], waiting["cluster"]) == ("preview", "wait", None)
        before = len(user.answers)
        assert _checked(gateway) == {bundles.second}
        switched = dev.decided()
        assert (switched["stage"], switched["action"]) == ("preview", "promote")
        assert set(user.answers[:before]) == {bundles.first}, "users did not meet it before the switch"
        with pytest.raises(OSError, match="404"):
            ask(gateway, host=PREVIEW_HOST)
        confirmed = dev.decided()
        assert (confirmed["stage"], confirmed["action"]) == ("confirm", "confirm")
        assert dev.gitops.snapshot().state.stable == bundles.second

        user.wrong = bundles.third
        dev.propose(bundles.third)
        assert _checked(gateway) == {bundles.third}
        assert dev.decided()["action"] == "promote"
        back = dev.decided()
        assert (back["stage"], back["action"]) == ("confirm", "rollback")
        assert [one["rule"] for one in back["reasons"] if one["verdict"] == "FAIL"] == ["log_loss"]
        state = dev.gitops.snapshot().state
        assert (state.stable, bool(state.held(bundles.third))) == (bundles.second, True)
    finally:
        user.stop()
        print("\nseconds:", {key: [round(one, 1) for one in value] for key, value in dev.seconds.items()})  # noqa: T201
    assert not user.failures
