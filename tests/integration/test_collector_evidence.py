"""The same requests say the same from a cluster's store as from the local log, to the last count, and to Prometheus."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest
import yaml

from sluice.documents.event_time import iso
from sluice.documents.evidence import Evidence
from sluice.documents.state import ReleaseState
from sluice.evidence import source
from sluice.evidence.prediction_source import PredictionSource, WindowLog
from sluice.feedback.join import Join
from sluice.feedback.store_source import StoreSource
from sluice.models.bundle import BundleManifest, load_bundle
from sluice.predictions.log import read_lines, window_frame, window_path, write_window
from sluice.release.file import render_release
from tests.support.collector import Post, call
from tests.support.evidence import same_counts, same_moments, same_verdict, source_of
from tests.support.patience import wait_until
from tests.support.prometheus_town import POLICY, POLICY_TEXT, TASK, Town, applied_of, rows_at

SECOND = timedelta(seconds=1)


@dataclass
class ShippingTown(Town):
    """Servers ship to a collector, which is down while requests are sent: so their spools are the local log too."""

    post: Post = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.post = Post(self.home, f"file://{self.home}/store")
        (self.home / "models").mkdir()
        (self.home / "models/tiny").symlink_to(self.workspace.bundles)

    def log_arguments(self, role: str) -> list[str]:
        return ["--collector", self.post.url, "--spool", str(self.home / f"spool-{role}"), "--ship_seconds", "1"]

    def ask_all(self, rows: pl.DataFrame, *addresses: str) -> None:
        """Each example to each address."""
        self.examples.append(rows)
        for row in rows.iter_rows(named=True):
            body = json.dumps({"instances": [{name: row[name] for name in TASK.request_inputs}]}).encode()
            headers = {"x-request-id": row["example_id"], "x-sluice-time": iso(row["event_time"])}
            for address in addresses:
                call(address, "POST", "/v1/models/tiny:predict", body, headers)

    def logged(self) -> list[dict[str, Any]]:
        """The lines that wait on the servers' disks."""
        return [line for role in self.digests for line in read_lines(self.home / f"spool-{role}", {})]

    def deliver(self, labels: pl.DataFrame) -> None:
        """Start the collector, wait until it has all, and send labels; then stop it."""
        self.post.start_collector()
        spools = [f"spool-{role}" for role in self.digests]
        assert all((self.home / name).is_dir() for name in spools)

        def waiting() -> int:
            return sum(self.post.spooled(name) for name in spools)

        wait_until("the store has all lines", lambda: not waiting(), progress=waiting)
        told = [
            {"request_id": row["example_id"], "label": row["label"], "label_time": iso(row["label_time"])}
            for row in labels.iter_rows(named=True)
        ]
        body = json.dumps({"labels": told}).encode()
        assert call(f"127.0.0.1:{self.post.port}", "POST", "/v1/feedback", body)[0] == 200
        assert self.post.collector is not None
        self.post.collector.stop()

    def join_of(self, state: ReleaseState) -> Join:
        """As a pod has it: the ConfigMap and the policy as files."""
        release = self.home / "release"
        release.mkdir(exist_ok=True)
        (literals,) = yaml.safe_load(render_release(state))["configMapGenerator"]
        for literal in literals["literals"]:
            key, _, value = literal.partition("=")
            (release / key).write_text(value)
        (self.home / "policy.yaml").write_text(POLICY_TEXT)
        models = f"file://{self.home}/models"
        task = "tests.support.prometheus_town:TASK"
        return Join(StoreSource(self.post.address, models, {}, task), release, self.home / "policy.yaml", self.joined)

    def local(self, name: str, frames: dict[datetime, pl.DataFrame]) -> PredictionSource:
        """The local source on windows of one hour."""

        def manifest(digest: str) -> BundleManifest:
            return load_bundle(self.workspace.bundle(digest), digest).manifest

        for start, frame in frames.items():
            write_window(window_path(self.home / name, start, start + timedelta(hours=1)), frame)
        return PredictionSource(WindowLog(self.home / name, self.task), self.task, manifest)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShippingTown]:
    found = ShippingTown(tmp_path_factory.mktemp("town"))
    try:
        found.open()
        yield found
    finally:
        found.close()
        for child in found.post.children:
            child.stop()


def same_document(joined: Evidence, local: Evidence) -> None:
    """Part by part, for a message that can be read."""
    for name in Evidence.model_fields:
        assert getattr(joined, name) == getattr(local, name), (local.stage, name)


