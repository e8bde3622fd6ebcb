"""Two teams on one cluster, each in an environment of its own: neither reads, reaches nor deploys to the other."""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice.gitops.writer import GitOps
from tests.support.cluster.argo_cd import given_argo_cd
from tests.support.cluster.checkout import Checkout, with_option
from tests.support.cluster.kubectl import Object, Refused, apply, get, kubectl, namespaces, render, wait_until
from tests.support.cluster.permission import MAY, permitted

OURS, THEIRS = "sluice-dev", "sluice-staging"
SERVER, GATE = {"app.kubernetes.io/name": "model-server"}, {"app.kubernetes.io/name": "gate"}
FORBIDDEN = re.compile("not permitted|do not match any of the allowed destinations")
METADATA, STORE = "169.254.169.254", "203.0.113.9"


@pytest.fixture(scope="module")
def teams(checkout: Checkout, installed: list[str]) -> None:
    """Both environments with every account and policy that there is."""
    for environment in ("dev", "staging"):
        apply(with_option(checkout, "gate", environment))


@pytest.mark.parametrize(("home", "other"), [(OURS, THEIRS), (THEIRS, OURS)])
@pytest.mark.parametrize("account", MAY)
def test_no_account_may_anything_in_the_others_namespace(teams: None, home: str, other: str, account: str) -> None:
    assert permitted(account, home, home) == MAY[account]
    assert permitted(account, other, home) == set()


class Network:
    """
    The network policies that the API server has, judged as Kubernetes defines them: a pod that a policy selects is
    closed in that policy's directions but for what some policy of its namespace lets through.
    """

    def __init__(self) -> None:
        self.policies = get("-A", "networkpolicies")["items"]
        self.labels = namespaces()

    def passes(self, source: tuple[str, Object], target: tuple[str, Object] | str, port: int) -> bool:
        """Whether a pod (namespace, labels) reaches another pod, or an address outside, on a TCP port."""
        out = self._open("Egress", source, target, port)
        return out and (isinstance(target, str) or self._open("Ingress", target, source, port))

    def _open(self, direction: str, pod: tuple[str, Object], peer: tuple[str, Object] | str, port: int) -> bool:
        namespace, labels = pod
        found = [
            policy["spec"]
            for policy in self.policies
            if policy["metadata"]["namespace"] == namespace
            and direction in policy["spec"]["policyTypes"]
            and _selects(policy["spec"]["podSelector"], labels)
        ]
        key, side = ("egress", "to") if direction == "Egress" else ("ingress", "from")
        rules = [rule for spec in found for rule in spec.get(key, [])]
        return not found or any(
            ("ports" not in rule or any(p["port"] == port and p["protocol"] == "TCP" for p in rule["ports"]))
            and (side not in rule or any(self._is(each, namespace, peer) for each in rule[side]))
            for rule in rules
        )

    def _is(self, wanted: Object, home: str, peer: tuple[str, Object] | str) -> bool:
        if "ipBlock" in wanted:  # pods have addresses too
            block, address = wanted["ipBlock"], ipaddress.ip_address(peer if isinstance(peer, str) else "10.244.0.9")
            inside = [address in ipaddress.ip_network(cidr) for cidr in (block["cidr"], *block.get("except", []))]
            return inside[0] and not any(inside[1:])
        if isinstance(peer, str):
            return False
        namespace, labels = peer
        near = _selects(wanted["namespaceSelector"], self.labels[namespace]) if "namespaceSelector" in wanted else None
        return (namespace == home if near is None else near) and _selects(wanted.get("podSelector", {}), labels)


def _selects(selector: Object, labels: Object) -> bool:
    """A label selector, with the operators that the manifests use; another one fails."""
    equal = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    for each in selector.get("matchExpressions", []):
        assert each["operator"] == "In", "teach this test the operator"
        equal = equal and labels.get(each["key"]) in each["values"]
    return equal


def test_pods_of_one_team_do_not_reach_pods_of_the_other(teams: None, gateway: str) -> None:
    network, pods = Network(), (SERVER, GATE, {"app": "any"})
    ways = list(itertools.product(((OURS, THEIRS), (THEIRS, OURS)), pods, pods, (8080, 443)))
    assert len(ways) == 36
    open_ways = [
        (home, source, other, target, port)
        for (home, other), source, target, port in ways
        if network.passes((home, source), (other, target), port)
    ]
    assert open_ways == []


