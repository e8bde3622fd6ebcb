"""Features on the cluster: the real server and the real feature server read one Redis, and outlive it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sluice.errors import Unavailable
from tests.cluster.test_serving import HOST, ready
from tests.support.cluster.checkout import TRIAL, TRIAL_NAMESPACE, Checkout, in_trial
from tests.support.cluster.kubectl import Object, apply, available, get, kubectl, wait_until
from tests.support.cluster.stand_ins import RESTRICTED, behind_a_service
from tests.support.cluster.store import Bundles
from tests.support.servers import free_port
from tests.support.shop_visits import REPO, SHOPS, load_shops

PASSWORD = "only-for-this-test"  # noqa: S105
IMAGE = os.environ.get("SLUICE_TEST_REDIS_IMAGE", "")
pytestmark = pytest.mark.skipif(
    not IMAGE, reason="NOT CHECKED: SLUICE_TEST_REDIS_IMAGE is unset (built from tests/cluster/redis.Dockerfile)"
)
_SERVER = f"/api/v1/namespaces/{TRIAL_NAMESPACE}/services/feature-server:http/proxy"
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
def reading_online(checkout: Checkout, bundles: Bundles, *more: str) -> Iterator[None]:
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


@pytest.fixture
def online(checkout: Checkout, bundles: Bundles, gateway: str, trial: str) -> Iterator[str]:
    """The gateway's address, while a model behind it reads online."""
    with reading_online(checkout, bundles, "feature-server"):
        wait_until("the feature server is ready", lambda: available(TRIAL_NAMESPACE, "feature-server"), 150)
        yield gateway


@contextmanager
def _forwarded(deployment: str, port: int) -> Iterator[str]:
    """A port of one of a deployment's pods, as ``host:port`` here."""
    here = free_port()
    command = ["kubectl", "-n", TRIAL_NAMESPACE, "port-forward", f"deployment/{deployment}", f"{here}:{port}"]
    forward = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"127.0.0.1:{here}"
    finally:
        forward.terminate()
        forward.wait()


def load(tmp_path: Path) -> None:
    """Put the shops into Redis."""
    with _forwarded("redis", 6379) as redis:
        settings = {"SLUICE_REDIS": redis, "SLUICE_REDIS_PASSWORD": PASSWORD, "SLUICE_FEATURES": str(tmp_path)}
        wait_until("the rows are in Redis", lambda: _loaded(settings), 60)


def _loaded(settings: dict[str, str]) -> bool:
    try:
        return load_shops(settings).rows == len(SHOPS)
    except Unavailable:
        return False


def _predict(gateway: str, instance: dict[str, Any]) -> tuple[int, str]:
    return post(gateway + "/v1/models/tiny:predict", {"instances": [instance]}, {"Host": HOST})


def post(url: str, document: Any, headers: dict[str, str]) -> tuple[int, str]:
    """Status and body of one request."""
    body, headers = json.dumps(document), {**headers, "content-type": "application/json"}
    request = urllib.request.Request(url, body.encode(), headers)  # noqa: S310  http by configuration
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def _read_features() -> dict[str, list[Any]]:
    asked = {"feature_service": "shop_visits", "entities": {"shop": ["oak", "yew"]}}
    with _forwarded("feature-server", 6566) as server:
        answer = wait_until("the feature server answers", lambda: _answer(server, asked), 30)
    found = json.loads(answer)
    names = found["metadata"]["feature_names"]
    return {name: result["values"] for name, result in zip(names, found["results"], strict=True)}


def _answer(server: str, asked: Any) -> str:
    try:
        status, text = post(f"http://{server}/get-online-features", asked, {})
    except OSError:  # not forwarded yet
        return ""
    assert status == 200, text
    return text


def test_servers_read_redis_through_an_outage(online: str, tmp_path: Path) -> None:
    load(tmp_path)
    visits, colour = SHOPS["oak"]
    keys, whole = {"shop": "oak", "amount": 1.5}, {"amount": 1.5, "visits": visits, "colour": colour}
    wait_until("the model answers", lambda: _predict(online, keys)[0] == 200, 30)
    assert _predict(online, keys) == _predict(online, whole)
    assert _read_features() == {"shop": ["oak", "yew"], "visits": [visits, None], "colour": [colour, None]}
    for metrics in (_SERVER, _model("proxy")):
        assert 'sluice_feature_freshness_seconds{feature_view="shops"}' in kubectl("get", "--raw", f"{metrics}/metrics")

    kubectl("-n", TRIAL_NAMESPACE, "scale", "deployment", "redis", "--replicas=0")
    wait_until("Redis is gone", lambda: not get("-n", TRIAL_NAMESPACE, "pods", "-l", "app=redis")["items"], 60)
    status, text = _predict(online, keys)
    assert (status, "Redis redis:6379: does not answer" in text) == (500, True)
    assert _predict(online, whole)[0] == 200, "who brings the features needs no Redis"
    assert "+Inf" in kubectl("get", "--raw", f"{_SERVER}/metrics")
    kubectl("-n", TRIAL_NAMESPACE, "scale", "deployment", "redis", "--replicas=1")
    wait_until("Redis is back", lambda: available(TRIAL_NAMESPACE, "redis"), 60)
    load(tmp_path)
    wait_until("the model answers again", lambda: _predict(online, keys)[0] == 200, 30)
    assert _predict(online, keys) == _predict(online, whole)
    assert _restarts() == 0


def _model(what: str) -> str:
    return f"/api/v1/namespaces/{TRIAL_NAMESPACE}/services/tiny-stable-predictor:80/{what}"


def _restarts() -> int:
    ours = [
        pod
        for pod in get("-n", TRIAL_NAMESPACE, "pods")["items"]
        if pod["metadata"]["labels"].get("app.kubernetes.io/name") in {"model-server", "feature-server"}
    ]
    assert len(ours) == 3
    return sum(status["restartCount"] for pod in ours for status in pod["status"]["containerStatuses"])
