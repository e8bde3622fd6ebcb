"""The watch over production on what a collector stored in S3: predictions, and labels that came a day later."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from kfp import local

from sluice.content import canonical_json
from sluice.documents.evaluation import Curves, Estimate, Evaluation
from sluice.documents.event_time import iso
from sluice.errors import BadArtifact, BadInput
from sluice.evaluation.card import card_json
from sluice.feedback.batch import Batch
from sluice.feedback.store import BatchKind, PredictionStore
from sluice.predictions.log import PredictionRecord
from sluice.retraining.triggers import TriggerLimits
from sluice.rollout.advance import propose
from sluice.steps.parameters import WatchParameters
from sluice.steps.watch import REPORT, watch
from sluice.tasks.recipe import Recipe
from sluice_pipelines.catalogue import CATALOGUE
from sluice_steps.watch import watch as step
from tests.support.collector import LONG_AGO, Post, call, post_in
from tests.support.release import GOOD, POLICY_TEXT, C, state_in
from tests.support.release_repository import repository_in
from tests.support.servers import s3_bucket
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.tiny_run import ROOT
from tests.support.tiny_task import TASK

NAME = "tests.support.tiny_task:TASK"
LEARNED = TASK.splits.live
"""End of the data that the model was made of."""
_LATER = {name: getattr(TASK.splits, name) + timedelta(days=30) for name in ("live", "end")}
MOVED = dataclasses.replace(TASK, splits=dataclasses.replace(TASK.splits, **_LATER))
"""A task whose splits have moved on."""
FIRST, DAY, DELAY = datetime(2024, 4, 20, tzinfo=UTC), timedelta(days=1), timedelta(hours=30)
EACH = 80
"""Requests a day; of every ten, nine labels come."""
QUIET = FIRST + 5 * DAY
"""Until then all is as it was in training; afterwards amounts are three times as large and scores say the opposite."""
END = FIRST + 8 * DAY


@dataclass(frozen=True)
class Production:
    """A model in production, and what was kept of its requests."""

    home: Path
    gitops: Path
    digest: str
    predictions: str

    def asked(
        self, out: Path, limits: TriggerLimits, now: datetime, task: str = NAME, **changed: Any
    ) -> dict[str, Any]:
        """The report, with each trigger's answer by its name."""
        places = {"gitops": str(self.gitops), "bundles": f"file://{self.home}/bundles", "days": 5}
        whose = {"task": task, "environment": "dev", "limits": limits.model_dump_json()}
        values = {**whose, **places, "predictions": self.predictions, "now": iso(now), **changed}
        made = watch(WatchParameters.parse(values), out)
        report: dict[str, Any] = json.loads((out / REPORT).read_bytes())
        assert report["retrain"] == made.retrain
        return report | {"says": {one["name"]: one["says"] for one in report["triggers"]}}


def card() -> bytes:
    """As the step that makes bundles writes it, of a model whose log loss was 0.62."""
    loss = Estimate(value=0.62, low=0.6, high=0.64, n=500)
    nothing = Curves(roc=(), precision_recall=(), reliability=())
    found = Evaluation(
        model="student_f32",
        window=(iso(TASK.splits.test), iso(LEARNED)),
        n=500,
        positives=250,
        threshold=0.5,
        metrics={"log_loss": loss},
        slices=(),
        baselines=(),
        best_baseline=None,
        teacher=None,
        production=None,
        curves=nothing,
        bootstrap={},
    )
    recipe = Recipe(name="tiny-recipe", description="for tests", features=("amount",))
    return canonical_json(card_json(TASK, recipe, found, (), {}))


