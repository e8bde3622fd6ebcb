"""Shadow and labels of every kind of target: its loss decides, by whatever name that has."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from sluice.documents.evidence import Evidence
from sluice.errors import BadInput
from sluice.evidence.collect import collect_evidence
from sluice.feedback.batch import Batch, labels_at, parse_feedback, parse_predictions
from sluice.feedback.events import RESPONSE, parse_event
from sluice.gates.policy import parse_policy
from sluice.models.request import BadRequest
from sluice.rollout.advance import Advice, advance
from sluice.targets.counts import Counts
from sluice.targets.kind import TargetKind
from sluice.targets.multi_class import MultiClass
from sluice.targets.multi_label import MultiLabel
from sluice.targets.registry import BINARY
from sluice.targets.regression import Regression
from sluice.targets.yardstick import OwnMetric, Yardstick
from tests.support.release import A, B, applied_of, state_in
from tests.support.targets import TargetSample, clicks, diabetes, diabetes_quantiles, digits, exercises, visits

START = datetime(2020, 1, 1, tzinfo=UTC)
NOW = START + timedelta(hours=30)
_POLICY = """
apiVersion: sluice.dev/v1
kind: GatePolicy
task: toy
environment: dev
select: {}
offline: [{metric: loss, role: success, against: best-baseline}]
online:
  design_effect: 1
  label_maturity_hours: 1
  shadow:
    minimum_n: 100
    maximum_hours: 72
    rules: [{metric: %s, role: %s}]
  confirm: {minimum_n: 30, maximum_hours: 72, rules: [{metric: error_rate, role: limit, limit: 0.1}]}
"""


def _lines(sample: TargetSample, rows: np.ndarray, candidate: np.ndarray) -> pl.DataFrame:
    """What two servers logged of these rows, a minute apart, through the collector's own parser."""
    lines = []
    for number, row in enumerate(rows.tolist()):
        for route, digest, said in (("stable", A, sample.predictions[row]), ("shadow", B, candidate[row])):
            answer = {"score": None, "prediction": said.tolist()} if said.size > 1 else {"score": float(said[0])}
            line = {"request_id": f"q{number}", "route": route, "digest": digest, "rollout": "r0004-b", "status": 200}
            line |= {"event_time": (START + timedelta(minutes=number)).isoformat(), "latency_ms": 1.0}
            lines.append(json.dumps(line | answer | {"features": {}, "missing": [], "stale": [], "keys": {}}))
    body = "\n".join(lines).encode()
    return parse_predictions(Batch.of(START, body), body)


def _labels(sample: TargetSample, rows: np.ndarray) -> pl.DataFrame:
    """What became of them, as a client says it."""
    told = [
        {"request_id": f"q{number}", "label": label, "label_time": (START + timedelta(minutes=number)).isoformat()}
        for number, label in enumerate(sample.labels.gather(rows).to_list())
    ]
    parts = (json.dumps({"labels": told[at : at + 500]}).encode() for at in range(0, len(told), 500))
    return labels_at(pl.concat(parse_feedback(part, NOW, sample.target) for part in parts), NOW)


def _shadow(sample: TargetSample, candidate: np.ndarray, yardstick: Yardstick | None = None) -> Evidence:
    rows = np.random.default_rng(1).integers(0, len(sample.labels), 1200)
    state = state_in("shadow")
    return collect_evidence(
        _lines(sample, rows, candidate),
        _labels(sample, rows),
        state,
        applied_of(state),
        {},
        now=NOW,
        label_maturity_hours=1,
        thresholds={A: None, B: None},
        yardstick=yardstick or Yardstick(sample.target),
    )


def _advice(evidence: Evidence, margin: float, metric: str = "loss") -> Advice:
    policy = parse_policy((_POLICY % (metric, f"guardrail, margin: {margin}")).encode(), "policy")
    return advance(state_in("shadow"), evidence, policy, evidence.now)


