"""
A cluster with Sluice installed from a copy of the checkout, a store with bundles, and a gateway.

    KUBECONFIG                  which cluster; without it nothing here is checked
    SLUICE_TEST_SERVING_IMAGE   the server's image, by digest, where the nodes find it
    SLUICE_TEST_STEPS_IMAGE     the steps' image, likewise
    SLUICE_TEST_GATEWAY         where the gateway answers; http://127.0.0.1:16080
    SLUICE_TEST_GATEWAY_CLASS   its controller; sluice.test/gateway
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, ReadWriteLock
from xdist.scheduler import LoadScopeScheduling

from tests.support.cluster.argo_cd import followed
from tests.support.cluster.checkout import (
    MONITORING,
    TRIAL_NAMESPACE,
    Checkout,
    add_trial,
    write_checkout,
)
from tests.support.cluster.installation import empty, gateway_objects, install, remove
from tests.support.cluster.kubectl import apply, kubectl, namespaces, wait_until
from tests.support.cluster.promotion import Promotion
from tests.support.cluster.store import Bundles, fill_store

FOLLOWED = ("test_faults.py", "test_gate.py", "test_promotion.py", "test_tenancy.py")
"""Their environments are the shipped ones, and Argo CD has them. The others release in one of the tests' own."""

ASK_ONLY = ("test_manifests.py", "test_run_note.py", "test_steps.py", "test_train_on_nodes.py")
"""Their tests leave the environments as they are. They come first, while ``test_faults.py`` kills the gateway."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a cluster."""
    ours = [item for item in items if Path(item.path).parent == Path(__file__).parent]
    unverified = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # a test cluster's own certificate
    for item in ours:
        item.add_marker(pytest.mark.cluster)
        item.add_marker(unverified)
        if not os.environ.get("KUBECONFIG"):
            item.add_marker(
                pytest.mark.skip(reason="NOT CHECKED: KUBECONFIG is unset, so no cluster saw the manifests")
            )
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    name = Path(item.path).name
    if name in ("test_docs.py", "test_quickstart.py"):
        return 0  # they install and remove everything themselves
    return 1 if name in ASK_ONLY else 2


class TwoLanes(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist's own groups are lost with pytest 9
    """What Argo CD follows is tested one after the other, beside it what is applied by hand."""

    def _split_scope(self, nodeid: str) -> str:
        return "followed" if Path(nodeid.split("::", maxsplit=1)[0]).name in FOLLOWED else "by hand"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TwoLanes:
    """For ``--numprocesses 2``."""
    return TwoLanes(config, log)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout for tests that apply by hand."""
    return add_trial(write_checkout(tmp_path_factory.mktemp("checkout")))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> Path:
    """A directory that all processes of this run have."""
    path = tmp_path_factory.getbasetemp().parent / f"cluster-{testrun_uid}"
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture(scope="session")
def image() -> str:
    """The steps' image as the nodes have it."""
    reference = os.environ.get("SLUICE_TEST_STEPS_IMAGE", "")
    if not reference:
        pytest.skip("NOT CHECKED: SLUICE_TEST_STEPS_IMAGE names no image of the steps")
    return reference


@pytest.fixture(scope="session")
def installed(checkout: Checkout, shared: Path) -> Iterator[list[str]]:
    """
    What a cluster has once, and the environments with nothing released; removed at the end.

    By the first process of this run that wants it, and by the last that is done with it.
    """
    told, turn = shared / "installed.json", FileLock(shared / "installed.lock")
    with turn:
        lines, users = json.loads(told.read_text()) if told.exists() else (install(checkout), 0)
        told.write_text(json.dumps([lines, users + 1]))
    yield lines
    with turn:
        _, users = json.loads(told.read_text())
        told.write_text(json.dumps([lines, users - 1]))
        if users == 1:
            remove(checkout)
            for each in shared.glob("*.json"):
                each.unlink()


@pytest.fixture(scope="session")
def gateway() -> str:
    """Where the gateway answers; made if it is not there."""
    apply(gateway_objects())
    return os.environ.get("SLUICE_TEST_GATEWAY", "http://127.0.0.1:16080")


@pytest.fixture(scope="session")
def bundles(installed: list[str], shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Bundles in a store that runs as a pod; one for all processes of this run."""
    told = shared / "bundles.json"
    with FileLock(shared / "bundles.lock"):
        if not told.exists():
            told.write_text(json.dumps(asdict(fill_store(tmp_path_factory.mktemp("store")))))
    return Bundles(**json.loads(told.read_text()))


@pytest.fixture
def dev(installed: list[str]) -> Iterator[str]:
    """The namespace of dev; what a test released in it is gone afterwards."""
    yield "sluice-dev"
    empty("sluice-dev")


@pytest.fixture
def trial(installed: list[str], shared: Path) -> Iterator[str]:
    """The namespace of the tests' own environment, likewise; meanwhile nobody kills the gateway."""
    with ReadWriteLock(shared / "gateway.db").read_lock():
        yield TRIAL_NAMESPACE
        empty(TRIAL_NAMESPACE)


@pytest.fixture
def gateway_may_die(shared: Path) -> Iterator[None]:
    """Nobody else relies on the gateway meanwhile."""
    with ReadWriteLock(shared / "gateway.db").write_lock():
        yield


@pytest.fixture
def promotion(bundles: Bundles, gateway: str, dev: str, tmp_path: Path) -> Iterator[Promotion]:
    """Argo CD follows a repository of the test's own; nothing is released yet."""
    checkout = write_checkout(tmp_path / "checkout")
    with followed(checkout, tmp_path / "gitops.git") as gitops:
        yield Promotion(gitops)


@pytest.fixture(scope="module")
def monitoring() -> Iterator[str]:
    """The namespace of Prometheus, as strict as one can be; gone afterwards."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    wait_until("the namespace of the test before is gone", lambda: MONITORING not in namespaces(), 120)
    apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MONITORING, "labels": labels}}])
    yield MONITORING
    kubectl("delete", "namespace", MONITORING, "--wait=false")
