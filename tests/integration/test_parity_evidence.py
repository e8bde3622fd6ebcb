"""Parity on a cluster: what servers read from Redis, logged and shipped, a join reads again from the tables on S3."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest
import yaml

from sluice.child_process import ChildServer
from sluice.documents.event_time import iso
from sluice.documents.evidence import Cells, Evidence
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Verdict
from sluice.errors import BadArtifact, Unavailable
from sluice.evidence.measurements.points import PointIndex
from sluice.evidence.measurements.registry import part_of_points, points_of
from sluice.evidence.recheck import recheck_cells
from sluice.features.materialize import materialize
from sluice.features.parity import FeatureHistory
from sluice.feedback.join import Join
from sluice.feedback.store_source import StoreSource
from sluice.gates.online import judge_look
from sluice.gates.policy import parse_policy
from sluice.models.bundle import BundleManifest, Provenance
from sluice.object_store import open_location
from sluice.release.file import render_release
from tests.support.collector import V1, Post, call
from tests.support.patience import url_of, wait_until
from tests.support.release import evidence_of, state_in
from tests.support.servers import Server, redis_server, running, s3_bucket
from tests.support.shop_visits import REPO, SHOPS, TASK, write_online_bundle
from tests.support.tiny_bundle import FEATURES, ZERO

ROOT = Path(__file__).parents[2]
POLICY = ROOT / "manifests/overlays/dev/gate-policy.yaml"
WIDTH = len(FEATURES.names)
START = datetime(2026, 1, 5, 7, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
Rows = Mapping[str, tuple[int, str | None]]


@dataclass
class Place:
    """A collector, a model server on Redis, tables on S3, and what the join is given."""

    home: Path
    post: Post
    s3: Server
    settings: dict[str, str]
    address: str = ""
    digests: tuple[str, str] = ("", "")
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def publish(self, tables: Mapping[datetime, Rows], root: str) -> None:
        """Put a table with these rows at each moment in place."""
        rows = [
            {"event_timestamp": moment, "shop": shop, "visits": visits, "colour": colour}
            for moment, shops in tables.items()
            for shop, (visits, colour) in shops.items()
        ]
        path = self.home / "table.parquet"
        pl.DataFrame(rows, schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")}).write_parquet(path)
        (open_location(root) / "offline" / "shops.parquet").write(path)

    def load(self, until: datetime, **changed: str) -> None:
        """Materialize up to a moment."""
        materialize(TASK, REPO, self.settings | changed, until, since=START - timedelta(days=1))

    def ask(self, moment: datetime, n: int, **instance: Any) -> None:
        """n requests at a moment, for known shops and one that nobody knows, unless an instance is given."""
        for number, shop in zip(range(n), itertools.cycle([*SHOPS, "yew"])):
            body = {"instances": [instance or {"shop": shop, "amount": 0.1 * number}]}
            headers = {"x-request-id": f"q{next(self.numbers)}", "x-sluice-time": iso(moment)}
            assert call(self.address, "POST", V1, json.dumps(body).encode(), headers)[0] == 200

    def delivered(self) -> None:
        """Wait until the store has all lines."""
        wait_until("the store has all lines", lambda: not self.post.spooled(), progress=self.post.spooled)

    def state(self, since: datetime) -> ReleaseState:
        """A candidate that has all traffic from a moment on: what was asked before is not of its stage."""
        named: dict[str, Any] = {"task": "tiny", "stable": self.digests[0], "candidate": self.digests[1]}
        minutes = (since - START) // MINUTE
        state = state_in("confirm", **named, since=iso(since), sequence=5 + minutes, rollout=f"r{minutes}")
        self.release.mkdir(exist_ok=True)
        (literals,) = yaml.safe_load(render_release(state))["configMapGenerator"]
        for literal in literals["literals"]:
            key, _, value = literal.partition("=")
            (self.release / key).write_text(value)
        return state

    @property
    def release(self) -> Path:
        """The ConfigMap as files; it says the state that was made last."""
        return self.home / "release"

    @property
    def output(self) -> Path:
        """The evidence document."""
        return self.home / "joined.json"

    def evidence(self, features: str | None = None) -> Evidence:
        """Of the state that was made last."""
        models, task = f"file://{self.home}/models", "tests.support.shop_visits:TASK"
        where = features or self.settings["SLUICE_FEATURES"]
        source = StoreSource(self.post.address, models, {}, task, features=where, feature_repo=REPO)
        found = Join(source, self.release, POLICY, self.output).once(datetime.now(UTC))
        assert Evidence.model_validate_json(self.output.read_bytes()) == found
        return found

    def join(self, features: str) -> subprocess.CompletedProcess[str]:
        """The same by the command, with settings as a pod has them."""
        command = [sys.executable, "-m", "sluice.feedback.join", "--store", self.post.address, "--policy", str(POLICY)]
        command += ["--models", f"file://{self.home}/models", "--release", str(self.release), "--every", "0"]
        command += ["--settle=0", "--output", str(self.output), "--task", "tests.support.shop_visits:TASK"]
        command += ["--feature_repo", str(REPO)]
        settings = {**os.environ, "SLUICE_FEATURES": features}
        return subprocess.run(command, env=settings, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """All of it, empty."""
    home = tmp_path_factory.mktemp("place")
    with s3_bucket("features") as s3, running(redis_server(home)) as redis, pytest.MonkeyPatch.context() as patch:
        settings = {"SLUICE_REDIS": f"127.0.0.1:{redis.port}", "SLUICE_FEATURES": "s3://features/tiny"}
        patch.setenv("SLUICE_REDIS", settings["SLUICE_REDIS"])
        found = Place(home, Post(home, f"file://{home}/store"), s3, settings)
        try:
            _start(found)
            yield found
        finally:
            for child in found.post.children:
                child.stop()


def _start(place: Place) -> None:
    bundles = place.home / "models/tiny"
    place.digests = write_online_bundle(bundles, 0.4), write_online_bundle(bundles)
    place.post.start_collector()
    digest = place.digests[1]
    command = [sys.executable, "-m", "sluice_serving.predictor", "--digest", digest, "--model_name", "tiny"]
    command += ["--bundle", str(bundles / digest.replace(":", "-")), "--http_port", "0", "--feature_repo", str(REPO)]
    command += ["--collector", place.post.url, "--spool", str(place.home / "spool"), "--ship_seconds", "1"]
    child = ChildServer(command, place.home / "server.log")
    place.post.children.append(child)
    place.address = urlsplit(url_of(child)).netloc


def busier(shops: Rows) -> Rows:
    """Half an hour later."""
    return {shop: (visits + 5, colour) for shop, (visits, colour) in shops.items()}


def cells_of(requests: int, excluded: int = 0, different: int = 0) -> Cells:
    """Of so many requests that were compared, and so many that could not be."""
    return Cells(
        compared=WIDTH * requests,
        excluded=WIDTH * excluded,
        different=different,
        worst="visits" if different else None,
    )


def parity_of(evidence: Evidence, state: ReleaseState) -> tuple[Verdict, str]:
    """What the shipped policy's rule says, to what a gate reads back from Prometheus."""
    policy = parse_policy(POLICY.read_bytes(), str(POLICY))
    cells = part_of_points(PointIndex(point for _, point in points_of(evidence)))["cells"]
    seen = evidence.model_copy(update={"cells": cells})
    (reason,) = [r for r in judge_look(seen, policy.online.stages["confirm"], policy, state) if r.rule == "parity"]
    return reason.verdict, reason.text


