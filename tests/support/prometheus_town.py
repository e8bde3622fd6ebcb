"""A real Prometheus that scrapes real model servers behind the real splitter, and the exposition of a join."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pytest

from sluice.child_process import ChildServer
from sluice.content import write_bytes
from sluice.documents.event_time import iso
from sluice.documents.evidence import Evidence
from sluice.documents.state import Applied, ReleaseState
from sluice.evidence.prediction_source import PredictionSource, WindowLog
from sluice.gates.policy import GatePolicy, parse_policy
from sluice.models.bundle import BundleManifest, load_bundle
from sluice.prometheus.api import BadAnswer, PrometheusApi
from sluice.tasks.task import Slice, Task
from sluice.workspace import Workspace
from sluice_local.processes import ask, log_directory, start_splitter
from sluice_local.routes import Routes
from sluice_local.traffic import TrafficReplay
from tests.support import tiny_task
from tests.support.patience import url_of, wait_until
from tests.support.tiny_bundle import tiny_rows, write_tiny_bundle

POLICY_TEXT = """
apiVersion: sluice.dev/v1
kind: GatePolicy
task: tiny
environment: dev
select: {}
offline: [{metric: auc, role: success, against: best-baseline}]
online:
  design_effect: 1
  look_every_hours: 1
  label_maturity_hours: 0
  shadow:
    minimum_n: 100
    maximum_hours: 72
    rules:
      - {metric: split, role: quality, alpha: 0.001}
      - {metric: error_rate, role: limit, limit: 0.2}
      - {metric: log_loss, role: guardrail, margin: 0.5}
      - {metric: agreement, role: limit, limit: 0.5}
  canary:
    minimum_n: 100
    maximum_hours: 72
    steps: [40]
    rules:
      - {metric: split, role: quality, alpha: 0.001}
      - {metric: error_rate, role: limit, limit: 0.2}
      - {metric: log_loss, role: guardrail, margin: 3, per_slice: true, minimum_n: 30}
  confirm: {minimum_n: 100, maximum_hours: 72, rules: [{metric: error_rate, role: limit, limit: 0.2}]}
