"""Every kind of target from a frame to a verdict, a card and the report's pictures; bad labels and policies refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl
import pytest
import yaml

from sluice.content import canonical_json
from sluice.data.ingest import check_columns, check_rows, check_slices, ingest
from sluice.data.schema import infer_schema, write_schema
from sluice.data.validate import validate
from sluice.documents.evaluation import Evaluation
from sluice.documents.verdict import Reason, Verdict
from sluice.errors import BadArtifact, BadInput
from sluice.evaluation.card import card_html, card_json, evaluation_in_card
from sluice.evaluation.evaluate import evaluate
from sluice.evaluation.measure import measure_ladder
from sluice.evaluation.select import select_variant
from sluice.gates.offline import judge
from sluice.gates.policy import OfflineRule, SelectPolicy, parse_policy
from sluice.steps.evaluate import confusion_table
from sluice.targets.multi_class import MultiClass
from sluice.targets.registry import METRIC_SCHEMA, known_metric
from sluice.targets.yardstick import OwnMetric
from sluice.tasks.task import Slice
from sluice_local.report.charts import figures
from sluice_local.report.inputs import EMPTY
from sluice_local.report.peers import peer_rows
from tests.support import tiny_task
from tests.support.evaluation import RECIPE, sample_task
from tests.support.target_frames import target_task, write_target
from tests.support.targets import (
    DIGITS,
    SAMPLES,
    TargetSample,
    clicks,
    diabetes,
    diabetes_quantiles,
    digits,
    exercises,
    visits,
    wine,
)

if TYPE_CHECKING:
    from sluice.models.bundle import Bundle

POLICY_FILE = Path(__file__).parents[2] / "manifests/overlays/dev/gate-policy.yaml"
POLICY = POLICY_FILE.read_bytes().replace(b"metric: log_loss", b"metric: loss")
"""Of any kind of target; its margins are in nats."""
DEV = parse_policy(POLICY, str(POLICY_FILE))


def _stable(sample: TargetSample) -> Bundle:
    """Production that says what the sample's model says; a real one needs a trained model."""
    answers = sample.predictions[2::3]
    manifest = SimpleNamespace(features=SimpleNamespace(names=("shop",)), threshold=0.5)
    return cast("Bundle", SimpleNamespace(manifest=manifest, digest="sha256:" + "0" * 64, predict=lambda _: answers))


def _evaluate(directory: Path, sample: TargetSample, *, stable: bool = False, **changes: Any) -> Evaluation:
    task, served = target_task(sample, **changes), _stable(sample) if stable else None
    return evaluate(task, directory, directory, directory, "student_int8", served, seed=1)


def _judge(evaluation: Evaluation, **rule: Any) -> tuple[Reason, ...]:
    policy = DEV.model_copy(update={"offline": (OfflineRule(minimum_n=30, **rule),), "select": SelectPolicy()})
    return judge(evaluation, policy)