def labels_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Four of five come."""
    return rows.filter(pl.int_range(pl.len()) % 5 != 0)


def test_a_canary_says_the_same_from_the_store_and_to_prometheus(town: ShippingTown) -> None:
    state = town.state(since := town.settle(), "canary", 40)
    town.route(state)
    rows = rows_at(since, 300, cursed=30)
    town.ask_all(rows, urlsplit(town.splitter).netloc)
    local = town.local("canary", {since: window_frame(town.logged())})
    labels = labels_of(rows)
    town.examples[-1] = labels
    town.deliver(labels)

    now = datetime.now(UTC)
    read_at = max(now, since + timedelta(hours=1))  # the local window must have ended
    logged = local.read(state, POLICY, applied_of(state).model_copy(update={"commit": ""}), read_at)
    same_document(town.join_of(state).once(read_at), logged)
    assert logged.slices.keys() == {"colour=blue", "colour=green", "colour=red"}
    assert logged.strata[0].candidate_imputed is not None
    settings = {source.SETTING: "prediction-log", "SLUICE_TASK": "tests.support.prometheus_town:TASK"}
    settings |= {"SLUICE_PREDICTIONS": town.post.address, "SLUICE_MODELS": f"file://{town.home}/models"}
    meant = applied_of(state).model_copy(update={"commit": ""})
    same_document(source.source_of(settings).read(state, POLICY, meant, read_at), logged)

    logged = town.join_of(state).once(datetime.now(UTC))
    town.settle()
    town.wait_for_scrape("exposition")
    scraped = source_of(town).read(state, POLICY, applied_of(state), datetime.now(UTC))
    same_counts(logged, scraped)
    for mine, other in zip(logged.strata, scraped.strata, strict=True):
        assert mine.candidate_imputed is not None
        assert other.candidate_imputed is not None
        same_moments(mine.candidate_imputed.every, other.candidate_imputed.every)
        same_moments(mine.candidate_imputed.rectifier, other.candidate_imputed.rectifier)
    assert logged.candidate is not None
    assert 0 < logged.candidate.labelled < logged.candidate.due
    same_verdict(state, logged, scraped)


def test_an_unmarked_rollout_is_told_apart_by_digest_and_time(town: ShippingTown) -> None:
    """As behind a plain HTTPRoute: shadow, then canary, then confirm, and nobody says so in a header."""
    begun = datetime(2026, 1, 5, 7, 30, tzinfo=UTC)
    hours = [begun + timedelta(hours=number) for number in range(4)]
    stages = [("shadow", 0), ("canary", 25), ("canary", 25), ("confirm", 100)]
    states = [
        town.state(begun, stage, weight).model_copy(update={"since": iso(hour), "sequence": 10 + number})
        for number, (hour, (stage, weight)) in enumerate(zip(hours, stages, strict=True))
    ]
    states[2] = states[1]  # the second hour of the same step
    both = [f"127.0.0.1:{town.ports[role]}" for role in ("stable", "candidate")]
    frames, sent, earlier = {}, [], len(town.examples)
    for hour, state in zip(hours, states, strict=True):
        rows = rows_at(hour, 80)
        for part, asked in _shares(rows, state, both):
            town.ask_all(part, *asked)
        sent.append(rows)
        lines = [line for line in town.logged() if line["event_time"][:13] == iso(hour)[:13] and _of(line, hour)]
        assert {line["rollout"] for line in lines} == {""}
        frames[hour] = window_frame(_marked(line, state) for line in lines)
    town.deliver(labels := labels_of(pl.concat(sent)))
    town.examples[earlier:] = [labels]
    local = town.local("unmarked", frames)
    for state, end in zip(states, (*hours[1:], hours[-1] + timedelta(hours=1)), strict=True):
        meant = applied_of(state).model_copy(update={"commit": ""})
        same_document(town.join_of(state).once(end), local.read(state, POLICY, meant, end))
    found = town.join_of(states[-1]).once(hours[-1] + timedelta(hours=1))
    assert [one.window for one in found.strata] == [iso(hour) for hour in hours[1:3]]


def _shares(rows: pl.DataFrame, state: ReleaseState, both: list[str]) -> list[tuple[pl.DataFrame, list[str]]]:
    if state.stage == "shadow":
        return [(rows, both)]
    stable = rows.height * state.stable_weight // 100
    return [(rows[:stable], both[:1]), (rows[stable:], both[1:])]


def _of(line: dict[str, Any], hour: datetime) -> bool:
    return bool(hour <= datetime.fromisoformat(line["event_time"]) < hour + timedelta(hours=1))


def _marked(line: dict[str, Any], state: ReleaseState) -> dict[str, Any]:
    """As the splitter would have marked it."""
    route = state.candidate_route if line["digest"] == state.candidate else "stable"
    return line | {"rollout": state.rollout, "route": route}


def test_the_process_joins_and_says_what_is_wrong(town: ShippingTown) -> None:
    state = town.state(datetime.now(UTC).replace(microsecond=0), "canary", 40)
    join = town.join_of(state)
    command = [
        sys.executable,
        "-m",
        "sluice.feedback.join",
        "--store",
        join.source.store,
        "--models",
        join.source.models,
    ]
    command += ["--release", str(join.release), "--policy", str(join.policy), "--output", str(town.home / "out.json")]
    command += ["--task", str(join.source.task), "--every", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = Evidence.model_validate_json((town.home / "out.json").read_bytes())
    assert (found.stage, found.rollout, found.task) == ("canary", state.rollout, "tiny")
    before = (town.home / "out.json").read_bytes()
    (join.release / "stage").write_text("holiday")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("join: ")
    assert "stage" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (town.home / "out.json").read_bytes() == before
