"""
The pages for whoever begins, word by word: docs/quickstart.md, and how prod gets its images by digest.

Stand-ins, for what this cluster cannot pull: images of the object store and of Redis (the tests' own, at the same
addresses, with the same keys), KServe's quick install, and the port-forward to Envoy, instead of which the cluster's
own gateway is asked. Nothing else of the manifests is changed, but what the pages tell a reader to.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluice.documents.state import ReleaseState
from sluice.release.file import parse_release, render_release
from tests.support.cluster.checkout import ROOT
from tests.support.cluster.kubectl import Refused, get, kubectl, namespaces, wait_until
from tests.support.cluster.online_features import NEEDS_REDIS
from tests.support.cluster.pages import blocks, commands
from tests.support.cluster.serving import post

pytestmark = NEEDS_REDIS
NOT_HERE = r"^(kind|docker|curl -fsSL https://github.com/kserve) |envoy-gateway-system port-forward"
IMAGE = re.compile(r"ghcr\.io/sluice-ml/(\w+)@sha256:<hex>")


def type_in(checkout: Path, command: str, gateway: str) -> str:
    """What a command of a page prints, typed in the checkout with its placeholders filled in."""
    command = IMAGE.sub(lambda found: os.environ[f"SLUICE_TEST_{found[1].upper()}_IMAGE"], command)
    command = command.replace("http://127.0.0.1:8080", gateway)
    environment = os.environ | {"PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"}
    script = ["bash", "-euo", "pipefail", "-c", command]
    done = subprocess.run(
        script, cwd=checkout, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def section(page: str, title: str) -> list[str]:
    """The commands of a section of a page that a cluster without Docker can run."""
    found = [command for block in blocks(page) if block.section == title for command in commands(block)]
    assert found, f"{page} has no commands in {title!r}"
    return [command for command in found if not re.search(NOT_HERE, command)]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The committed manifests; a cluster without Sluice, before and after."""
    ours = ["sluice-quickstart", "sluice-dev", "sluice-prod"]
    assert not namespaces().keys() & set(ours), "these tests want a cluster without Sluice"
    root = tmp_path_factory.mktemp("quickstart")
    shutil.copytree(ROOT / "manifests", root / "manifests")
    shutil.copy(ROOT / "kustomization.yaml", root)
    use_stand_ins(root / "manifests/quickstart/store")
    yield root
    kubectl("delete", "namespace", "--ignore-not-found", "--wait=true", "--timeout=150s", *ours)
    kubectl("delete", "-k", root / "manifests/cluster", "--ignore-not-found")


def use_stand_ins(store: Path) -> None:
    """The tests' object store in SeaweedFS' place, and their Redis in Valkey's."""
    document = yaml.safe_load((store / "kustomization.yaml").read_text())
    images = {"seaweedfs": "SERVING", "valkey": "REDIS"}
    for entry in document["images"]:
        name, digest = os.environ[f"SLUICE_TEST_{images[entry['name']]}_IMAGE"].split("@")
        entry.pop("newTag")
        entry |= {"newName": name, "digest": digest}
    shutil.copy(ROOT / "tests/support/cluster/object_store.py", store)
    script = {"command": ["python", "/etc/seaweedfs/object_store.py", "/data"], "args": None}
    containers = {"store": script | {"readinessProbe": {"httpGet": None, "tcpSocket": {"port": 9000}}}}
    containers["redis"] = {"command": ["redis-server"]}
    document["configMapGenerator"][0]["files"].append("object_store.py")
    document["patches"] = [{"patch": yaml.safe_dump(deployment_of(name, it))} for name, it in containers.items()]
    (store / "kustomization.yaml").write_text(yaml.safe_dump(document))


