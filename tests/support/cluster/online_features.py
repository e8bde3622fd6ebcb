"""Redis in the cluster, and a model that reads its features there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sluice.errors import Unavailable
from tests.support.cluster.checkout import TRIAL, TRIAL_NAMESPACE, Checkout, in_trial
from tests.support.cluster.kubectl import Object, apply, available, kubectl, wait_until
from tests.support.cluster.serving import ready
from tests.support.cluster.stand_ins import RESTRICTED, behind_a_service
from tests.support.cluster.store import Bundles
from tests.support.servers import free_port
from tests.support.shop_visits import REPO, SHOPS, load_shops

PASSWORD = "only-for-this-test"  # noqa: S105


IMAGE = os.environ.get("SLUICE_TEST_REDIS_IMAGE", "")
NEEDS_REDIS = pytest.mark.skipif(
    not IMAGE, reason="NOT CHECKED: SLUICE_TEST_REDIS_IMAGE is unset (built from tests/cluster/redis.Dockerfile)"
)


_MOUNT = """
configMapGenerator:
- {name: definitions, files: [definitions.py, feature_store.cluster.yaml]}
patches:
- target: {kind: ServingRuntime}
  patch: |
    - {op: add, path: /spec/volumes/-, value: {name: definitions, configMap: {name: definitions}}}
    - {op: add, path: /spec/containers/0/volumeMounts/-, value: {name: definitions, mountPath: /app/feature_repo}}
- target: {kind: Deployment, name: feature-server}
  patch: |
    - {op: add, path: /spec/template/spec/volumes/-, value: {name: definitions, configMap: {name: definitions}}}
    - op: add
      path: /spec/template/spec/containers/0/volumeMounts/-
      value: {name: definitions, mountPath: /app/feature_repo}
"""
"""The tests' definitions in the place of the image's own."""


def _online_checkout(checkout: Checkout, more: tuple[str, ...]) -> Checkout:
    root = checkout.root.with_name("-".join([checkout.root.name, "feast", *more]))
    shutil.copytree(checkout.root, root)
    overlay = Checkout(root).overlay(TRIAL)
    path, test = overlay / "kustomization.yaml", root / "manifests/options/test-definitions"
    options = ("redis", *more, "test-definitions")
    components = ", ".join(f"../../options/{option}" for option in options)
    path.write_text(path.read_text().replace("[release, ", f"[release, {components}, "))
    test.mkdir()
    head = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"
    (test / "kustomization.yaml").write_text(head + "generatorOptions: {disableNameSuffixHash: true}" + _MOUNT)
    for name in ("definitions.py", "feature_store.cluster.yaml"):
        shutil.copy(REPO / name, test)
    return Checkout(root)


def _redis_objects() -> list[Object]:
    password = {"secretKeyRef": {"name": "redis", "key": "password"}}
    container = {
        "name": "redis",
        "image": IMAGE,
        "args": ["--requirepass", "$(PASSWORD)"],
        "env": [{"name": "PASSWORD", "valueFrom": password}],
        "readinessProbe": {"tcpSocket": {"port": 6379}, "periodSeconds": 1},
        "securityContext": RESTRICTED,
    }
    metadata = {"namespace": TRIAL_NAMESPACE, "name": "redis"}
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"password": PASSWORD}},
        *behind_a_service(TRIAL_NAMESPACE, "redis", 6379, {"containers": [container]}),
    ]


@contextmanager
def given_a_model_that_reads_online(checkout: Checkout, bundles: Bundles, *more: str) -> Iterator[None]:
    """Redis, and the tiny model reading online, with more options; gone afterwards."""
    try:
        apply(_redis_objects())
        apply(_online_checkout(checkout, more).release(in_trial("stable", stable=bundles.online)))
        wait_until("the model is ready before Redis has a row", lambda: ready("tiny-stable"), 150)
        wait_until("redis is ready", lambda: available(TRIAL_NAMESPACE, "redis"), 120)
        yield
    finally:
        for kind in ("deployment", "service", "poddisruptionbudget", "serviceaccount"):
            kubectl("-n", TRIAL_NAMESPACE, "delete", kind, "feature-server", "--ignore-not-found")
        policies = ("networkpolicy/feature-server", "networkpolicy/model-server-redis", "networkpolicy/tracing")
        rest = ("deployment/redis", "service/redis", "secret/redis", "configmap/definitions")
        kubectl("-n", TRIAL_NAMESPACE, "delete", "--ignore-not-found", *policies, *rest)
        apply(checkout.release(in_trial("empty")))


@contextmanager
def forwarded(deployment: str, port: int) -> Iterator[str]:
    """A port of one of a deployment's pods, as ``host:port`` here."""
    here = free_port()
    command = ["kubectl", "-n", TRIAL_NAMESPACE, "port-forward", f"deployment/{deployment}", f"{here}:{port}"]
    forward = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"127.0.0.1:{here}"
    finally:
        forward.terminate()
        forward.wait()


def given_rows_in_redis(tmp_path: Path) -> None:
    """Put the shops into Redis."""
    with forwarded("redis", 6379) as redis:
        settings = {"SLUICE_REDIS": redis, "SLUICE_REDIS_PASSWORD": PASSWORD, "SLUICE_FEATURES": str(tmp_path)}
        wait_until("the rows are in Redis", lambda: _loaded(settings), 60)


def _loaded(settings: dict[str, str]) -> bool:
    try:
        return load_shops(settings).rows == len(SHOPS)
    except Unavailable:
        return False