def records(digest: str, day: int, random: np.random.Generator) -> tuple[list[PredictionRecord], list[dict[str, Any]]]:
    """A day's predictions, and their labels."""
    moments = [FIRST + (day + number / EACH) * DAY for number in range(EACH)]
    scores, later = random.uniform(0.2, 0.8, EACH), FIRST + day * DAY >= QUIET
    truth = random.random(EACH) < (1 - scores if later else scores)
    amounts = random.uniform(0, 100, EACH) * (3 if later else 1)
    made = [
        PredictionRecord(f"{day}-{i}", moment, "stable", "", digest, float(scores[i]), 200, 1.0,
                         {"amount": float(amounts[i])}, [], [], {"shop": "oak"})
        for i, moment in enumerate(moments)
    ]  # fmt: skip
    labels = [
        {"request_id": f"{day}-{i}", "label": int(truth[i]), "label_time": iso(moment + DELAY)}
        for i, moment in enumerate(moments)
        if i % 10
    ]
    return made, labels


def send(post: Post, path: str, method: str, body: bytes) -> None:
    status, said = call(f"127.0.0.1:{post.port}", method, path, body)
    assert status == 200, said


def send_all(post: Post, digest: str) -> None:
    """Eight days, in two batches a day, and beside them what must not count, or not twice."""
    random = np.random.default_rng(3)
    for day in range(8):
        made, labels = records(digest, day, random)
        tried = dataclasses.replace(made[0], status=503, score=None)
        for some in ([tried, *made[1::2]], [*made[2::2], made[0], made[3]]):
            body = b"".join(record.line() for record in some)
            send(post, f"/v1/predictions/{Batch.of(some[0].event_time, body).name}", "PUT", body)
        send(post, "/v1/feedback", "POST", json.dumps({"labels": labels}).encode())
    other = dataclasses.replace(made[0], request_id="other", digest=C, features={"amount": 9e9})
    failed = dataclasses.replace(made[0], request_id="failed", status=500, score=None)
    body = other.line() + failed.line()
    send(post, f"/v1/predictions/{Batch.of(END, body).name}", "PUT", body)
    old = {"request_id": "old", "label": 1, "label_time": iso(LEARNED - timedelta(seconds=1))}
    again = {"request_id": "0-1", "label": 1, "label_time": iso(FIRST + 2 * DAY)}
    send(post, "/v1/feedback", "POST", json.dumps({"labels": [old, again, again]}).encode())


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """Shared and only read, but for stores that a test writes of its own."""
    home = tmp_path_factory.mktemp("production")
    digest = write_tiny_bundle(home / "bundles", beside={"card.json": card()})
    policy = POLICY_TEXT.decode().replace("task: toy", "task: tiny")
    repository_in(home, state_in("stable", task="tiny", stable=digest, sequence=1), policy)
    with s3_bucket("predictions"), post_in(home, "s3://predictions/kept") as post:
        post.start_collector()
        send_all(post, digest)
        yield Production(home, home / "gitops.git", digest, post.address)


def labels_until(now: datetime) -> int:
    """How many of the requests have a label then, counted by hand."""
    times = [FIRST + (day + i / EACH) * DAY + DELAY for day in range(8) for i in range(EACH) if i % 10]
    return sum(moment <= now for moment in times)


def test_a_quiet_production_is_known_and_left_alone(production: Production, tmp_path: Path) -> None:
    report = production.asked(tmp_path, TriggerLimits(minimum_n=30), QUIET)
    assert report["says"] == {
        "empty": "QUIET",
        "drift": "QUIET",
        "decay": "QUIET",
        "volume": "QUIET",
        "schedule": "INCONCLUSIVE",
    }
    assert not report["retrain"]
    known = report["known"]
    assert (known["production"], known["requests"], known["holdout_loss"]) == (production.digest, 5 * EACH, 0.62)
    assert known["loss"]["n"] == labels_until(QUIET)
    assert known["labels"] == {
        "n": labels_until(QUIET),
        "since": iso(LEARNED),
        "until": iso(QUIET),
        "learnable": False,
    }


def test_other_amounts_and_wrong_scores_start_a_training(production: Production, tmp_path: Path) -> None:
    report = production.asked(tmp_path, TriggerLimits(minimum_n=30), END + DELAY, days=3 + 30 / 24)
    assert report["retrain"]
    assert (report["says"]["drift"], report["says"]["decay"]) == ("FIRES", "FIRES")
    assert report["known"]["requests"] == 3 * EACH
    assert report["known"]["loss"]["n"] == 3 * EACH * 9 // 10
    late = production.asked(tmp_path, TriggerLimits(minimum_n=30), END, days=1)
    assert late["says"]["drift"] == "FIRES"
    assert (late["says"]["decay"], late["known"]["loss"]) == ("INCONCLUSIVE", None), "labels come after 30 hours"


