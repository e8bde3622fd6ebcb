"""The gate on a cluster: as an object that looks once, and as the command of its CronJob."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sluice.documents.event_time import moment_of
from sluice.evidence.source import EvidenceSource
from sluice.gitops.writer import GitOps
from sluice.prometheus.api import PrometheusApi, ReadingLimits
from sluice.prometheus.source import PrometheusSource
from sluice_cluster.gate import Gate
from tests.support.command import sluice
from tests.support.kube_api import kube_api


def write_kubeconfig(path: Path, server: str = "https://127.0.0.1:9") -> None:
    """A kubeconfig of one cluster, by default one that does not answer."""
    named: dict[str, Any] = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "x", **named}))


SETTINGS = {
    "SLUICE_ENVIRONMENT": "dev",
    "SLUICE_NAMESPACE": "sluice-dev",
    "SLUICE_PROMETHEUS_URL": "http://127.0.0.1:9",
}


def sluice_gate(
    tmp_path: Path, seen: dict[str, str] | None = None, /, **settings: str
) -> subprocess.CompletedProcess[str]:
    """One look with a cluster that remembers what is ``seen``."""
    with kube_api({} if seen is None else seen) as server:
        return sluice_gate_at(tmp_path, server, **settings)


def sluice_gate_at(tmp_path: Path, server: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """One look with the API server at an address."""
    write_kubeconfig(tmp_path / "kubeconfig", server)
    here = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "kubeconfig")}
    return sluice("gate", env=here | SETTINGS | settings)


DOWN = PrometheusApi("http://127.0.0.1:9", limits=ReadingLimits(attempts=2), pause=lambda _: None)


def gate_of(gitops: GitOps, cluster: Any, now: str, source: EvidenceSource | None = None) -> Gate:
    """A gate at a moment; without a source it asks a Prometheus that is down."""
    found = source or PrometheusSource(DOWN, marked=False)
    return Gate(gitops, cluster, "sluice-dev", found, _pod_question(cluster), 0.0, lambda: moment_of(now))


def _pod_question(cluster: Any) -> Callable[[Any], str]:
    ask: Callable[[Any], str] = getattr(cluster, "ask", str)
    return ask