class _Page(HTMLParser):
    """The tags of a page that are still open at its end, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("sample_of", SAMPLES)
def test_a_kind_goes_from_a_frame_to_a_verdict_and_a_card(
    sample_of: Callable[[], TargetSample], tmp_path: Path
) -> None:
    sample = sample_of()
    directory, task = write_target(tmp_path, sample), target_task(sample)
    found = _evaluate(directory, sample)
    assert Evaluation.model_validate_json(found.model_dump_json()) == found
    loss = sample.target.loss_metric
    assert loss in found.metrics
    assert {peer.name for peer in found.baselines} == {"prior", "rate"}
    assert found.best_baseline is not None
    (success,) = _judge(found, metric="loss", role="success", against="best-baseline")
    assert (success.verdict, success.rule) == (Verdict.PASS, "success loss vs best-baseline")
    (same,) = _judge(found, metric=loss, role="guardrail", against="teacher")
    assert same.verdict is Verdict.PASS
    ladder = measure_ladder(directory, directory, 1, task.yardstick)
    assert select_variant(ladder, SelectPolicy(), task.yardstick.metrics).name == "student_int8"
    card = card_json(task, RECIPE, found, ladder, {"data": "sha256:da"})
    assert evaluation_in_card(card).metrics == found.metrics
    assert evaluation_in_card(card).pictures == found.pictures
    canonical_json(card)
    page = _Page(card_html(card))
    assert page.open == []
    assert sample.target.answer_words in page.text
    titles = [metric.heading for metric in sample.target.metrics if metric.name in found.metrics]
    assert [title for title in titles if title not in page.text] == []


@pytest.mark.parametrize(
    ("sample_of", "pictures", "rows"),
    [
        (clicks, 3, [("AUC", "Log loss")]),
        (wine, 5, []),
        (exercises, 3, []),
        (diabetes, 2, []),
        (visits, 2, []),
    ],
)
def test_the_report_draws_what_the_kind_has(
    sample_of: Callable[[], TargetSample], pictures: int, rows: list[Any], tmp_path: Path
) -> None:
    sample = sample_of()
    directory = write_target(tmp_path, sample)
    found = _evaluate(directory, sample, stable=True)
    chapter = dataclasses.replace(
        EMPTY, evaluation=found, variants=measure_ladder(directory, directory, 1, target_task(sample).yardstick)
    )
    quality = figures(chapter, "quality")
    assert sum(len(figure.pictures) for figure in quality) == pictures
    slices = figures(chapter, "slices")
    expected = {"shop", sample.target.slice_name} - {None}
    assert sum(len(figure.pictures) for figure in slices) == len(expected)
    assert len(figures(chapter, "variants")) == 1
    assert [row.name for row in peer_rows(found)][1:] == [
        *(f"baseline: {peer.name}" + " (best)" * (peer.name == found.best_baseline) for peer in found.baselines),
        "teacher",
        "production",
    ]


def test_a_candidate_that_is_worse_in_one_class_is_refused(tmp_path: Path) -> None:
    sample = digits()
    worse = sample.predictions.copy()
    eight = np.flatnonzero((sample.labels == "eight").to_numpy())
    worse[eight] = np.roll(worse[eight], 1, axis=1)
    found = _evaluate(write_target(tmp_path, sample, worse), sample, stable=True)
    rule = {"metric": "accuracy", "role": "deterioration", "against": "production", "margin": 0.05, "per_slice": True}
    reasons = _judge(found, **rule)
    assert [reason.rule for reason in reasons if reason.verdict is Verdict.FAIL] == [
        "deterioration accuracy vs production[class=eight]"
    ]
    (recall,) = _judge(found, metric="recall[eight]", role="limit", limit=0.5)
    assert recall.verdict is Verdict.FAIL
    assert "recall of class eight" in recall.text
    (others,) = _judge(found, metric="recall[seven]", role="limit", limit=0.5)
    assert others.verdict is Verdict.PASS
    table = confusion_table(found)
    assert table is not None
    assert table[0] == list(DIGITS)
    assert table[1][8][9] > 15


def test_a_value_that_is_biased_in_one_slice_is_refused(tmp_path: Path) -> None:
    sample = diabetes()
    biased = sample.predictions.copy()
    north = np.arange(len(sample.labels)) // 3 % 3 == 0
    biased[north] -= 60
    found = _evaluate(write_target(tmp_path, sample, biased), sample, stable=True)
    reasons = _judge(found, metric="bias", role="limit", limit=30, per_slice=True)
    assert [(reason.rule, reason.verdict) for reason in reasons if reason.verdict is not Verdict.PASS] == [
        ("limit bias[shop=north]", Verdict.FAIL)
    ]
    assert "away from 0; allowed is at most 30" in reasons[0].text
    assert found.slices[1].value == "north"
    assert found.slices[1].metrics["bias"].value < -40
    worse = _judge(found, metric="bias", role="deterioration", against="production", per_slice=True)
    assert [reason.rule for reason in worse if reason.verdict is Verdict.FAIL] == [
        "deterioration bias vs production[shop=north]"
    ]
    assert found.production is not None
    assert found.production.difference["bias"].value > 0, "further from 0 is worse, below it too"


def test_intervals_that_hold_too_few_are_refused_and_so_are_those_that_hold_all(tmp_path: Path) -> None:
    sample = diabetes_quantiles()
    middle = sample.predictions[:, 1:2]
    for factor in (0.2, 6.0):
        values = middle + factor * (sample.predictions - middle)
        found = _evaluate(write_target(tmp_path, sample, values), sample)
        (reason,) = _judge(found, metric="coverage", role="limit", limit=0.15)
        assert reason.verdict is Verdict.FAIL, factor
    good = _evaluate(write_target(tmp_path, sample), sample)
    (reason,) = _judge(good, metric="coverage", role="limit", limit=0.15)
    assert reason.verdict is Verdict.PASS
    assert "interval coverage" in reason.text
    assert "away from 0.8" in reason.text


def test_histories_of_other_kinds_have_their_covariates(tmp_path: Path) -> None:
    for sample in (diabetes(), digits()):
        found = _evaluate(
            write_target(tmp_path, sample, sample.target.link(np.log(np.abs(sample.predictions) + 1))),
            sample,
            stable=True,
        )
        assert found.histories
        names = {name for history in found.histories if history.adjustment for name in history.adjustment.names}
        known = set(sample.target.covariates(sample.target.codes(sample.labels), sample.predictions))
        assert names <= known
        assert found.histories[0].shift_variance is not None


def test_predictions_that_are_none_are_told_not_measured(tmp_path: Path) -> None:
    for sample, words in (
        (digits(), "their sum is not 1"),
        (visits(), "counts above 0"),
        (diabetes(), "finite numbers"),
    ):
        odd = sample.predictions.copy()
        odd[::3, 0] = -1 if sample is not diabetes() else np.nan
        odd[1::3, 0] = np.inf
        odd[2::3, 0] = -np.inf
        found = _evaluate(write_target(tmp_path, sample, odd), sample, stable=True)
        assert found.metrics == {}
        assert words in found.problems[0]
        (reason,) = _judge(found, metric="loss", role="guardrail", against="production")
        assert reason.verdict is Verdict.INCONCLUSIVE
        canonical_json(found.model_dump(mode="json"))


def test_predictions_of_another_width_are_told(tmp_path: Path) -> None:
    sample = wine()
    found = _evaluate(write_target(tmp_path, sample, sample.predictions[:, :2]), sample)
    assert found.problems == (
        "Each score of the candidate (student_int8) has 2 numbers, those of a multi-class target 3.",
    )


def test_labels_of_a_frame_that_are_none_of_the_target_are_refused(tmp_path: Path) -> None:
    directory = write_target(tmp_path, wine())
    frame = pl.read_parquet(directory / "frame.parquet")
    frame.with_columns(label=pl.lit("cider")).write_parquet(directory / "frame.parquet")
    with pytest.raises(
        BadArtifact, match=r"frame\.parquet: has label 'cider' in 59 of 59 rows, which is none of the classes"
    ):
        _evaluate(directory, wine())


def _policy(**changes: Any) -> bytes:
    document = {**dict(yaml.safe_load(POLICY)), **changes}
    return yaml.safe_dump(document, sort_keys=False).encode()


@pytest.mark.parametrize(
    ("metric", "sample", "refused"),
    [
        ("auc", diabetes(), True),
        ("log_loss", diabetes(), True),
        ("rmse", clicks(), True),
        ("recall[ten]", digits(), True),
        ("top_5", digits(), True),
        ("task.cost", digits(), True),
        ("recall[nine]", digits(), False),
        ("loss", diabetes(), False),
        ("deviance", visits(), False),
    ],
)
def test_a_metric_that_the_target_does_not_have_is_refused_with_its_line(
    metric: str, sample: TargetSample, refused: bool
) -> None:
    rule = {"metric": metric, "role": "guardrail", "against": "production", "margin": 0.1}
    text = _policy(select={"metric": "loss"}, offline=[{**rule, "metric": "loss"}, rule])
    metrics = target_task(sample).yardstick.metrics
    assert parse_policy(text, "P").offline[1].metric == metric
    if not refused:
        assert parse_policy(text, "P", metrics).offline[1].metric == metric
        return
    line = text[: text.index(f"metric: {metric}\n".encode(), text.index(b"offline:"))].count(b"\n") + 1
    with pytest.raises(BadInput) as refusal:
        parse_policy(text, "P", metrics)
    assert str(refusal.value).startswith(
        f"P, line {line}: offline.1.metric: the task has no metric '{metric}'; choose from loss, "
    )


def test_a_metric_that_no_target_has_and_a_margin_beyond_a_share_are_refused() -> None:
    rule = {"metric": "rmse", "role": "guardrail", "against": "production", "margin": 12}
    assert parse_policy(_policy(offline=[rule]), "P").offline[0].margin == 12
    for change, words in (
        ({"metric": "f1"}, "no target has a metric 'f1'; choose from loss, auc"),
        ({"metric": "accuracy"}, "offline.0.margin: 12 is above 1, and accuracy is a share"),
        ({"metric": "recall[a]"}, "12 is above 1, and recall[a] is a share"),
        ({"margin": float("inf")}, "offline.0.margin"),
    ):
        with pytest.raises(BadInput) as refusal:
            parse_policy(_policy(offline=[{**rule, **change}]), "P")
        assert words in str(refusal.value)


def test_every_metric_has_a_name_that_policies_may_write() -> None:
    names = {metric.name for sample_of in SAMPLES for metric in sample_of().target.metrics}
    assert len(names) > 40
    assert {known_metric(name) for name in names} == names
    shared = set(METRIC_SCHEMA["anyOf"][0]["enum"])
    assert {name for name in names if "[" not in name and "top" not in name} <= shared


def test_a_gate_refuses_a_policy_of_another_target(tmp_path: Path) -> None:
    found = _evaluate(write_target(tmp_path, visits()), visits())
    with pytest.raises(
        BadInput,
        match=r"gate policy of dev: offline\.0\.metric: the task has no metric 'auc'; choose from loss, deviance",
    ):
        _judge(found, metric="auc", role="success", against="best-baseline")


def test_own_metrics_and_an_own_loss_are_judged_and_read_without_the_task(tmp_path: Path) -> None:
    sample = diabetes()
    over = OwnMetric("over", "cost of too much", lambda label, value: np.maximum(value[:, 0] - label, 0) ** 2)
    found = _evaluate(write_target(tmp_path, sample), sample, metrics=(over,), loss="over")
    again = Evaluation.model_validate_json(found.model_dump_json())
    (reason,) = _judge(again, metric="loss", role="success", against="best-baseline")
    assert reason.verdict is Verdict.PASS
    assert "cost of too much" in reason.text
    (same,) = _judge(again, metric="task.over", role="success", against="best-baseline")
    assert (same.observed, same.low) == (reason.observed, reason.low)
    task = target_task(sample, metrics=(over,), loss="over")
    assert "Cost of too much" in card_html(card_json(task, RECIPE, found, (), {}))
    assert __name__ in task.modules


@pytest.mark.parametrize("sample_of", [digits, exercises, diabetes, visits])
def test_spans_of_other_labels_are_read_validated_and_refused(
    sample_of: Callable[[], TargetSample], tmp_path: Path
) -> None:
    sample = sample_of()

    def read(start: datetime, end: datetime) -> pl.DataFrame:
        rows = tiny_task.read_examples(start, end)
        labels = sample.labels.gather(np.arange(rows.height) % len(sample.labels))
        return rows.with_columns(pl.when(rows["label"].is_null()).then(None).otherwise(labels).alias("label")).unique(
            "example_id"
        )

    task = dataclasses.replace(
        tiny_task.TASK, read_examples=read, target=sample.target, schema_file=tmp_path / "schema.json"
    )
    record = ingest(task, tmp_path)
    assert record == ingest(task, tmp_path)
    span = pl.read_parquet(tmp_path / "examples.parquet")
    schema = infer_schema(span, sample.target)
    assert schema.features["label"].domain == sample.target.domain
    write_schema(schema, task.schema_file)
    assert validate(task, tmp_path, tmp_path).anomalies == ()
    wrong = dataclasses.replace(task, target=clicks().target)
    with pytest.raises(BadInput, match=r"column 'label' of task 'tiny': has type .*, not Int8"):
        check_columns(wrong, span)


def test_labels_that_are_none_are_refused_where_a_span_is_read() -> None:
    rows = tiny_task.read_examples(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 4, 5, tzinfo=UTC)).unique(
        "example_id"
    )
    for sample, label, rule in (
        (digits(), pl.lit("ten"), "gives label 'ten' in"),
        (diabetes(), pl.lit(float("nan")), "no finite number of 32 bits"),
        (visits(), pl.lit(-1, pl.Int64), "gives label -1 in"),
        (exercises(), pl.lit(["swim"], pl.List(pl.String)), "gives label 'swim'"),
    ):
        task = dataclasses.replace(tiny_task.TASK, target=sample.target)
        with pytest.raises(BadInput, match="source of task 'tiny'") as refusal:
            check_rows(task, rows.with_columns(label=label))
        assert rule in str(refusal.value)


def test_a_slice_may_not_be_called_as_those_of_the_target() -> None:
    task = sample_task(target=MultiClass(classes=("a", "b")), slices=(Slice("class", "signal"),))
    with pytest.raises(BadInput, match="slice 'class' of task 'sample': has the name of the slices"):
        check_slices(task)
