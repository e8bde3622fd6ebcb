"""A real Prometheus finds the pods as the monitors say, and the dashboards' queries have data; nothing is unchecked."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluice.monitoring.dashboards import DASHBOARDS
from tests.cluster.test_serving import HOST, ask, ready
from tests.integration import test_monitoring as alone
from tests.support.cluster.api_server import accepted
from tests.support.cluster.checkout import Checkout, in_trial, with_option
from tests.support.cluster.kubectl import Object, apply, available, get, kubectl, render, wait_until
from tests.support.cluster.store import Bundles
from tests.support.seldon_dashboard import queries

NAMESPACE = "monitoring"
_JOINED = re.compile(r"sluice_(joined|loss|label|agreement|skew|cells)|feedback")
_PATCH = """
- {op: replace, path: /spec/template/spec/containers/0/args/0, value: --repository=/repository/main.bundle}
- {op: add, path: /spec/template/spec/containers/0/volumeMounts/-, value: {name: repository, mountPath: /repository}}
- {op: add, path: /spec/template/spec/volumes/-, value: {name: repository, configMap: {name: repository}}}
"""


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """The namespace of Prometheus, as strict as one can be; gone afterwards."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    wait_until("the namespace of the test before is gone", _is_gone, 120)
    apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}])
    yield NAMESPACE
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def _is_gone() -> bool:
    return NAMESPACE not in {found["metadata"]["name"] for found in get("namespaces")["items"]}


def test_what_a_cluster_has_once_is_accepted_strictly(checkout: Checkout, namespace: str) -> None:
    assert accepted(render(checkout.root / "manifests/monitoring")) == 9
    kinds = {found["kind"] for found in render(checkout.root / "manifests/monitoring")}
    assert {"PrometheusRule", "ServiceMonitor", "ConfigMap", "Deployment", "NetworkPolicy"} <= kinds
    if "argocd" not in {found["metadata"]["name"] for found in get("namespaces")["items"]}:
        pytest.skip("NOT CHECKED: there is no namespace argocd")
    assert accepted(render(checkout.root / "manifests/monitoring/argocd")) == 4
    assert accepted(render(checkout.root / "manifests/monitoring/seldon-analytics")) == 1


def exporter(checkout: Checkout, repository: Path) -> Path:
    """A kustomization of the exporter that reads a Git bundle from a ConfigMap instead of a Git host."""
    bundle = repository.with_name("main.bundle")
    command = ["git", "--git-dir", str(repository), "bundle", "create", str(bundle), "main"]
    subprocess.run(command, check=True, capture_output=True)
    data = {"main.bundle": base64.b64encode(bundle.read_bytes()).decode()}
    metadata = {"name": "repository", "namespace": NAMESPACE}
    apply([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "binaryData": data}])
    directory = checkout.root / "manifests/monitoring-test"
    directory.mkdir()
    patch = {"target": {"kind": "Deployment", "name": "sluice-releases"}, "patch": _PATCH}
    (directory / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["../monitoring"], "patches": [patch]}))
    return directory


def scrape_config(monitor: Object, proxy: str) -> Object:
    """
    What the operator makes of a PodMonitor: the pods that its selector finds, on its port, with its labels.

    By way of the API server, because this Prometheus runs beside the cluster; and found here, because Debian's is built
    without Kubernetes.
    """
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    (wanted,) = monitor["spec"]["selector"]["matchExpressions"]
    selector = f"{wanted['key']} in ({','.join(wanted['values'])})"
    found = get("-n", (namespace := monitor["metadata"]["namespace"]), "pods", "-l", selector)["items"]
    targets = []
    for name in (pod["metadata"]["name"] for pod in found):
        path = f"/api/v1/namespaces/{namespace}/pods/{name}:{endpoint['portNumber']}/proxy{endpoint['path']}"
        labels = {"__metrics_path__": path, "instance": f"{namespace}/{name}", "namespace": namespace, "pod": name}
        targets.append({"targets": [proxy], "labels": labels})
    added = [{"target_label": one["targetLabel"], "replacement": one["replacement"]} for one in endpoint["relabelings"]]
    common = {"job_name": "pods", "honor_labels": endpoint["honorLabels"]}
    return common | {"static_configs": targets, "relabel_configs": added}