def deployment_of(name: str, container: dict[str, Any]) -> dict[str, Any]:
    """A patch of one container."""
    spec = {"template": {"spec": {"containers": [{"name": name} | container]}}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def refusal(overlay: Path) -> str:
    """Why the API server does not take an overlay; empty where it does."""
    try:
        kubectl("apply", "--server-side", "-k", overlay)
    except Refused as error:
        return str(error)
    return ""


def release_in(prod: Path, digest: str | None) -> None:
    """A stable model, and where its bundle is: what a reader commits."""
    state = ReleaseState.empty("flights", "prod").settled(digest, "2013-08-15T12:00:00Z", ())
    (prod / "release/kustomization.yaml").write_bytes(render_release(state))
    path, store = prod / "kustomization.yaml", "AWS_ENDPOINT_URL=http://store.sluice-quickstart:9000"
    setting = f"- {{name: model-storage, behavior: merge, literals: ['{store}', AWS_DEFAULT_REGION=us-east-1]}}\n"
    path.write_text(path.read_text().replace("configMapGenerator:\n", f"configMapGenerator:\n{setting}"))


def ready_pods(namespace: str) -> int:
    """How many model servers are ready there."""
    pods = get("-n", namespace, "pods", "-l", "app.kubernetes.io/name=model-server")["items"]
    conditions = [{each["type"]: each["status"] for each in pod["status"].get("conditions", [])} for pod in pods]
    return sum(each.get("Ready") == "True" for each in conditions)


def answer(checkout: Path, gateway: str) -> dict[str, Any]:
    """What the page's own request gets."""
    (ask,) = [each for each in section("quickstart.md", "A prediction") if each.startswith("curl")]
    (prediction,) = json.loads(type_in(checkout, ask, gateway))["predictions"]
    assert 0 < prediction["score"] < 1
    found: dict[str, Any] = prediction
    return found


class User(threading.Thread):
    """Asks all the time what the page asks, and counts the statuses."""

    def __init__(self, gateway: str) -> None:
        super().__init__(daemon=True)
        self.url, self.end = f"{gateway}/v1/models/flights:predict", threading.Event()
        self.statuses: Counter[int] = Counter()
        (ask,) = [each for each in section("quickstart.md", "A prediction") if each.startswith("curl")]
        self.document = json.loads(re.findall(r"-d '(.*)'", ask)[0])
        self.headers = dict(header.split(": ") for header in re.findall(r"-H '([^']*)'", ask))

    def run(self) -> None:
        while not self.end.wait(0.05):
            try:
                status, _ = post(self.url, self.document, self.headers)
            except OSError:
                status = 0
            self.statuses[status] += 1


@pytest.mark.timeout(1500)
def test_the_pages_lead_to_predictions_a_canary_and_a_prod(checkout: Path, gateway: str) -> None:
    canary = parse_release((checkout / "manifests/quickstart/canary/release/kustomization.yaml").read_bytes(), "canary")
    first, second = canary.stable, canary.candidate
    prod = checkout / "manifests/overlays/prod"
    kubectl("apply", "--server-side", "-k", checkout / "manifests/cluster")
    wait_until("prod is refused as it is shipped", lambda: "not named by its digest" in refusal(prod), 30)
    for command in section("install-on-kubeflow.md", "Images by digest"):
        type_in(checkout, command, gateway)

    for command in section("quickstart.md", "A prediction"):
        type_in(checkout, command, gateway)
    assert answer(checkout, gateway)["digest"] == first

    steps = section("quickstart.md", "A canary")
    for command in steps[:3]:
        type_in(checkout, command, gateway)
    wait_until("both answer", lambda: len({answer(checkout, gateway)["digest"] for _ in range(10)}) == 2, 90)
    shares = Counter(answer(checkout, gateway)["digest"] for _ in range(100))
    assert shares[second] <= 30
    assert set(shares) <= {first, second}

    for command in section("install-on-kubeflow.md", "Install"):
        if "overlays/prod" in command:
            type_in(checkout, command, gateway)
    release_in(prod, first)
    kubectl("apply", "--server-side", "-k", prod)
    wait_until("both pods of prod are ready", lambda: ready_pods("sluice-prod") == 2, 180)

    for command in steps[3:]:
        type_in(checkout, command, gateway)
    wait_until("stable alone answers", lambda: answer(checkout, gateway)["digest"] == first, 30)
    user = User(gateway)
    user.start()
    for step in ("canary", "stable"):
        type_in(checkout, f"sluice apply manifests/quickstart/{step}", gateway)
    user.end.set()
    user.join(30)
    assert set(user.statuses) == {200}, "the waves kept requests from servers that are not there"
    services = get("-n", "sluice-dev", "inferenceservice")["items"]
    assert [each["metadata"]["name"] for each in services] == ["flights-stable"]

    for command in section("quickstart.md", "Remove"):
        type_in(checkout, command, gateway)
    assert not namespaces().keys() & {"sluice-quickstart", "sluice-dev"}