def test_so_many_new_labels_start_a_training_and_one_less_does_not(production: Production, tmp_path: Path) -> None:
    n = labels_until(QUIET)
    assert n > 200
    loose = {"drift": 1, "decay": 10, "minimum_n": 30}
    assert not production.asked(tmp_path, TriggerLimits(volume=n + 1, **loose), QUIET)["retrain"]
    report = production.asked(tmp_path, TriggerLimits(volume=n, **loose), QUIET)
    assert report["retrain"]
    said = f"volume: {n} labels became known from {iso(LEARNED)} to {iso(QUIET)}, limit {n}"
    assert report["reason"].startswith(f"{said}; the task's splits end where they ended then")
    moved = production.asked(tmp_path, TriggerLimits(volume=n, **loose), QUIET, "tests.integration.test_watch:MOVED")
    assert moved["reason"] == said
    assert production.asked(tmp_path, TriggerLimits(volume=n, **loose), QUIET, days=0.5)["known"]["labels"]["n"] == n


def test_a_rollout_that_is_going_on_holds_a_training_back(production: Production, tmp_path: Path) -> None:
    policy = POLICY_TEXT.decode().replace("task: toy", "task: tiny")
    state = state_in("stable", task="tiny", stable=production.digest, sequence=1)
    gitops = repository_in(tmp_path, state, policy)
    gitops.commit(lambda seen: propose(seen, C, GOOD, {"auc": 0.8}, {"id": "one"}, iso(QUIET - DAY)))
    report = dataclasses.replace(production, gitops=tmp_path / "gitops.git").asked(
        tmp_path / "out", TriggerLimits(volume=1), QUIET
    )
    assert not report["retrain"]
    assert report["reason"].startswith(f"rollout {gitops.snapshot().state.rollout} is going on, though volume: ")
    assert report["known"]["hours_since_training"] == 24


def copied(production: Production, place: Path) -> PredictionStore:
    """The same rows in a folder, under the dates at which they were known: the collector got them all today."""
    source, target = (
        PredictionStore.open(one, "tiny", "dev", os.environ) for one in (production.predictions, place.as_uri())
    )
    times: dict[BatchKind, str] = {"predictions": "event_time", "labels": "label_time"}
    for kind, column in times.items():
        for batch in source.batches(kind, LONG_AGO):
            for number, rows in enumerate(source.read(kind, batch).sort(column).iter_slices(20)):
                target.put(
                    kind, Batch(start=rows[column][-1], sha256=f"{Path(batch.path).stem[-60:]}{number:04}"), rows
                )
    return target


@pytest.mark.parametrize("days", [5, 0.5])
def test_a_folder_says_the_same_as_object_storage(days: float, production: Production, tmp_path: Path) -> None:
    copied(production, tmp_path / "store")
    said = [
        production.asked(tmp_path / "out", TriggerLimits(minimum_n=30), END, predictions=place, days=days)
        for place in (production.predictions, (tmp_path / "store").as_uri(), str(tmp_path / "store"))
    ]
    assert said[0] == said[1] == said[2]


def test_predictions_without_features_are_of_no_use_to_drift(production: Production, tmp_path: Path) -> None:
    """KServe's own logger sends none."""
    store = copied(production, tmp_path / "store")
    for batch in store.batches("predictions", LONG_AGO):
        bare = store.read("predictions", batch).with_columns(features=pl.lit("{}"))
        store.put("predictions", Batch.from_name(Path(batch.path).stem), bare)
    place = str(tmp_path / "store")
    report = production.asked(tmp_path / "out", TriggerLimits(minimum_n=30), QUIET, predictions=place)
    assert (report["says"]["drift"], report["known"]["requests"]) == ("INCONCLUSIVE", 0)
    assert (report["says"]["decay"], report["known"]["loss"]["n"]) == ("QUIET", labels_until(QUIET))