@contextlib.contextmanager
def prometheus(home: Path, monitor: Object) -> Iterator[Any]:
    """A Prometheus that scrapes what the monitor says, and the exporter's Service; yields what asks it."""
    if shutil.which("prometheus") is None:
        pytest.skip("NOT CHECKED: the binary `prometheus` is absent; Debian: apt-get install prometheus")
    with contextlib.ExitStack() as stack:

        def start(*command: str | Path) -> subprocess.Popen[str]:
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            stack.callback(child.wait, 20)
            stack.callback(child.kill)
            return child

        output = start("kubectl", "proxy", "--port=0").stdout
        assert output is not None
        proxy = output.readline().split()[-1]
        service = f"/api/v1/namespaces/{NAMESPACE}/services/sluice-releases:9090/proxy/metrics"
        wait = {"scrape_interval": "10s", "scrape_timeout": "10s"}  # Git takes its time
        targets = {"metrics_path": service, "static_configs": [{"targets": [proxy]}]}
        jobs = [scrape_config(monitor, proxy), {"job_name": "releases", "honor_labels": True} | wait | targets]
        config = {"global": {"scrape_interval": "2s", "scrape_timeout": "2s"}, "scrape_configs": jobs}
        (home / "prometheus.yml").write_text(json.dumps(config))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        files = [f"--config.file={home / 'prometheus.yml'}", f"--storage.tsdb.path={home / 'tsdb'}"]
        start("prometheus", *files, f"--web.listen-address={address}", "--log.level=error")
        yield _Town(address)


class _Town:
    """What ``tests/integration/test_monitoring.py`` asks a Prometheus by."""

    def __init__(self, address: str) -> None:
        self.ports = {"prometheus": int(address.rpartition(":")[2])}


@pytest.fixture
def town(checkout: Checkout, bundles: Bundles, trial: str, namespace: str, tmp_path: Path) -> Iterator[Any]:
    """A canary with both options, the exporter of the Git state that says so, and a Prometheus."""
    state = in_trial("canary", stable=bundles.first, candidate=bundles.second)
    alone.release(tmp_path / "gitops.git", state)
    apply(exporter(checkout, tmp_path / "gitops.git"))
    once = Checkout(with_option(checkout, "monitoring").parents[2])
    both = Checkout(with_option(once, "seldon-analytics").parents[2])
    apply(both.release(state))
    for role in ("stable", "candidate"):
        wait_until(f"{role} is ready", lambda role=role: ready(f"tiny-{role}"), 150)  # type: ignore[misc]
    wait_until("the exporter runs", lambda: available(namespace, "sluice-releases"), 120)
    with prometheus(tmp_path, get("-n", trial, "podmonitor", "sluice")) as found:
        yield found


def test_a_prometheus_finds_the_pods_and_every_query_has_data(town: Any, bundles: Bundles, gateway: str) -> None:
    wait_until("the servers are scraped", lambda: _scraped(town) == {bundles.first, bundles.second}, 60)
    wait_until("the exporter is scraped", lambda: alone.drawn(town, "sluice_release_read_seconds"), 60)
    for _ in range(3):
        for _ in range(40):
            ask(gateway)
        refused(gateway)
        time.sleep(4)  # two scrapes
    assert {panel: query for panel, query in asked() if not alone.drawn(town, query)} == {}
    told = alone.get(town, "query", query="sluice_release_digest")["result"]
    assert {one["metric"]["digest"] for one in told} == {bundles.first, bundles.second}
    missing = "sluice_release_digest unless on (environment, task, digest) sluice_server_start_time_seconds"
    assert alone.get(town, "query", query=missing)["result"] == []


def _scraped(town: Any) -> set[str]:
    try:
        rows = alone.get(town, "query", query='sluice_server_start_time_seconds{environment="trial"}')["result"]
    except OSError:
        return set()
    return {row["metric"]["digest"] for row in rows}


def refused(gateway: str) -> None:
    """One request that breaks its contract."""
    headers = {"Host": HOST, "content-type": "application/json"}
    request = urllib.request.Request(f"{gateway}/v1/models/tiny:predict", b"{}", headers)  # noqa: S310
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request, timeout=10)  # noqa: S310


def asked() -> Iterator[tuple[str, str]]:
    """Every panel's queries, ours and the chart's, but for what needs a join with labels: nothing joins here."""
    ours = ((panel.title, query) for panels in DASHBOARDS.values() for panel in panels for query, _ in panel.queries)
    yield from ((panel, query) for panel, query in (*ours, *queries()) if not _JOINED.search(query))
