"""The gate of a cluster on real repositories, without a cluster: what it waits for, and for how long at most."""

from __future__ import annotations

import copy
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sluice.documents.event_time import iso, moment_of
from sluice.documents.evidence import Evidence
from sluice.documents.state import Applied, ReleaseState
from sluice.gitops.writer import GitOps
from sluice.operations.ledger import verify
from sluice.prometheus.source import PrometheusSource
from sluice.rollout.advance import look
from sluice_cluster.api import KubernetesCluster
from sluice_cluster.applied import ReadBack, Sync
from sluice_cluster.cluster import NotApplied
from sluice_cluster.gate import Gate
from tests.support.cluster_documents import Cluster, rolled_out, unready
from tests.support.gate import DOWN, gate_of, write_kubeconfig
from tests.support.prometheus_town import POLICY_TEXT as POLICY
from tests.support.prometheus_town import Town, town_in
from tests.support.release import LATE, NOW, SINCE, A, B, C, arm, evidence_of, state_in
from tests.support.release_repository import repository_in

QUICK = POLICY.replace("look_every_hours: 1", "look_every_hours: 0.0001\n  evidence_hours: 1")
_CANARY = POLICY[POLICY.index("  canary:") : POLICY.index("  confirm:")]
BLUE_GREEN = POLICY.replace(_CANARY, "  blue_green: {maximum_hours: 72}\n")
STAGES = ("bootstrap", "shadow", "preview", "canary", "confirm")


def _never_ready(cluster: Cluster) -> None:
    unready(cluster, "candidate")
    cluster.deployments["tiny-candidate-predictor"] = rolled_out("ReplicaSetUpdated")


def _read(cluster: Cluster, *synced: tuple[str, str]) -> ReadBack:
    return ReadBack(cluster.read(), tuple(Sync(revision, moment_of(ended)) for revision, ended in synced))


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
    assert after.state.stage == ("empty" if stage == "bootstrap" else "drain")


@dataclass(frozen=True)
class Convincing(PrometheusSource):
    """Says that the candidate is fine, whatever the cluster does."""

    def read(
        self,
        state: ReleaseState,
        policy: Any,  # noqa: ARG002
        applied: Applied,
        now: datetime,
        synced: Any = None,  # noqa: ARG002
    ) -> Evidence:
        return evidence_of(state, now=iso(now), applied=applied)


@pytest.mark.parametrize("case", ["none", *HINDRANCES])
def test_the_best_numbers_promote_nothing_that_is_not_in_effect(case: str, tmp_path: Path) -> None:
    state = state_in("canary", task="tiny")
    gitops, cluster = repository_in(tmp_path, state, POLICY), Cluster(state, SINCE)
    HINDRANCES.get(case, (lambda _: None, ""))[0](cluster)
    told = gate_of(gitops, cluster, NOW, Convincing(DOWN, marked=False)).look()
    expected = ("set-weight", "PASS", 2) if case == "none" else ("wait", "INCONCLUSIVE", 1)
    commits = subprocess.run(
        ["git", "-C", gitops.remote, "rev-list", "--count", "main"], capture_output=True, text=True, check=True
    )
    assert (told["action"], told["verdict"], int(commits.stdout)) == expected


@dataclass(frozen=True)
class Damning(Convincing):
    """Says that half of the candidate's answers are errors."""

    def read(
        self,
        state: ReleaseState,
        policy: Any,  # noqa: ARG002
        applied: Applied,
        now: datetime,
        synced: Any = None,  # noqa: ARG002
    ) -> Evidence:
        bad = arm(state.candidate or "", 4000, errors=2000)
        return evidence_of(state, candidate=bad, now=iso(now), applied=applied)


