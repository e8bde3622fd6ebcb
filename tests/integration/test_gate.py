"""The gate of a cluster on real repositories, without a cluster: what it waits for, and for how long at most."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice.monitoring.prometheus import PrometheusSource
from sluice.monitoring.prometheus_api import Limits, PrometheusApi
from sluice.release.gitops import GitOps
from sluice.release.rollout import look
from sluice.release.state import iso, moment_of
from sluice_cluster.api import KubernetesCluster
from sluice_cluster.gate import Gate
from tests.integration.prometheus_town import Town, town_in
from tests.integration.release_repository import Cluster, repository_in
from tests.integration.test_prometheus import _POLICY
from tests.unit.release_sample import LATE, NOW, SINCE, A, B, state_in

POLICY = _POLICY.decode()
_CANARY = POLICY[POLICY.index("  canary:") : POLICY.index("  confirm:")]
BLUE_GREEN = POLICY.replace(_CANARY, "  blue_green: {maximum_hours: 72}\n")
DOWN = PrometheusApi("http://127.0.0.1:9", limits=Limits(attempts=2), pause=lambda _: None)
STAGES = ("bootstrap", "shadow", "preview", "canary", "confirm")


def gate_of(gitops: GitOps, cluster: Any, now: str, source: PrometheusSource | None = None) -> Gate:
    found = source or PrometheusSource(DOWN, marked=False)
    return Gate(gitops, cluster, "sluice-dev", found, cluster_ask(cluster), 0.0, lambda: moment_of(now))


def cluster_ask(cluster: Any) -> Callable[[Any], str]:
    ask: Callable[[Any], str] = getattr(cluster, "ask", str)
    return ask


def _never_ready(cluster: Cluster) -> None:
    for pod in cluster.all_pods:
        if pod["metadata"]["name"] == "candidate-0":
            pod["status"]["conditions"][0]["status"] = "False"


HINDRANCES: dict[str, tuple[Callable[[Cluster], Any], str]] = {
    "the candidate is never ready": (_never_ready, "candidate-0 is not ready"),
    "no gateway takes the route": (lambda c: c.route["status"].update(parents=[]), "not Accepted"),
    "Argo CD fails": (lambda c: c.app["status"]["operationState"].update(phase="Failed", message="no"), "Failed: no"),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", HINDRANCES)
def test_what_is_not_in_effect_promotes_nothing_and_still_ends_in_time(case: str, stage: str, tmp_path: Path) -> None:
    state = state_in(stage, task="tiny")
    gitops = repository_in(tmp_path, state, BLUE_GREEN if stage == "preview" else POLICY)
    before, cluster = gitops.snapshot().commit, Cluster(state, SINCE)
    break_it, says = HINDRANCES[case]
    break_it(cluster)

    told = gate_of(gitops, cluster, NOW).look()
    assert (told["action"], told["verdict"], told["commit"]) == ("wait", "INCONCLUSIVE", before)
    assert says in told["cluster"]
    assert gitops.snapshot().commit == before

    told = gate_of(gitops, cluster, LATE).look()
    after = gitops.snapshot()
    assert (told["action"], told["verdict"], told["commit"]) == ("time-out", "INCONCLUSIVE", after.commit)
    assert (after.state.stable, after.state.candidate, after.state.holds) == (state.stable, None, ())
    assert after.state.stage == ("empty" if stage == "bootstrap" else "stable")


@pytest.mark.parametrize(("now", "action"), [(NOW, "wait"), (LATE, "time-out")])
def test_a_prometheus_that_is_down_is_waited_for_until_the_deadline(now: str, action: str, tmp_path: Path) -> None:
    state = state_in("canary", task="tiny")
    gitops = repository_in(tmp_path, state, POLICY)
    told = gate_of(gitops, Cluster(state, SINCE), now).look()
    assert (told["action"], told["cluster"]) == (action, None)
    assert told["reasons"][0]["rule"] == "evidence.problem"
    assert told["reasons"][0]["text"] == "prometheus: time(): no answer (ConnectionRefusedError), 2 times in a row"


def test_without_a_rollout_nobody_is_asked(tmp_path: Path) -> None:
    gitops = repository_in(tmp_path, state_in("stable", task="tiny"), POLICY)
    told = gate_of(gitops, None, NOW).look()
    assert (told["action"], told["verdict"], told["reasons"][0]["rule"]) == ("wait", None, "rollout")


@pytest.mark.parametrize(("now", "action"), [(NOW, "wait"), (LATE, "time-out")])
def test_an_api_server_that_is_down_is_a_cluster_that_is_not_applied(
    now: str, action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _kubeconfig(tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    gitops = repository_in(tmp_path, state_in("canary", task="tiny"), POLICY)
    told = gate_of(gitops, KubernetesCluster(), now).look()
    assert told["action"] == action
    assert told["cluster"].startswith("the API server: does not answer about argoproj.io/v1alpha1/argocd/applications")


def _kubeconfig(path: Path) -> None:
    named: dict[str, Any] = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "x", **named}))


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with town_in(tmp_path / "town") as found:
        found.settle()
        time.sleep(11)  # servers have been there for a while when a stage begins
        yield found


def test_it_decides_as_the_loop_on_one_machine_and_counts_from_its_sync_on(town: Town, tmp_path: Path) -> None:
    source = PrometheusSource(town.api, settle_seconds=0, fresh_seconds=20, joined=False, marked=False)
    policy = POLICY.replace("- {metric: log_loss, role: guardrail, margin: 3, per_slice: true, minimum_n: 30}", "")
    state = town.state(since := town.settle(), "canary", 40)
    town.route(state.model_copy(update={"stable_weight": 100, "candidate_weight": 0}))
    town.send(state, since, 300)  # Git says 40 % already, and Argo CD has not looked yet
    synced = town.settle()
    town.route(state)
    town.send(state, synced, 300)
    now = iso(town.settle())
    gitops = repository_in(tmp_path, state, policy)
    cluster = Cluster(state, iso(synced))

    early = gate_of(gitops, Cluster(state, iso(since)), now, source)
    evidence = early._evidence(gitops.snapshot(), cluster.read(), None, moment_of(now))
    assert evidence.split[0] > 400  # what a gate would see that does not know when the sync ended
    snapshot = gitops.snapshot()
    gate = gate_of(gitops, cluster, now, source)
    evidence = gate._evidence(snapshot, cluster.read(), None, moment_of(now))
    assert evidence.candidate is not None
    assert sum(evidence.split) == 300
    expected = look(snapshot, evidence, now, {})
    told = gate.look()
    assert expected is not None
    assert (told["action"], told["verdict"]) == (expected.action, expected.verdict.value) == ("promote", "PASS")
    assert gitops.snapshot().state.stage == "confirm"
    (record,) = gitops.decisions()
    assert record.evidence["applied"]["commit"] == "c" * 40


def test_requests_from_before_both_sides_served_do_not_count(town: Town, tmp_path: Path) -> None:
    source = PrometheusSource(town.api, settle_seconds=0, fresh_seconds=6, joined=False, marked=False)
    town.servers.pop("candidate").stop()
    state = town.state(since := town.settle(), "shadow", 0)
    town.route(state)
    town.send(state, since, 200)  # their copies are lost: nobody is there yet
    town.start("candidate")
    town.settle()
    time.sleep(10)
    town.send(state, town.settle(), 150)
    gitops = repository_in(tmp_path, state, POLICY)
    now = town.settle()
    evidence = gate_of(gitops, None, iso(now), source)._evidence(
        gitops.snapshot(), Cluster(state, iso(since)).read(), "not asked", now
    )
    assert (evidence.problems, evidence.split) == (("cluster: not asked",), (0, 150))


def test_a_candidate_that_answers_with_errors_is_rolled_back_and_held(town: Town, tmp_path: Path) -> None:
    source = PrometheusSource(town.api, settle_seconds=0, fresh_seconds=20, joined=False, marked=False)
    state = town.state(since := town.settle(), "canary", 40)
    town.route(state)
    town.send(state, since, 300, cursed=250)
    now = iso(town.settle())
    gitops = repository_in(tmp_path, state, POLICY)
    told = gate_of(gitops, Cluster(state, iso(since)), now, source).look()
    assert (told["action"], told["verdict"]) == ("rollback", "FAIL")
    after = gitops.snapshot().state
    assert after.held(town.digests["candidate"])
    assert (after.stable, after.candidate) == (town.digests["stable"], None)


SETTINGS = {
    "SLUICE_ENVIRONMENT": "dev",
    "SLUICE_NAMESPACE": "sluice-dev",
    "SLUICE_PROMETHEUS_URL": "http://127.0.0.1:9",
}


def sluice_gate(tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    _kubeconfig(tmp_path / "kubeconfig")
    here = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "kubeconfig")}
    command = [str(Path(sys.executable).with_name("sluice")), "gate"]
    return subprocess.run(
        command, env=here | SETTINGS | settings, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "SLUICE_REPOSITORY: is not set"),
        ({"SLUICE_REPOSITORY": "git@host:repository.git"}, "SLUICE_REPOSITORY: has scheme ''"),
        ({"SLUICE_REPOSITORY": "https://kim:secret@host/r.git"}, "SLUICE_REPOSITORY: carries credentials"),
        ({"SLUICE_REPOSITORY": "ssh://git@host/r.git"}, "SLUICE_REPOSITORY_KEY: is not set"),
        ({"SLUICE_REPOSITORY": "file:///r.git", "SLUICE_NAMESPACE": ""}, "SLUICE_NAMESPACE: is not set"),
        ({"SLUICE_REPOSITORY": "file:///r.git", "SLUICE_PROMETHEUS_URL": ""}, "SLUICE_PROMETHEUS_URL: is not set"),
        ({"SLUICE_REPOSITORY": "file:///r.git", "SLUICE_PROMETHEUS_MATCHERS": "a b=c"}, "SLUICE_PROMETHEUS_MATCHERS"),
        ({"SLUICE_REPOSITORY": "file:///r.git", "SLUICE_PROMETHEUS_SCRAPE_SECONDS": "0"}, "'0', not 1 to 3600"),
        ({"SLUICE_REPOSITORY": "file:///r.git", "SLUICE_PROMETHEUS_JOINED": "perhaps"}, "write true or false"),
        ({"SLUICE_REPOSITORY": "file:///no/such.git"}, "cannot be read"),
        ({"SLUICE_REPOSITORY": "ssh://git@host/r.git", "SLUICE_REPOSITORY_KEY": "/none"}, "known_hosts"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_2(settings: dict[str, str], says: str, tmp_path: Path) -> None:
    done = sluice_gate(tmp_path, **settings)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert says in line
    assert "secret" not in line


def test_the_command_prints_one_line_of_json_and_leaves_nothing(tmp_path: Path) -> None:
    gitops = repository_in(tmp_path, state_in("stable", task="tiny"), POLICY)
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    done = sluice_gate(tmp_path, SLUICE_REPOSITORY=f"file://{gitops.remote}", TMPDIR=str(scratch))
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    told = json.loads(line)
    assert (told["stage"], told["candidate"], told["action"]) == ("stable", None, "wait")
    assert told["commit"] == gitops.snapshot().commit
    assert not list(scratch.iterdir())


def test_a_person_reads_and_rolls_back_at_a_url(tmp_path: Path) -> None:
    gitops = repository_in(tmp_path, state_in("canary", task="tiny"), POLICY)
    here = {"PATH": os.environ["PATH"], "SLUICE_HOME": str(tmp_path / "home")}
    here["SLUICE_REPOSITORY"] = f"file://{gitops.remote}"
    sluice = str(Path(sys.executable).with_name("sluice"))
    for command in (["status", "--json"], ["rollback", "--reason", "wrong scores", "--json"]):
        done = subprocess.run([sluice, *command], env=here, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["candidate"] == B
    assert gitops.snapshot().state.held(B)
    here["SLUICE_REPOSITORY"] = f"file://{tmp_path}/nowhere.git"
    done = subprocess.run([sluice, "status"], env=here, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_a_git_host_that_goes_away_leaves_nothing_half_written(tmp_path: Path) -> None:
    state = state_in("canary", task="tiny")
    gitops = repository_in(tmp_path, state, POLICY)
    before = gitops.snapshot().commit
    cluster = Cluster(state, SINCE)
    _never_ready(cluster)
    gate = gate_of(gitops, cluster, LATE)
    away = Path(gitops.remote).with_suffix(".away")

    def gone(_: Any) -> str:
        shutil.move(gitops.remote, away)
        return A

    with pytest.raises(Exception, match="cannot be read"):
        Gate(gitops, cluster, "sluice-dev", gate.source, gone, 0.0, gate.clock).look()
    shutil.move(away, gitops.remote)
    assert gitops.snapshot().commit == before
    assert gate.look()["action"] == "time-out"


def test_a_cluster_that_is_on_its_way_is_asked_again_for_a_while(tmp_path: Path) -> None:
    state = state_in("canary", task="tiny")
    gitops, cluster = repository_in(tmp_path, state, POLICY), Cluster(state, SINCE)
    cluster.app["status"]["sync"]["status"] = "OutOfSync"
    asked = 0

    class Later:
        def application(self, name: str) -> Any:
            nonlocal asked
            asked += 1
            if asked == 2:
                cluster.app["status"]["sync"]["status"] = "Synced"
            return cluster.application(name)

        routes, pods = staticmethod(cluster.routes), staticmethod(cluster.pods)

    gate = gate_of(gitops, cluster, NOW)
    told = Gate(gitops, Later(), "sluice-dev", gate.source, cluster.ask, 60.0, gate.clock).look()
    assert (told["cluster"], asked) == (None, 3)  # the third is about when the sync ended