def _worse(sample: TargetSample) -> np.ndarray:
    """What the model said of other rows."""
    return np.roll(sample.predictions, len(sample.labels) // 2 + 7, axis=0)


SAMPLES = {
    "digits": (digits, 0.2),
    "exercises": (exercises, 0.1),
    "diabetes": (diabetes, 600.0),
    "quantiles": (diabetes_quantiles, 5.0),
    "visits": (visits, 0.2),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_loss_of_every_kind_decides(name: str) -> None:
    made, margin = SAMPLES[name]
    sample = made()
    equal, worse = _shadow(sample, sample.predictions), _shadow(sample, _worse(sample))
    verdicts = [
        {reason.rule: str(reason.verdict) for reason in _advice(evidence, margin).reasons}["loss"]
        for evidence in (equal, worse)
    ]
    assert verdicts == ["PASS", "FAIL"]
    own = sample.target.loss_metric
    assert _advice(worse, margin, own).verdict == _advice(worse, margin).verdict
    assert Evidence.model_validate_json(worse.model_dump_json()) == worse
    assert {tuple(block.covariates) for block in worse.blocks} == {sample.target.covariate_names}


def test_the_mean_of_the_losses_is_the_one_of_the_offline_gate() -> None:
    sample = diabetes()
    rows = np.random.default_rng(1).integers(0, len(sample.labels), 1200)
    found = _shadow(sample, _worse(sample))
    labels = sample.labels.to_numpy()[rows]
    ours, theirs = (((labels - said[rows, 0]) ** 2).mean() for said in (_worse(sample), sample.predictions))
    assert found.pairs.loss is not None
    assert found.pairs.loss.mean == pytest.approx(ours - theirs)
    assert found.pairs.shift is not None
    apart = np.abs(_worse(sample) - sample.predictions)[rows, 0]
    assert found.pairs.shift.mean == pytest.approx(apart.mean())
    assert found.pairs.agreement is not None
    assert found.pairs.agreement.hits == int((apart <= 5).sum())


def test_a_loss_of_the_tasks_own_is_the_one_that_counts() -> None:
    sample = diabetes()
    own = OwnMetric("cost", "cost", lambda labels, said: 3 * np.abs(labels - said[:, 0]))
    found = _shadow(sample, _worse(sample), Yardstick(sample.target, (own,), "cost"))
    assert found.stable is not None
    assert found.stable.loss is not None
    rows = np.random.default_rng(1).integers(0, len(sample.labels), 1200)
    expected = 3 * np.abs(sample.labels.to_numpy() - sample.predictions[:, 0])[rows].mean()
    assert found.stable.loss.mean == pytest.approx(expected)


def test_what_is_no_prediction_of_the_kind_is_a_failure() -> None:
    sample = digits()
    short = sample.predictions[:, :9]
    unequal = _shadow(sample, sample.predictions * 0.5)
    assert (unequal.candidate and unequal.candidate.errors, unequal.pairs.loss) == (1200, None)
    fewer = _shadow(sample, short)
    assert (fewer.candidate and fewer.candidate.errors, fewer.pairs.loss) == (1200, None)


def test_where_nobody_says_when_values_agree_the_rule_waits_and_a_policy_of_the_task_is_refused() -> None:
    sample = diabetes()._replace(target=Regression())
    text = (_POLICY % ("agreement", "limit, limit: 0.9")).encode()
    evidence = _shadow(sample, sample.predictions)
    advice = advance(state_in("shadow"), evidence, parse_policy(text, "policy"), evidence.now)
    (reason,) = [one for one in advice.reasons if one.rule == "agreement"]
    assert str(reason.verdict) == "INCONCLUSIVE"
    assert "the kind of target does not say when they agree" in reason.text
    with pytest.raises(BadInput, match=r"line 14: online.shadow.rules.0.metric: the task's target does not say"):
        parse_policy(text, "policy", Yardstick(Regression()).metrics)
    parse_policy(text, "policy", Yardstick(Regression(tolerance=1)).metrics)


@pytest.mark.parametrize(
    ("target", "metric"),
    [(Regression(), "log_loss"), (Regression(loss="absolute"), "mse"), (Counts(), "mae"), (BINARY, "deviance")],
)
def test_a_policy_that_calls_the_loss_as_another_kind_does_is_refused_with_its_line(
    target: TargetKind, metric: str
) -> None:
    metrics = Yardstick(target).metrics
    text = (_POLICY % (metric, "guardrail, margin: 0.1")).encode()
    with pytest.raises(BadInput, match=rf"line 14: online.shadow.rules.0.metric: the task's loss is .*not '{metric}'"):
        parse_policy(text, "policy", metrics)
    for right in ("loss", metrics.loss):
        parse_policy((_POLICY % (right, "guardrail, margin: 0.1")).encode(), "policy", metrics)


def test_two_names_of_the_loss_are_one_rule() -> None:
    twice = "loss, role: guardrail, margin: 0.1}, {metric: log_loss"
    with pytest.raises(BadInput, match="is asked as guardrail twice"):
        parse_policy((_POLICY % (twice, "guardrail, margin: 0.2")).encode(), "policy")


@pytest.mark.parametrize(
    ("target", "label", "rule"),
    [
        (MultiClass(classes=("cat", "dog")), "cow", "should be 'cat' or 'dog'"),
        (MultiClass(classes=("cat", "dog")), 1, "should be 'cat' or 'dog'"),
        (MultiLabel(names=("red", "blue")), ["green"], "none of the target's names"),
        (MultiLabel(names=("red", "blue")), "red", "valid list"),
        (Regression(), "3", "valid number"),
        (Regression(), 1e39, "no finite number of 32 bits"),
        (Counts(), -1, "labels.1.label: has"),
        (Counts(), 2.5, "valid integer"),
        (BINARY, 2, "Input should be 0 or 1"),
    ],
)
def test_a_label_of_another_kind_is_refused_by_its_place(target: TargetKind, label: Any, rule: str) -> None:
    right = {"multi-class": "cat", "multi-label": []}.get(target.kind, 1)
    body = json.dumps({"labels": [{"request_id": "a", "label": right}, {"request_id": "b", "label": label}]})
    with pytest.raises(BadRequest, match=r"labels\.1\.label") as refused:
        parse_feedback(body.encode(), NOW, target)
    assert rule in str(refused.value)
    assert refused.value.status == 400
    assert parse_feedback(json.dumps({"labels": [{"request_id": "a", "label": right}]}).encode(), NOW, target).height


@pytest.mark.parametrize("make", [clicks, digits, exercises, diabetes, diabetes_quantiles, visits])
def test_an_event_of_kserves_logger_is_read_by_the_kind(make: Callable[[], TargetSample]) -> None:
    sample = make()
    said, target = sample.predictions[:3], sample.target
    answers = target.answer(said, 0.5)
    headers = {"ce-id": "e", "ce-specversion": "1.0", "ce-type": RESPONSE, "content-type": "application/json"}
    first = {"predictions": [{name: rows[at] for name, rows in answers.items()} | {"digest": A} for at in range(3)]}
    first["predictions"].append({"error": "no features", "digest": A})
    flat = {
        field.name: [number for row in answers[field.name] for number in row] if field.size > 1 else answers[field.name]
        for field in target.answers
    }
    second = {"outputs": [{"name": name, "data": data} for name, data in flat.items()], "parameters": {"digest": A}}
    for body, failed in ((first, 1), (second, 0)):
        rows = parse_event(headers, json.dumps(body).encode(), NOW, target)
        assert rows["status"].to_list() == [200] * 3 + [500] * failed
        read = [row["prediction"] or [row["score"]] for row in rows.to_dicts()[:3]]
        assert np.array(read) == pytest.approx(said)
    wrong: dict[str, Any] = {"predictions": [{target.prediction_answer.name: ["x"], "digest": A}]}
    with pytest.raises(BadRequest, match=f"has {target.prediction_answer.name} that is not"):
        parse_event(headers, json.dumps(wrong).encode(), NOW, target)
    other = {"predictions": [{"unknown": 1.0, "digest": A}]}
    with pytest.raises(BadRequest, match=f"has neither {target.prediction_answer.name} nor an error"):
        parse_event(headers, json.dumps(other).encode(), NOW, target)