@pytest.mark.parametrize("reason", ["NewReplicaSetAvailable", "ProgressDeadlineExceeded"])
def test_a_candidate_that_is_lost_cannot_pass_and_its_own_rules_end_it_without_a_hold(
    reason: str, tmp_path: Path
) -> None:
    state = state_in("canary", task="tiny")
    gitops, cluster = repository_in(tmp_path, state, POLICY), Cluster(state, SINCE)
    unready(cluster, "candidate", "CrashLoopBackOff")
    cluster.deployments["tiny-candidate-predictor"] = rolled_out(reason)
    told = gate_of(gitops, cluster, NOW, Convincing(DOWN, marked=False)).look()
    assert (told["action"], told["reasons"][-1]["rule"], told["cluster"]) == ("wait", "candidate-lost", None)
    told = gate_of(gitops, cluster, NOW, Damning(DOWN, marked=False)).look()
    after = gitops.snapshot().state
    assert (told["action"], told["verdict"], after.candidate, after.holds) == ("rollback", "FAIL", None, ())


def test_a_candidate_that_is_on_its_way_is_not_judged_by_anything(tmp_path: Path) -> None:
    state = state_in("canary", task="tiny")
    gitops, cluster = repository_in(tmp_path, state, POLICY), Cluster(state, SINCE)
    _never_ready(cluster)
    for source in (Convincing(DOWN, marked=False), Damning(DOWN, marked=False)):
        told = gate_of(gitops, cluster, NOW, source).look()
        assert (told["action"], [reason["rule"] for reason in told["reasons"]]) == ("wait", ["evidence.problem"])
    assert gitops.snapshot().state == state


def test_a_side_that_comes_back_while_it_is_asked_is_not_lost(tmp_path: Path) -> None:
    state = state_in("canary", task="tiny")
    gitops, cluster = repository_in(tmp_path, state, POLICY), Cluster(state, SINCE)
    unready(cluster, "candidate")
    asked = 0

    def ask(pod: Any) -> str:
        nonlocal asked
        asked += 1
        if asked == 2:
            cluster.all_pods[-1]["status"]["conditions"][0]["status"] = "True"
        return cluster.ask(pod)

    source = Convincing(DOWN, marked=False)
    told = Gate(gitops, cluster, "sluice-dev", source, ask, 60.0, lambda: moment_of(NOW)).look()
    assert told["action"] == "set-weight"


@pytest.mark.parametrize(("now", "action"), [(NOW, "wait"), (LATE, "time-out")])
def test_a_prometheus_that_is_down_is_waited_for_until_the_deadline(now: str, action: str, tmp_path: Path) -> None:
    state = state_in("canary", task="tiny")
    gitops = repository_in(tmp_path, state, POLICY)
    told = gate_of(gitops, Cluster(state, SINCE), now).look()
    assert (told["action"], told["cluster"]) == (action, None)
    assert told["reasons"][0]["rule"] == "evidence.problem"
    assert told["reasons"][0]["text"] == "prometheus: time(): no answer (ConnectionRefusedError), 2 times in a row"


def test_without_a_rollout_the_effect_is_read_back_all_the_same(tmp_path: Path) -> None:
    state = state_in("stable", task="tiny")
    gitops, cluster = repository_in(tmp_path, state, POLICY), Cluster(state, SINCE)
    told = gate_of(gitops, cluster, NOW).look()
    assert (told["action"], told["verdict"], told["reasons"][0]["rule"]) == ("wait", None, "rollout")
    assert (told["cluster"], told["difference"], told["alarm"], cluster.refreshed) == (None, None, None, [])


def _half_a_rollback(cluster: Cluster) -> None:
    """The candidate was pruned, and the route stayed: what a sync did whose comparison had failed."""
    for ref in cluster.route["spec"]["rules"][0]["backendRefs"]:
        ref["weight"] = 50


def _another_model(cluster: Cluster) -> None:
    cluster.served["stable-0"] = C


def _mirrors_still(cluster: Cluster) -> None:
    cluster.route["spec"]["rules"][0]["filters"] = [{"type": "RequestMirror", "requestMirror": {"percent": 100}}]


def _candidate_still(cluster: Cluster) -> None:
    cluster.served["candidate-0"] = C
    pod = copy.deepcopy(cluster.all_pods[0])
    pod["metadata"]["name"] = "candidate-0"
    cluster.all_pods.append(pod)
    cluster.deployments["tiny-candidate-predictor"] = rolled_out()


