"""
The commands of the documentation, run as they stand: install, follow with Argo CD, operate, remove without a trace.

Fenced blocks without a language (or ``sh``, ``bash``) are run whole; in the runbook, inline ``sluice`` and ``kubectl``
commands too. Objects in ``yaml`` blocks are applied in a strict dry run if the cluster knows their kind. What a reader
fills in is filled in by ``filled``; a placeholder that is not there fails the test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from sluice.gitops.writer import GitOps
from sluice.rollout.advance import propose
from tests.support.cluster.argo_cd import given_argo_cd, then_argo_cd_is_calm
from tests.support.cluster.checkout import ENVIRONMENTS, ROOT, Checkout, write_checkout
from tests.support.cluster.kubectl import Object, Refused, apply, get, kubectl, namespaces, wait_until
from tests.support.cluster.pages import Block, blocks, commands
from tests.support.release import GOOD
from tests.support.tiny_bundle import write_tiny_bundle

NOT_HERE = {
    r"^cosign ": "cosign is in no Debian package",
    r"^jq .*signed.json": "as cosign",
    r"^ssh-keyscan ": "it asks the Git host",
    r"job[ /]look|cronjob gate": "the option gate; test_gate.py",
    r"^sluice apply": "tests/cluster/test_quickstart.py",
    r"^sluice propose": "tests/integration/test_propose.py; it wants a bundle",
    r"^sluice run": "minutes; tests/integration/test_story.py",
    r"^sluice (decide|gate)": "tests/unit and test_gate.py run it with files of theirs",
    r"^git .*push --force": "tests/integration/test_rewritten.py rewrites a history and takes it back",
    r"sluice-releases": "test_monitoring.py",
    r"^curl -H 'Host: preview-": "there is a preview in that stage alone; test_gate.py asks it",
    r"deploy/collector": "the option collector; test_collector.py",
}
"""Commands that are not run here, and why or where they are."""
UNDERSTOOD = (0, 3)
"""A command of ``sluice`` did what it says, or a rule forbids it in this state; 2 would be a wrong command line."""
PLACEHOLDER = re.compile(r"<[a-zA-Z][a-zA-Z ]*>|…")
IGNORED = {"Event", "EndpointSlice", "Endpoints", "Lease", "Node", "Pod", "PodMetrics", "NodeMetrics", "CSINode"}
"""Kinds that a cluster changes by itself."""
PLACES = ("argocd", "kserve", "default", "kube-system")


def inline(document: str) -> list[str]:
    """The commands in a document's sentences; one without any option is a mention."""
    text = re.sub(r"```.*?```", "", (ROOT / "docs" / document).read_text(), flags=re.DOTALL)
    found = [" ".join(each.split()) for each in re.findall(r"`((?:sluice|kubectl) [^`]+)`", text)]
    return [each for each in found if re.search(r" -|:|<", each)]


def shown(block: Block) -> list[Object]:
    """The objects that a block shows, of kinds that this cluster knows."""
    if block.language != "yaml":
        return []
    known = set(kubectl("api-resources", "--no-headers").split())
    return [each for each in yaml.safe_load_all(block.text) if "kind" in each and each["kind"] in known]