def test_a_late_materialization_is_no_difference_and_the_shipped_rule_passes(place: Place) -> None:
    features, first = place.settings["SLUICE_FEATURES"], {START: SHOPS}
    second = {**first, START + 30 * MINUTE: busier(SHOPS)}
    place.publish(first, features)
    place.load(START + 10 * MINUTE)
    place.ask(START + 20 * MINUTE, 40)
    place.publish(second, features)
    place.ask(START + 40 * MINUTE, 12)  # three of four read a row that is not the newest of the table
    place.load(START + 45 * MINUTE)
    place.ask(START + 50 * MINUTE, 40)
    place.ask(START + 51 * MINUTE, 2, amount=1.5, visits=3, colour="red")  # these bring all features
    place.delivered()

    state = place.state(START)
    evidence = place.evidence()
    assert evidence.cells == cells_of(40 + 3 + 40, excluded=9 + 2)
    (source,) = [one for one in evidence.sources if one.name == "parity"]
    assert (source.n, source.first) == (83 * WIDTH, iso(START))
    assert parity_of(evidence, state) == (
        Verdict.PASS,
        "0 of 249 served feature cells differ from the training path's; 33 more cannot be compared",
    )


def test_what_redis_holds_and_no_table_says_is_found(place: Place) -> None:
    begin, wrong = START + 120 * MINUTE, str(place.home / "wrong")
    true = {START + 100 * MINUTE: SHOPS}
    place.publish(true, place.settings["SLUICE_FEATURES"])
    place.publish({START + 100 * MINUTE: SHOPS | {"oak": (99, "red")}}, wrong)
    place.load(begin, SLUICE_FEATURES=wrong)
    place.ask(begin + MINUTE, 20)  # one of four is for the oak
    place.delivered()
    state = place.state(begin)
    evidence = place.evidence()
    assert evidence.cells
    (cell,) = evidence.cells.wrong
    assert (cell.feature, cell.view, cell.different) == ("visits", "shops", 5)
    assert cell.example
    assert cell.example.endswith("is what training would read")
    assert evidence.cells.model_copy(update={"wrong": ()}) == cells_of(20, different=5)
    verdict, text = parity_of(evidence, state)
    assert verdict is Verdict.FAIL
    assert text.startswith("5 of 60 served feature cells differ")


