"""
A cluster with Sluice installed from a copy of the checkout, a store with bundles, and a gateway.

    KUBECONFIG                  which cluster; without it nothing here is checked
    SLUICE_TEST_SERVING_IMAGE   the server's image, by digest, where the nodes find it
    SLUICE_TEST_STEPS_IMAGE     the steps' image, likewise
    SLUICE_TEST_GATEWAY         where the gateway answers; http://127.0.0.1:16080
    SLUICE_TEST_GATEWAY_CLASS   its controller; sluice.test/gateway
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from filelock import FileLock
from xdist.scheduler import LoadScopeScheduling

from sluice.release.document import render_holds, render_release
from sluice.release.state import ReleaseState
from tests.cluster.kubectl import Object, Refused, apply, get, kubectl, wait_until
from tests.cluster.stand_ins import RESTRICTED, behind_a_service
from tests.integration.shop_visits import write_online_bundle
from tests.integration.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ("dev", "staging", "prod")
STORE = "sluice-test-store"


ASK_ONLY = ("test_manifests.py", "test_steps.py")
"""Their tests leave the environments as they are."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a cluster."""
    ours = [item for item in items if Path(item.path).parent == Path(__file__).parent]
    for item in ours:
        item.add_marker(pytest.mark.cluster)
        if not os.environ.get("KUBECONFIG"):
            item.add_marker(
                pytest.mark.skip(reason="NOT CHECKED: KUBECONFIG is unset, so no cluster saw the manifests")
            )
    items.sort(key=lambda item: Path(item.path).name != "test_docs.py")  # it installs and removes everything itself


