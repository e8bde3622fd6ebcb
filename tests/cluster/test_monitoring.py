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
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
import yaml

from sluice.monitoring.dashboards import DASHBOARDS
from tests.support.cluster.api_server import accepted
from tests.support.cluster.argo_cd import given_argo_cd
from tests.support.cluster.checkout import MONITORING, Checkout, in_trial, with_option
from tests.support.cluster.kubectl import Object, apply, available, get, render, wait_until
from tests.support.cluster.serving import HOST, PREDICT, ask, post, then_servers_are_ready
from tests.support.cluster.store import Bundles
from tests.support.prometheus import answer_of, drawn
from tests.support.release_repository import write_held_release
from tests.support.seldon_dashboard import queries

_JOINED = re.compile(r"sluice_(joined|loss|label|agreement|skew|cells|refusals_alone)|feedback")
_PATCH = """
- {op: replace, path: /spec/template/spec/containers/0/args/0, value: --repository=/repository/main.bundle}
- {op: add, path: /spec/template/spec/containers/0/volumeMounts/-, value: {name: repository, mountPath: /repository}}
- {op: add, path: /spec/template/spec/volumes/-, value: {name: repository, configMap: {name: repository}}}
"""


def test_what_a_cluster_has_once_is_accepted_strictly(checkout: Checkout, monitoring: str) -> None:
    assert accepted(render(checkout.root / "manifests/monitoring")) == 9
    kinds = {found["kind"] for found in render(checkout.root / "manifests/monitoring")}
    assert {"PrometheusRule", "ServiceMonitor", "ConfigMap", "Deployment", "NetworkPolicy"} <= kinds
    given_argo_cd()
    assert accepted(render(checkout.root / "manifests/monitoring/argocd")) == 4
    assert accepted(render(checkout.root / "manifests/monitoring/seldon-analytics")) == 1


def exporter(checkout: Checkout, repository: Path) -> Path:
    """A kustomization of the exporter that reads a Git bundle from a ConfigMap instead of a Git host."""
    bundle = repository.with_name("main.bundle")
    command = ["git", "--git-dir", str(repository), "bundle", "create", str(bundle), "main"]
    subprocess.run(command, check=True, capture_output=True)
    data = {"main.bundle": base64.b64encode(bundle.read_bytes()).decode()}
    metadata = {"name": "repository", "namespace": MONITORING}
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
def prometheus_in(home: Path, monitor: Object) -> Iterator[int]:
    """A Prometheus that scrapes what the monitor says, and the exporter's Service; yields its port."""
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
        service = f"/api/v1/namespaces/{MONITORING}/services/sluice-releases:9090/proxy/metrics"
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
        yield int(address.rpartition(":")[2])


@pytest.fixture
def prometheus(checkout: Checkout, bundles: Bundles, trial: str, monitoring: str, tmp_path: Path) -> Iterator[int]:
    """A canary with both options, the exporter of the Git state that says so, and a Prometheus."""
    state = in_trial("canary", stable=bundles.first, candidate=bundles.second)
    write_held_release(tmp_path / "gitops.git", state)
    apply(exporter(checkout, tmp_path / "gitops.git"))
    once = Checkout(with_option(checkout, "monitoring").parents[2])
    both = Checkout(with_option(once, "seldon-analytics").parents[2])
    apply(both.release(state))
    then_servers_are_ready("stable", "candidate")
    wait_until("the exporter runs", lambda: available(monitoring, "sluice-releases"), 120)
    with prometheus_in(tmp_path, get("-n", trial, "podmonitor", "sluice")) as found:
        yield found


def test_a_prometheus_finds_the_pods_and_every_query_has_data(prometheus: int, bundles: Bundles, gateway: str) -> None:
    wait_until("the servers are scraped", lambda: _scraped(prometheus) == {bundles.first, bundles.second}, 60)
    wait_until("the exporter is scraped", lambda: drawn(prometheus, "sluice_release_read_seconds"), 60)
    for _ in range(3):
        for _ in range(40):
            ask(gateway)
        assert post(gateway + PREDICT, {}, {"Host": HOST})[0] == HTTPStatus.BAD_REQUEST, "it breaks its contract"
        time.sleep(4)  # two scrapes
    assert {panel: query for panel, query in asked() if not drawn(prometheus, query)} == {}
    told = answer_of(prometheus, "query", query="sluice_release_digest")["result"]
    assert {one["metric"]["digest"] for one in told} == {bundles.first, bundles.second}
    missing = "sluice_release_digest unless on (environment, task, digest) sluice_server_start_time_seconds"
    assert answer_of(prometheus, "query", query=missing)["result"] == []


def _scraped(prometheus: int) -> set[str]:
    try:
        rows = answer_of(prometheus, "query", query='sluice_server_start_time_seconds{environment="trial"}')["result"]
    except OSError:
        return set()
    return {row["metric"]["digest"] for row in rows}


def asked() -> Iterator[tuple[str, str]]:
    """Every panel's queries, ours and the chart's, but for what needs a join with labels: nothing joins here."""
    ours = ((panel.title, query) for panels in DASHBOARDS.values() for panel in panels for query, _ in panel.queries)
    yield from ((panel, query) for panel, query in (*ours, *queries()) if not _JOINED.search(query))