def test_pods_reach_what_they_need_and_no_more(teams: None, gateway: str) -> None:
    network, any_pod = Network(), {"app": "any"}
    assert network.passes(("kserve", any_pod), (OURS, SERVER), 8080), "the gateway reaches the models"
    assert network.passes((OURS, GATE), (OURS, SERVER), 8080), "the gate asks which digest is loaded"
    assert network.passes((OURS, SERVER), STORE, 443)
    assert network.passes((OURS, SERVER), STORE, 9000)
    assert not network.passes((OURS, SERVER), METADATA, 443), "the node's credentials"
    assert not network.passes((OURS, SERVER), STORE, 22)
    assert not network.passes((OURS, any_pod), STORE, 443), "what nobody named is closed"
    assert not network.passes((OURS, any_pod), (OURS, SERVER), 8080)
    assert not network.passes(("default", any_pod), (OURS, SERVER), 8080)
    assert not network.passes(("default", GATE), (OURS, SERVER), 8080), "a label alone, in another namespace"
    assert not network.passes(("kserve", any_pod), (OURS, SERVER), 22)
    assert not network.passes(("kserve", any_pod), (OURS, GATE), 8080)


@pytest.fixture
def projects(teams: None, checkout: Checkout, tmp_path: Path) -> Iterator[dict[str, str]]:
    """An AppProject for each team, made from the shipped one, with a repository for each; addresses by namespace."""
    given_argo_cd()
    (shipped,) = [
        found
        for found in render(checkout.root / "manifests/argocd")
        if found["kind"] == "AppProject" and found["metadata"]["name"] == "sluice"
    ]
    addresses = {}
    for number, home in enumerate((OURS, THEIRS)):
        repository = tmp_path / f"{home}.git"
        GitOps(repository, "dev" if home == OURS else "staging").seed(checkout.root)
        addresses[home] = f"file://{repository}"
        spec = shipped["spec"] | {
            "sourceRepos": [addresses[home]],
            "destinations": [shipped["spec"]["destinations"][number]],
        }
        assert spec["destinations"][0]["namespace"] == home
        apply([{**shipped, "metadata": {"name": f"team-{home}", "namespace": "argocd"}, "spec": spec}])
    yield addresses
    kubectl("-n", "argocd", "delete", "application", "trespass", "--ignore-not-found", "--wait=true")
    kubectl("-n", "argocd", "delete", "appproject", f"team-{OURS}", f"team-{THEIRS}")


def trespass(project: str, repository: str, namespace: str, path: str) -> str:
    """What Argo CD says to an Application; the conditions it sets, and its sync's message."""
    spec: dict[str, Any] = {
        "project": f"team-{project}",
        "source": {"repoURL": repository, "targetRevision": "main", "path": path},
        "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
        "syncPolicy": {"automated": {}, "syncOptions": ["ServerSideApply=true"]},
    }
    metadata = {"name": "trespass", "namespace": "argocd"}
    apply([{"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": metadata, "spec": spec}])

    def answer() -> str:
        status = get("-n", "argocd", "application", "trespass").get("status", {})
        told = [found["message"] for found in status.get("conditions", [])]
        told += [
            each.get("message", "")
            for each in status.get("operationState", {}).get("syncResult", {}).get("resources", [])
        ]
        if not [each for each in told if FORBIDDEN.search(each)]:
            raise Refused(f"nothing is forbidden: {status}")
        return "\n".join(told)

    return str(wait_until("Argo CD objects", answer, 90))


def test_a_team_may_not_deploy_into_the_others_namespace(projects: dict[str, str]) -> None:
    before = [found["metadata"]["resourceVersion"] for found in get("-n", THEIRS, "configmaps")["items"]]
    said = trespass(OURS, projects[OURS], THEIRS, "manifests/overlays/dev")
    assert f"'{THEIRS}'" in said, said
    assert [found["metadata"]["resourceVersion"] for found in get("-n", THEIRS, "configmaps")["items"]] == before


def test_a_teams_repository_may_not_feed_the_others_project(projects: dict[str, str]) -> None:
    assert projects[OURS] in trespass(THEIRS, projects[OURS], THEIRS, "manifests/overlays/staging")


def test_an_object_that_names_the_others_namespace_itself_is_not_synced(projects: dict[str, str]) -> None:
    """The Application is in order; what its path renders is in the other team's namespace."""
    before = [found["metadata"]["resourceVersion"] for found in get("-n", THEIRS, "configmaps")["items"]]
    trespass(OURS, projects[OURS], OURS, "manifests/overlays/staging")
    assert [found["metadata"]["resourceVersion"] for found in get("-n", THEIRS, "configmaps")["items"]] == before