class TwoLanes(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist's own groups are lost with pytest 9
    """What runs in the environments is tested one after the other, beside it what only asks."""

    def _split_scope(self, nodeid: str) -> str:
        return "asks" if Path(nodeid.split("::", maxsplit=1)[0]).name in ASK_ONLY else "environments"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TwoLanes:
    """For ``--numprocesses 2``."""
    return TwoLanes(config, log)


@dataclass(frozen=True)
class Checkout:
    """A copy of the checkout's manifests that deploys the test's images, task and store."""

    root: Path

    def overlay(self, environment: str) -> Path:
        """Directory of an environment."""
        return self.root / "manifests/overlays" / environment

    def release(self, state: ReleaseState) -> Path:
        """Write a release and its holds; returns the overlay to apply."""
        overlay = self.overlay(state.environment)
        (overlay / "release/kustomization.yaml").write_bytes(render_release(state))
        (overlay / "release/holds.yaml").write_bytes(render_holds(state.holds))
        return overlay


@dataclass(frozen=True)
class Bundles:
    """Digests of bundles in the test's store."""

    first: str
    second: str
    third: str
    tampered: str
    """Its model is not what its manifest says."""
    failing: str
    """It answers requests like those of ``test_serving.ask`` with errors."""
    signer: str
    """Public key in PEM of who signed ``first``; ``second`` has somebody else's signature, ``third`` none."""
    online: str
    """Reads the features of ``tests/integration/shop_visits_repo``."""


def write_checkout(root: Path) -> Checkout:
    """Copy manifests; replace images by the tests', the task by the tiny one, and name the tests' store."""
    shutil.copytree(ROOT / "manifests", root / "manifests")
    shutil.copy(ROOT / "kustomization.yaml", root)
    _use_images(root / "manifests/images/kustomization.yaml")
    store = "- {name: model-storage, behavior: merge, literals: [AWS_ENDPOINT_URL=http://store.%s.svc:9000]}\n"
    for environment in ENVIRONMENTS:
        overlay = root / "manifests/overlays" / environment
        path = overlay / "kustomization.yaml"
        path.write_text(path.read_text().replace("configMapGenerator:\n", "configMapGenerator:\n" + store % STORE))
        policy = (ROOT / "tests/integration/tiny_checkout/manifests/overlays/dev/gate-policy.yaml").read_text()
        came = {"staging": "\npromote_from: dev", "prod": "\npromote_from: staging"}.get(environment, "")
        named = policy.replace("environment: dev", f"environment: {environment}{came}")
        (overlay / "gate-policy.yaml").write_text(named)
        Checkout(root).release(ReleaseState.empty("tiny", environment))
    return Checkout(root)


def with_option(checkout: Checkout, option: str, environment: str) -> Path:
    """A copy of the checkout in which one environment has one option; returns its overlay."""
    root = checkout.root.with_name(f"{checkout.root.name}-{option}-{environment}")
    if not root.exists():
        shutil.copytree(checkout.root, root)
        path = Checkout(root).overlay(environment) / "kustomization.yaml"
        before = path.read_text()
        path.write_text(before.replace("[release, ", f"[release, ../../options/{option}, "))
        assert path.read_text() != before
    return Checkout(root).overlay(environment)


def _use_images(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    for image in document["images"]:
        if image["name"] == "sluice/steps-gpu":
            continue  # nothing that these tests apply names it
        variable = f"SLUICE_TEST_{image['name'].removeprefix('sluice/').upper()}_IMAGE"
        reference = os.environ.get(variable, "")
        if not re.fullmatch(r"[^@]+@sha256:[0-9a-f]{64}", reference):
            pytest.exit(f"{variable} must name an image by its digest, got {reference!r}", returncode=2)
        image.pop("newTag", None)
        image["newName"], image["digest"] = reference.split("@")
    path.write_text(yaml.safe_dump(document))


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout for tests that apply by hand."""
    return write_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="session")
def installed(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> Iterator[list[str]]:
    """
    What a cluster has once, and the three environments with nothing released; removed at the end.

    By the first process of this run that wants it, and by the last that is done with it.
    """
    told = tmp_path_factory.getbasetemp().parent / f"installed-{testrun_uid}"
    turn = FileLock(f"{told}.lock")
    with turn:
        lines, users = json.loads(told.read_text()) if told.exists() else (_install(checkout), 0)
        told.write_text(json.dumps([lines, users + 1]))
    yield lines
    with turn:
        _, users = json.loads(told.read_text())
        told.write_text(json.dumps([lines, users - 1]))
        if users == 1:
            _remove(checkout)


_OURS = [f"sluice-{environment}" for environment in ENVIRONMENTS] + [STORE]


def _install(checkout: Checkout) -> list[str]:
    there = {found["metadata"]["name"] for found in get("namespaces")["items"]} & set(_OURS)
    if there:
        pytest.exit(f"namespaces {sorted(there)} exist: these tests want a cluster without Sluice", returncode=2)
    try:
        lines = apply(checkout.root / "manifests/cluster")
        for environment in ENVIRONMENTS:
            lines += apply(checkout.overlay(environment))
    except Refused:
        _remove(checkout)
        raise
    return lines


def _remove(checkout: Checkout) -> None:
    kubectl("delete", "namespace", "--ignore-not-found", "--wait=true", "--timeout=120s", *_OURS)
    kubectl("delete", "--ignore-not-found", "-k", checkout.root / "manifests/cluster")


@pytest.fixture(scope="session")
def gateway() -> str:
    """Where the gateway answers; made if it is not there."""
    apply(
        [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kserve"}},
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "GatewayClass",
                "metadata": {"name": "sluice-test"},
                "spec": {"controllerName": os.environ.get("SLUICE_TEST_GATEWAY_CLASS", "sluice.test/gateway")},
            },
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "Gateway",
                "metadata": {"name": "kserve-ingress-gateway", "namespace": "kserve"},
                "spec": {
                    "gatewayClassName": "sluice-test",
                    "listeners": [
                        {
                            "name": "http",
                            "protocol": "HTTP",
                            "port": 80,
                            "allowedRoutes": {"namespaces": {"from": "All"}},
                        }
                    ],
                },
            },
        ]
    )
    return os.environ.get("SLUICE_TEST_GATEWAY", "http://127.0.0.1:16080")


@pytest.fixture(scope="session")
def bundles(installed: list[str], tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Bundles in a store that runs as a pod."""
    root = tmp_path_factory.mktemp("store")
    models = root / "models/tiny"
    kinds: tuple[tuple[float, float | None], ...] = ((0.5, None), (0.6, None), (0.7, None), (0.8, None), (0.9, 1.5))
    first, second, third, tampered, failing = (write_tiny_bundle(models, *kind) for kind in kinds)
    found = Bundles(first, second, third, tampered, failing, _sign(models, first), write_online_bundle(models))
    _sign(models, found.second)
    model = models / found.tampered.replace(":", "-") / "model.tflite"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    apply(_store_objects(root))
    wait_until("the store runs", lambda: _available(STORE, "store"), 180)
    return found


def _sign(models: Path, digest: str) -> str:
    """Sign a stored bundle with a key that nobody keeps; returns the public one."""
    key, name = Ed25519PrivateKey.generate(), digest.replace(":", "-")
    signature = base64.b64encode(key.sign((models / name / "bundle.json").read_bytes()))
    (models / f"{name}.sig").write_bytes(signature)
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _available(namespace: str, deployment: str) -> bool:
    status = get("-n", namespace, "deployment", deployment)["status"]
    return bool(status.get("availableReplicas") == status.get("replicas"))


def _store_objects(root: Path) -> list[Object]:
    files = {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    keys = {name: f"object-{number}" for number, name in enumerate(files)}
    metadata = {"namespace": STORE, "name": "store"}
    container = {
        "name": "store",
        "image": os.environ["SLUICE_TEST_SERVING_IMAGE"],
        "command": ["python", "/script/object_store.py", "/objects", "/written"],
        "securityContext": RESTRICTED | {"readOnlyRootFilesystem": True},
        "readinessProbe": {"tcpSocket": {"port": 9000}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "script", "mountPath": "/script"},
            {"name": "objects", "mountPath": "/objects"},
            {"name": "written", "mountPath": "/written"},
        ],
    }
    objects = [{"key": keys[name], "path": name} for name in files]
    pod = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [
            {"name": "script", "configMap": {"name": "store", "items": [{"key": "script", "path": "object_store.py"}]}},
            {"name": "objects", "configMap": {"name": "store", "items": objects}},
            {"name": "written", "emptyDir": {}},
        ],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": STORE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {"script": Path(__file__).with_name("object_store.py").read_text()},
            "binaryData": {keys[name]: base64.b64encode(data).decode() for name, data in files.items()},
        },
        *behind_a_service(STORE, "store", 9000, pod),
    ]


@pytest.fixture
def dev(installed: list[str]) -> Iterator[str]:
    """The namespace of dev; what a test released in it is gone afterwards."""
    yield "sluice-dev"
    for kind in ("cronjob", "job", "httproute", "inferenceservice"):
        try:
            kubectl("-n", "sluice-dev", "delete", kind, "--all", "--wait=true")
        except Refused as error:
            pytest.fail(f"cannot clean up: {error}")
    wait_until("the pods are gone", lambda: not get("-n", "sluice-dev", "pods")["items"], 120)