def test_a_damaged_batch_is_named(production: Production, tmp_path: Path) -> None:
    store = copied(production, tmp_path / "store")
    batch = store.batches("labels", LONG_AGO)[-1]
    batch.write(batch.read(100))
    with pytest.raises(BadArtifact, match=f"{batch.name[-12:]}: is no batch of labels"):
        production.asked(tmp_path / "out", TriggerLimits(), END, predictions=str(tmp_path / "store"))


def test_an_empty_store_is_inconclusive(production: Production, tmp_path: Path) -> None:
    report = production.asked(tmp_path, TriggerLimits(), END, predictions="s3://predictions/nobody-wrote-here")
    assert not report["retrain"]
    assert report["says"] | {"schedule": ""} == {
        "empty": "QUIET",
        "drift": "INCONCLUSIVE",
        "decay": "INCONCLUSIVE",
        "volume": "QUIET",
        "schedule": "",
    }
    unnamed = production.asked(tmp_path, TriggerLimits(), END, predictions="")
    assert unnamed["says"]["volume"] == "INCONCLUSIVE"


def test_without_a_repository_nothing_is_known(tmp_path: Path) -> None:
    values = {"task": NAME, "environment": "dev", "days": 7, "now": "2026-01-01T00:00:00Z"}
    made = watch(WatchParameters.parse(values), tmp_path)
    assert not made.retrain
    assert made.reason == "no trigger fires; nothing is known of empty, drift, decay, volume, schedule"


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("predictions", "nowhere://bucket/log", "is not a folder or URL"),
        ("predictions", "s3://key:password@bucket/log", "holds a password"),
        ("days", 0, "greater than 0"),
        ("days", float("nan"), "finite number"),
    ],
)
def test_a_place_or_number_that_is_none_is_one_line(name: str, value: Any, rule: str) -> None:
    values = {"task": NAME, "environment": "dev", "days": 7}
    with pytest.raises(BadInput, match=f"parameter {name}: .*{rule}") as refused:
        WatchParameters.parse(values | {name: value})
    assert "password@" not in str(refused.value)


def test_the_step_says_why_in_its_log_and_on_its_page(
    production: Production, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = SimpleNamespace(path=str(tmp_path / "report"), metadata={})
    due, reason = step.function(
        task=NAME,
        gitops=str(production.gitops),
        environment="dev",
        bundles=f"file://{production.home}/bundles",
        predictions=production.predictions,
        days=5.0,
        limits='{"volume": 300, "minimum_n": 30}',
        now=iso(END),
        retraining=report,
        triggers=SimpleNamespace(path=str(tmp_path / "page.html")),
    )
    assert due is True
    assert report.metadata["retrain"] is True
    assert "volume: " in reason
    assert f"sluice: Done: {reason}" in capsys.readouterr().err
    assert f"<td>{labels_until(END)} labels became known from" in (tmp_path / "page.html").read_text()


def test_a_night_on_which_nothing_is_due_ends_well_under_kfps_own_runner(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
    given = {"task": NAME, "environment": "dev", "feature_repo": str(ROOT / "feature_repo")}
    overlays = str(ROOT / "tests/support/tiny_checkout/manifests/overlays")
    CATALOGUE["monitor-and-retrain"].build("sluice-night")(**given, overlays=overlays)
    (run,) = (tmp_path / "root").iterdir()
    steps = {path.name for path in run.iterdir()}
    assert {"check", "watch", "not-due", "exit-note"} <= steps
    assert not steps & {"ingest", "refused", "release"}
    reason = "no trigger fires; nothing is known of empty, drift, decay, volume, schedule"
    assert (run / "not-due/why_not").read_text() == f"# Not due\n\n{reason}\n"
    assert (
        (run / "exit-note/note")
        .read_text()
        .endswith("ended well\n\nA step's page says whether it refused or released.\n")
    )
    assert f"sluice: NotDue: {reason}" in capfd.readouterr().out