"""
POLICY: GatePolicy = parse_policy(POLICY_TEXT.encode(), "policy")
CURSED = 1313.0
"""An amount that the candidate cannot answer."""
ODD = 1414.0
"""An amount that the candidate refuses."""
REFUSED = 1e39
"""An amount that no server takes."""
FAILING_PREDICTOR = (sys.executable, "-m", "tests.support.failing_predictor")
_TYPES = {"amount": pl.Float64, "visits": pl.Int64, "colour": pl.String}
TASK: Task = dataclasses.replace(
    tiny_task.TASK, entity_keys=(), request_inputs=_TYPES, slices=(Slice("colour", "colour"),)
)
"""Requests bring all features."""


class _NoPublisher:
    """Requests bring all features."""

    def advance(self, to: datetime) -> None:
        """Nothing to publish."""


def rows_at(since: datetime, n: int, cursed: int = 0, refused: int = 0, odd: int = 0) -> pl.DataFrame:
    """n examples with event times within one second; some of them are cursed, refused or odd."""
    rows = tiny_rows(n)
    for i in range(cursed):
        rows[i * (n // max(cursed, 1))] |= {"amount": CURSED}
    for i in range(refused):
        rows[i * (n // refused) + 1] |= {"amount": REFUSED}
    for i in range(odd):
        rows[i * (n // odd) + 2] |= {"amount": ODD}
    times = [since + timedelta(microseconds=1_000_000 * i // n) for i in range(n)]
    return pl.DataFrame(
        [
            {
                "example_id": f"{since:%H%M%S}-{i:04d}",
                "event_time": times[i],
                "label_time": times[i] + timedelta(milliseconds=1),
                "label": int(i % 3 == 0),
                **row,
            }
            for i, row in enumerate(rows)
        ],
        schema={
            "example_id": pl.String,
            "event_time": pl.Datetime("us", "UTC"),
            "label_time": pl.Datetime("us", "UTC"),
            "label": pl.Int8,
            **_TYPES,
        },
    )


@dataclass
class Town:
    """Everything that runs."""

    home: Path
    examples: list[pl.DataFrame] = field(default_factory=list)
    servers: dict[str, ChildServer] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _prometheus: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.workspace = Workspace(self.home)
        self.digests = {
            "stable": write_tiny_bundle(self.workspace.bundles),
            "candidate": write_tiny_bundle(self.workspace.bundles, 0.4),
        }
        self.task: Task = dataclasses.replace(TASK, read_examples=self._read_examples)

    @property
    def prometheus(self) -> int:
        """The port of its Prometheus."""
        return self.ports["prometheus"]

    def open(self) -> None:
        """Start all; the Prometheus scrapes once a second."""
        if shutil.which("prometheus") is None:
            pytest.skip("the binary `prometheus` is absent; Debian: apt-get install prometheus")
        splitter = start_splitter(self.workspace)
        self._open.callback(splitter.stop)
        for role in self.digests:
            self.start(role)
        self.splitter = url_of(splitter)
        self.ports |= {name: _free_port() for name in ("exposition", "releases", "prometheus")}
        self.joined = self.home / "joined.json"
        module = [sys.executable, "-m", "sluice.prometheus.exposition", "--evidence", str(self.joined)]
        self._child([*module, "--port", str(self.ports["exposition"])])
        targets = [f"127.0.0.1:{self.ports[name]}" for name in ("stable", "candidate", "exposition", "releases")]
        found = {"targets": targets, "labels": {"environment": "dev"}}
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "sluice", "honor_labels": True, "static_configs": [found]}],
        }
        (self.home / "prometheus.yml").write_text(json.dumps(config))
        self.start_prometheus()

    def close(self) -> None:
        """End all."""
        for server in self.servers.values():
            server.stop()
        self._open.close()

    def start(self, role: str) -> None:
        """Start a model server; one that ended comes back on its port."""
        digest = self.digests[role]
        command = [*FAILING_PREDICTOR, f"{CURSED}/{ODD}" if role == "candidate" else ""]
        command += ["--bundle", str(self.workspace.bundle(digest)), "--digest", digest, "--model_name", "tiny"]
        command += ["--http_port", str(self.ports.get(role, 0)), "--role", role, "--seldon_names"]
        command += self.log_arguments(role)
        self.servers[role] = ChildServer(command, self.home / f"{role}.log")
        self.ports[role] = urlsplit(url_of(self.servers[role])).port or 0

    def expose_releases(self, remote: Path) -> None:
        """Start the exporter of what a GitOps repository says."""
        module = [sys.executable, "-m", "sluice.monitoring.releases", "--repository", str(remote)]
        self._child([*module, "--clone", str(self.home / "releases.git"), "--port", str(self.ports["releases"])])

    def log_arguments(self, role: str) -> list[str]:
        """Where a server logs."""
        return ["--log", str(log_directory(self.workspace, "dev") / f"{role}.jsonl")]

    def start_prometheus(self) -> None:
        """Start it on its data."""
        command = ["prometheus", f"--config.file={self.home / 'prometheus.yml'}", "--log.level=error"]
        command += [f"--storage.tsdb.path={self.home / 'tsdb'}"]
        command += [f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}"]
        self._prometheus = self._child(command)

    def kill_prometheus(self) -> None:
        """SIGKILL."""
        assert self._prometheus is not None
        self._prometheus.kill()
        self._prometheus.wait(10)

    def _child(self, command: list[str]) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._open.callback(child.wait, 10)
        self._open.callback(child.kill)
        return child

    @property
    def api(self) -> PrometheusApi:
        """A client."""
        return PrometheusApi(f"http://127.0.0.1:{self.ports['prometheus']}")

    def settle(self) -> datetime:
        """Wait until all servers were scraped after now; the next whole second."""
        asked = time.time()
        query = 'timestamp(sluice_server_start_time_seconds{task="tiny"})'

        def scraped() -> bool:
            moments = self._answer(query)
            return len(moments) == len(self.servers) and min(moments) > asked

        wait_until("the Prometheus scrapes the servers", scraped, not_yet=(BadAnswer,))
        moment = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
        time.sleep((moment - datetime.now(UTC)).total_seconds())
        return moment

    def wait_for_scrape(self, part: str, times: int = 1) -> None:
        """Return when Prometheus has scraped the exposition, or what ``part`` names, anew; so many times."""
        query = f'timestamp(up{{instance="127.0.0.1:{self.ports[part]}"}})'
        for _ in range(times):
            asked = time.time()
            wait_until(f"the Prometheus scrapes {part}", lambda: self._answer(query) > [asked], not_yet=(BadAnswer,))  # noqa: B023

    def _answer(self, query: str) -> list[float]:
        api = self.api
        api.begin()
        return [one.value for one in api.vector(query, round(time.time(), 3), {})]

    def route(self, state: ReleaseState) -> None:
        """Tell the splitter what a state says."""
        routes = Routes(
            commit="c1",
            rollout=state.rollout or "",
            stable=f"http://127.0.0.1:{self.ports['stable']}",
            candidate=f"http://127.0.0.1:{self.ports['candidate']}",
            stable_weight=state.stable_weight,
            candidate_weight=state.candidate_weight,
            mirror_percent=state.mirror_percent,
        )
        ask(self.splitter, "/-/routes", "PUT", routes.model_dump())

    def send(self, state: ReleaseState, start: datetime, n: int, **special: int) -> None:
        """One window of n requests from a whole second on."""
        self.examples.append(rows_at(start, n, **special))
        traffic = TrafficReplay(self.workspace, self.task, _NoPublisher(), self.splitter, "dev")
        traffic.window(start, end := start + timedelta(seconds=1), state)
        time.sleep(max((end - datetime.now(UTC)).total_seconds(), 0))

    def _read_examples(self, start: datetime, end: datetime) -> pl.DataFrame:
        return pl.concat(self.examples).filter(pl.col("event_time").is_between(start, end, closed="left"))

    def log_source(self) -> PredictionSource:
        """The prediction log of the same requests."""

        def manifest(digest: str) -> BundleManifest:
            return load_bundle(self.workspace.bundle(digest), digest).manifest

        return PredictionSource(WindowLog(self.workspace.predictions / "dev", self.task), self.task, manifest)

    def join(self, evidence: Evidence) -> None:
        """What whoever joins labels would write."""
        write_bytes(self.joined, evidence.model_dump_json().encode())

    def state(self, since: datetime, stage: str, weight: int) -> ReleaseState:
        """A rollout in a stage."""
        return ReleaseState.model_validate(
            {
                "task": "tiny",
                "environment": "dev",
                "sequence": 2,
                "rollout": f"r{since:%H%M%S}",
                "stage": stage,
                "since": iso(since),
                **self.digests,
                "stable_weight": 100 - weight,
                "candidate_weight": weight,
                "mirror_percent": 100 if stage == "shadow" else 0,
            }
        )


def applied_of(state: ReleaseState) -> Applied:
    """The servers do what the state says."""
    return Applied.of("c1", state)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def town_in(home: Path) -> Iterator[Town]:
    """A town that ends with the block."""
    town = Town(home)
    try:
        town.open()
        yield town
    finally:
        town.close()