def _sync_failed(cluster: Cluster) -> None:
    cluster.app["status"]["operationState"].update(phase="Failed", message="no webhook")


DIFFERENCES: dict[str, tuple[Callable[[Cluster], None], str]] = {
    "the route stayed at 50/50": (_half_a_rollback, "stable_weight is 50, decided was 100; candidate_weight is 50"),
    "stable serves another model": (_another_model, "stable serves cccccccccccc instead of aaaaaaaaaaaa"),
    "copies are still made": (_mirrors_still, "mirror_percent is 100, decided was 0"),
    "the candidate is still there": (_candidate_still, "candidate serves cccccccccccc instead of none"),
    "the sync failed": (_sync_failed, "Failed: no webhook"),
}


@pytest.mark.parametrize("case", DIFFERENCES)
@pytest.mark.parametrize("minutes", [5, 33])
def test_what_differs_from_git_between_rollouts_is_told_refreshed_and_alarms_when_it_lasts(
    case: str, minutes: int, tmp_path: Path
) -> None:
    state = state_in("stable", task="tiny")
    gitops, cluster = repository_in(tmp_path, state, POLICY), Cluster(state, SINCE)
    break_it, says = DIFFERENCES[case]
    break_it(cluster)
    before = gitops.snapshot().commit
    told = gate_of(gitops, cluster, iso(moment_of(SINCE) + timedelta(minutes=minutes))).look()
    assert says in told["difference"]
    assert told["alarm"] == (told["difference"] if minutes > 15 else None)
    assert cluster.refreshed == ["sluice-dev"]
    assert (told["action"], told["commit"], gitops.snapshot().commit) == ("wait", before, before)


def _drained(gitops: GitOps, cluster: Cluster) -> dict[str, Any]:
    """A look half an hour after a rollout's end, when Argo CD has synced the newest commit."""
    cluster.app["status"]["sync"]["revision"] = gitops.snapshot().commit
    return gate_of(gitops, cluster, iso(moment_of(SINCE) + timedelta(minutes=30))).look()


def _candidate_never_came_up(cluster: Cluster) -> None:
    cluster.served["candidate-0"] = B
    pod = copy.deepcopy(cluster.all_pods[0])
    pod["metadata"]["name"] = "candidate-0"
    cluster.all_pods.append(pod)
    cluster.deployments["tiny-candidate-predictor"] = rolled_out("ReplicaSetUpdated")
    unready(cluster, "candidate", "CrashLoopBackOff")


@pytest.mark.parametrize("case", ["the route stayed at 50/50", "copies are still made", "the sync failed"])
def test_the_candidates_server_stays_until_the_end_of_its_rollout_is_read_back(case: str, tmp_path: Path) -> None:
    state = state_in("drain", task="tiny")
    gitops, cluster = repository_in(tmp_path, state, POLICY), Cluster(state, SINCE)
    DIFFERENCES[case][0](cluster)
    told = _drained(gitops, cluster)
    assert (told["action"], told["alarm"], gitops.snapshot().state) == ("wait", told["difference"], state)
    assert cluster.refreshed == ["sluice-dev"]

    cluster = Cluster(state, SINCE)
    _candidate_never_came_up(cluster)
    told = _drained(gitops, cluster)
    after = gitops.snapshot().state
    assert (told["action"], told["candidate"], told["alarm"]) == ("remove-server", None, None)
    assert (after.stage, after.stable, after.leftover) == ("stable", A, None)
    again = _drained(gitops, Cluster(after, SINCE))
    assert (again["action"], len(gitops.decisions())) == ("wait", 1)
    verify(gitops).require_intact()


def test_a_sync_of_before_the_rollouts_end_takes_no_server_away(tmp_path: Path) -> None:
    state = state_in("drain", task="tiny")
    gitops, cluster = repository_in(tmp_path, state, POLICY), Cluster(state, SINCE)
    told = gate_of(gitops, cluster, NOW).look()
    assert (told["action"], told["reasons"][0]["rule"], told["difference"]) == ("wait", "drain", None)
    assert gitops.snapshot().state == state