@dataclass(frozen=True)
class Reader:
    """Somebody with a checkout, a cluster and a release history who types what the documentation says."""

    checkout: Checkout
    followed: GitOps
    """The repository that Argo CD follows; nothing is pushed there yet."""
    home: Path
    filled: dict[str, str]

    def does(self, command: str) -> None:
        """Run one command in the checkout."""
        if any(re.search(pattern, command) for pattern in NOT_HERE):
            return
        for placeholder, value in self.filled.items():
            command = command.replace(placeholder, value)
        open_ = PLACEHOLDER.search(command)
        assert not open_, f"{command!r}: {open_ and open_[0]!r} is not filled in; teach `filled` in this test"
        path = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "SLUICE_HOME": str(self.home)}
        script = ["bash", "-euo", "pipefail", "-c", command]
        done = subprocess.run(
            script, cwd=self.checkout.root, env=environment, capture_output=True, text=True, check=False, timeout=240
        )
        allowed = UNDERSTOOD if command.startswith("sluice ") else (0,)
        assert done.returncode in allowed, f"{command}\n{done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """A cluster without Sluice, before and after."""
    ours = [f"sluice-{environment}" for environment in ENVIRONMENTS]
    given_argo_cd()
    assert not namespaces().keys() & set(ours), "these tests want a cluster without Sluice"
    metadata = {"name": "argocd-notifications-cm", "namespace": "argocd"}
    lacks = "argocd-notifications-cm" not in config_maps()
    if lacks:  # whoever installed Argo CD whole has it
        apply([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}])
    for file, name in (("health", "argocd-cm"), ("notifications", "argocd-notifications-cm")):
        ours_there = yaml.safe_load((ROOT / f"manifests/argocd/settings/{file}.yaml").read_text())["data"]
        forget = json.dumps({"data": dict.fromkeys(ours_there)})  # an earlier test may have set them
        kubectl("-n", "argocd", "patch", "configmap", name, "--type=merge", "-p", forget)
    checkout = write_checkout(tmp_path / "checkout", images=False)
    (tmp_path / "home").mkdir()
    followed, repository = GitOps(tmp_path / "followed.git", "dev"), GitOps(tmp_path / "home/gitops.git", "dev")
    repository.seed(checkout.root)
    source = checkout.root / "manifests/argocd/kustomization.yaml"
    address = f"file://{tmp_path}/followed.git"
    source.write_text(source.read_text().replace("https://github.com/sluice-ml/sluice.git", address))
    digest = write_tiny_bundle(tmp_path / "store")
    shutil.copy(tmp_path / "store" / digest.replace(":", "-") / "bundle.json", checkout.root)
    (checkout.root / "known_hosts").write_text("git.example.com ssh-ed25519 AAAA\n")
    assert repository.commit(lambda snapshot: propose(snapshot, digest, GOOD, {}, {}, "2020-01-01T00:00:00Z"))
    yield Reader(checkout, followed, tmp_path / "home", filled(digest, f"file://{tmp_path}/home/gitops.git"))
    kubectl("delete", "-k", checkout.root / "manifests/argocd", "--ignore-not-found")
    kubectl("delete", "namespace", "--ignore-not-found", *ours)
    kubectl("delete", "-k", checkout.root / "manifests/cluster", "--ignore-not-found")
    if lacks:
        kubectl("-n", "argocd", "delete", "configmap", "argocd-notifications-cm")


def filled(digest: str, repository: str) -> dict[str, str]:
    """What a reader writes in place of each placeholder."""
    return {
        "ssh://git@github.com/sluice-ml/sluice.git": repository,
        "ghcr.io/sluice-ml/serving@sha256:<hex>": os.environ.get("SLUICE_TEST_SERVING_IMAGE", ""),
        "ghcr.io/sluice-ml/steps@sha256:<hex>": os.environ.get("SLUICE_TEST_STEPS_IMAGE", ""),
        "sha256-<hex>": digest.replace(":", "-"),
        "sha256:<prefix>": digest[:15],
        "sha256:…": digest,
        "<decision id>": digest[:15],
        "sluice-<env>": "sluice-dev",
        "sluice-<environment>": "sluice-dev",
        "--env …": "--env dev",
        "'…'": "'a reason'",
        '"…"': "'a reason'",
        "--reason …": "--reason 'a reason'",
    }


def config_maps() -> dict[str, dict[str, str]]:
    """What Argo CD's settings are, by ConfigMap."""
    return {each["metadata"]["name"]: each.get("data") or {} for each in get("-n", "argocd", "configmaps")["items"]}


def everything() -> set[str]:
    """Kind, namespace and name of all that is in the cluster and in the namespaces that these commands touch."""
    kinds = kubectl("api-resources", "--verbs=list", "-o", "name").split()
    columns = "custom-columns=KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name"
    rows = [line.split() for line in kubectl("get", ",".join(kinds), "-A", "--no-headers", "-o", columns).splitlines()]
    return {
        "/".join(row)
        for row in rows
        if row[0] not in IGNORED
        and (row[1] in PLACES or row[1].startswith("sluice-") or row[1] == "<none>")
        and (row[0] != "Namespace" or row[2] in PLACES or row[2].startswith("sluice-"))
    }


def _is_as(before: set[str]) -> bool:
    if changed := everything() ^ before:
        raise Refused(f"a trace is left, or something is lost: {sorted(changed)}")
    return True


@pytest.mark.timeout(1200)
def test_the_commands_of_the_documentation_work_and_leave_no_trace(reader: Reader) -> None:
    before, settings = everything(), config_maps()
    for block in blocks("install-on-kubeflow.md"):
        if objects := shown(block):
            apply(objects, "--dry-run=server")
        for command in commands(block) if block.section not in ("Remove", "Try it all") else []:
            reader.does(command)
    made = {each for each in everything() - before if "/<none>/" in each}
    assert all(each.rpartition("/")[2].startswith("sluice") for each in made), made

    reader.followed.seed(reader.checkout.root)
    for block in blocks("gitops.md"):
        for command in commands(block):
            reader.does(command)
    then_argo_cd_is_calm(120)
    assert config_maps()["argocd-cm"] != settings["argocd-cm"], "the health check was never set"
    for command in [each for block in blocks("runbook.md") for each in commands(block)] + inline("runbook.md"):
        reader.does(command)

    removal = [block for block in blocks("install-on-kubeflow.md") if block.section == "Remove"]
    for command in [each for block in removal for each in commands(block)]:
        reader.does(command)
    wait_until("no trace is left, and nothing is lost", lambda: _is_as(before), 60)
    assert config_maps() == settings