def test_too_few_that_can_be_compared_are_none(place: Place) -> None:
    begin = START + 240 * MINUTE
    place.load(begin)
    place.publish({begin: SHOPS}, place.settings["SLUICE_FEATURES"])
    place.ask(begin + MINUTE, 20)
    place.delivered()
    state = place.state(begin)
    evidence = place.evidence()
    assert evidence.cells == cells_of(5, excluded=15)
    verdict, text = parity_of(evidence, state)
    assert verdict is Verdict.INCONCLUSIVE
    assert text.startswith("15 of 60 served feature cells can be compared, half are needed")


def test_without_a_feature_store_there_is_no_parity_and_the_join_says_why(place: Place) -> None:
    state = place.state(START)
    done = place.join("")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("; no parity, for no feature store is named (--features)\n")
    evidence = Evidence.model_validate_json(place.output.read_bytes())
    assert evidence.cells is None
    verdict, text = parity_of(evidence, state)
    assert (verdict, "was given no feature store" in text) == (Verdict.INCONCLUSIVE, True)


def test_other_definitions_than_the_models_compare_nothing() -> None:
    other = BundleManifest.model_construct(features=FEATURES)
    history = FeatureHistory.at(TASK, REPO, "s3://features/tiny")
    with pytest.raises(BadArtifact, match=f"feature service shop_visits: is sha256:.* here, the model wants {ZERO}"):
        recheck_cells(pl.DataFrame(), other, history)


def test_tables_of_other_code_than_the_frames_are_compared_with_nothing(tmp_path: Path) -> None:
    history = FeatureHistory.at(TASK, REPO, str(tmp_path))
    provenance = Provenance(data="d", frame="f", recipe="r", code="c", tables="t1", window=("", ""))
    features = FEATURES.model_copy(update={"service_digest": history.plan.digest})
    rows = pl.DataFrame({"keys": ["{}"] * 9})

    def found(tables: str | None, mark: str) -> Cells:
        (tmp_path / "tables.json").write_text(mark)
        made_from = provenance.model_copy(update={"tables": tables})
        manifest = BundleManifest.model_construct(features=features, provenance=made_from)
        return recheck_cells(rows.with_columns(as_of=pl.lit(None, pl.String)), manifest, history)

    others = found("t1", '{"code": "t2"}')
    assert others == Cells(compared=0, different=0, excluded=9 * WIDTH, other_tables=True)
    evidence = evidence_of(state := state_in("confirm"), cells=others)
    verdict, text = parity_of(evidence, state)
    assert (verdict, text[:49]) == (Verdict.INCONCLUSIVE, "the feature tables were built by other code than ")
    for tables, mark in (("t1", '{"code": "t1"}'), ("t1", "{}"), ("t1", "torn"), (None, '{"code": "t2"}')):
        assert found(tables, mark) == Cells(compared=0, different=0, excluded=9 * WIDTH)


def test_tables_that_cannot_be_read_leave_the_document_as_it_was(place: Place) -> None:
    """Last, for it ends the object store."""
    place.state(START + 120 * MINUTE)
    place.evidence()
    before = place.output.read_bytes()
    with pytest.raises(Unavailable, match=r"s3://nowhere/tiny/offline/shops\.parquet: cannot be read"):
        place.evidence("s3://nowhere/tiny")
    assert place.output.read_bytes() == before
    place.s3.kill()
    done = place.join(place.settings["SLUICE_FEATURES"])
    assert (done.returncode, place.output.read_bytes()) == (1, before)
    assert done.stderr.startswith("join: s3://features/tiny/tables.json: cannot be read")
    assert len(done.stderr.splitlines()) == 1