@dataclass(frozen=True)
class Resting(PrometheusSource):
    """Says how the stable model answers between rollouts."""

    errors: int = 0
    last: str = NOW

    def read(
        self,
        state: ReleaseState,
        policy: Any,  # noqa: ARG002
        applied: Applied,
        now: datetime,
        synced: Any = None,  # noqa: ARG002
    ) -> Evidence:
        stable = arm(state.stable or "", 4000, errors=self.errors)
        found = evidence_of(state, candidate=None, stable=stable, split=(4000, 0), now=iso(now), applied=applied)
        return found.model_copy(update={"stable": stable.model_copy(update={"last": self.last})})


@pytest.mark.parametrize(
    ("source", "rules"),
    [
        (Resting(DOWN, marked=False), [("error_rate", "PASS")]),
        (Resting(DOWN, marked=False, errors=2000), [("error_rate", "FAIL")]),
        (Resting(DOWN, marked=False, last=SINCE), [("evidence.age", "INCONCLUSIVE")]),
    ],
    ids=["well", "failing", "silent"],
)
def test_between_rollouts_the_stable_model_is_held_to_its_limits(
    source: Resting, rules: list[tuple[str, str]], tmp_path: Path
) -> None:
    state = state_in("stable", task="tiny")
    gitops, cluster = repository_in(tmp_path, state, POLICY), Cluster(state, SINCE)
    before = gitops.snapshot().commit
    told = gate_of(gitops, cluster, NOW, source).look()
    assert [(one["rule"], one["verdict"]) for one in told["watch"]] == rules
    assert bool(told["alarm"]) is bool(source.errors)
    assert (told["action"], gitops.snapshot().commit) == ("wait", before)


@pytest.mark.parametrize("stage", ["shadow", "canary", "confirm"])
def test_what_differs_from_git_in_a_rollout_is_refreshed_too(stage: str, tmp_path: Path) -> None:
    state = state_in(stage, task="tiny")
    gitops, cluster = repository_in(tmp_path, state, POLICY), Cluster(state, SINCE)
    for ref in cluster.route["spec"]["rules"][0]["backendRefs"]:
        ref["weight"] = 30 if "candidate" in ref["name"] else 70
    told = gate_of(gitops, cluster, NOW, Convincing(DOWN, marked=False)).look()
    assert (told["action"], told["alarm"]) == ("wait", told["difference"])
    assert cluster.refreshed == ["sluice-dev"]


def test_an_argo_cd_that_takes_no_refresh_keeps_no_look_from_its_work(tmp_path: Path) -> None:
    class Deaf(Cluster):
        def refresh(self, name: str) -> None:
            raise NotApplied("the API server", f"answers 403 about {name}", "wait")

    state = state_in("canary", task="tiny")
    gitops, cluster = repository_in(tmp_path, state, POLICY), Deaf(state, SINCE)
    unready(cluster, "candidate", "CrashLoopBackOff")
    told = gate_of(gitops, cluster, NOW, Damning(DOWN, marked=False)).look()
    assert told["action"] == "rollback"
    assert "candidate serves none instead of" in told["difference"]
    assert "takes no refresh (the API server: answers 403 about sluice-dev" in told["difference"]


@pytest.mark.parametrize(("now", "action"), [(NOW, "wait"), (LATE, "time-out")])
def test_an_api_server_that_is_down_is_a_cluster_that_is_not_applied(
    now: str, action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kubeconfig(tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    gitops = repository_in(tmp_path, state_in("canary", task="tiny"), POLICY)
    told = gate_of(gitops, KubernetesCluster(), now).look()
    assert told["action"] == action
    assert told["cluster"].startswith("the API server: does not answer about argoproj.io/v1alpha1/argocd/applications")


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with town_in(tmp_path / "town") as found:
        found.settle()
        time.sleep(11)  # servers have been there for a while when a stage begins
        yield found


def test_it_decides_as_the_loop_on_one_machine_and_counts_from_its_sync_on(town: Town, tmp_path: Path) -> None:
    source = PrometheusSource(town.api, settle_seconds=0, fresh_seconds=20, joined=False, marked=False)
    policy = QUICK.replace("- {metric: log_loss, role: guardrail, margin: 3, per_slice: true, minimum_n: 30}", "")
    state = town.state(since := town.settle(), "canary", 40)
    town.route(town.state(since, "preview", 0))
    town.send(state, since, 300)  # Git says 40 % already, and Argo CD has not looked yet
    synced = town.settle()
    town.route(state)
    town.send(state, synced, 300)
    now = iso(town.settle())
    gitops = repository_in(tmp_path, state, policy)
    cluster, commit = Cluster(state, iso(synced)), gitops.snapshot().commit
    cluster.app["status"]["history"][1]["revision"] = commit

    early = gate_of(gitops, None, now, source)
    evidence = early._evidence(gitops.snapshot(), _read(cluster, (commit, iso(since))), None, moment_of(now))
    assert evidence.stable is not None
    assert evidence.stable.n > 400  # what a gate would see that does not know when the sync ended
    snapshot = gitops.snapshot()
    gate = gate_of(gitops, cluster, now, source)
    before = ("d" * 40, iso(since + timedelta(seconds=1)))  # of a revision before the stage's, that took long
    evidence = gate._evidence(snapshot, _read(cluster, before, (commit, iso(synced))), None, moment_of(now))
    assert evidence.candidate is not None
    assert evidence.split == (180, 120)  # as planned: all came within two scrapes, so nothing is known against it
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
        gitops.snapshot(), _read(Cluster(state, iso(since)), (gitops.snapshot().commit, iso(since))), "not asked", now
    )
    assert (evidence.problems, evidence.split) == (("cluster: not asked",), (0, 150))


def test_a_candidate_that_answers_with_errors_is_rolled_back_and_held(town: Town, tmp_path: Path) -> None:
    source = PrometheusSource(town.api, settle_seconds=0, fresh_seconds=20, joined=False, marked=False)
    state = town.state(since := town.settle(), "canary", 40)
    town.route(state)
    town.send(state, since, 300, cursed=250)
    now = iso(town.settle())
    gitops = repository_in(tmp_path, state, QUICK)
    told = gate_of(gitops, Cluster(state, iso(since)), now, source).look()
    assert (told["action"], told["verdict"]) == ("rollback", "FAIL")
    after = gitops.snapshot().state
    assert after.held(town.digests["candidate"])
    assert (after.stable, after.candidate) == (town.digests["stable"], None)


def test_a_candidate_that_crashed_while_users_asked_it_is_taken_back_without_a_hold(town: Town, tmp_path: Path) -> None:
    source = PrometheusSource(town.api, settle_seconds=0, fresh_seconds=6, joined=False, marked=False)
    state = town.state(since := town.settle(), "canary", 40)
    town.route(state)
    town.send(state, since, 200)
    town.settle()
    town.servers.pop("candidate").stop()
    town.send(state, town.settle(), 400)
    time.sleep(7)
    now = iso(town.settle())
    gitops, cluster = repository_in(tmp_path, state, QUICK), Cluster(state, iso(since))
    unready(cluster, "candidate", "CrashLoopBackOff")
    told = gate_of(gitops, cluster, now, source).look()
    after = gitops.snapshot().state
    assert (told["action"], told["verdict"], told["reasons"][0]["rule"]) == ("rollback", "FAIL", "split"), told
    assert (after.stable, after.candidate, after.holds) == (town.digests["stable"], None, ())


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
        deployment = staticmethod(cluster.deployment)
        service, revision = staticmethod(cluster.service), staticmethod(cluster.revision)
        refresh = staticmethod(cluster.refresh)

    gate = gate_of(gitops, cluster, NOW)
    told = Gate(gitops, Later(), "sluice-dev", gate.source, cluster.ask, 60.0, gate.clock).look()
    assert (told["cluster"], asked) == (None, 2)
