"""The offline gate: every role, every verdict, and sentences that name what they judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from sluice.documents.evaluation import Curves, Estimate, Evaluation, Peer, SliceEvaluation
from sluice.documents.verdict import Reason, Verdict, overall
from sluice.errors import BadInput
from sluice.evaluation.evaluate import evaluate
from sluice.gates.offline import judge
from sluice.gates.policy import GatePolicy, OfflineRule, parse_policy, read_policy
from tests.support.evaluation import DAYS, ROWS_A_DAY, production, sample_task, write_sample

POLICY_FILE = Path(__file__).parents[2] / "manifests/overlays/dev/gate-policy.yaml"
DEV, _ = read_policy(POLICY_FILE)
NAN = float("nan")


def _estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=1000)


def _evaluation(**changes: Any) -> Evaluation:
    fields: dict[str, Any] = {
        "model": "student_int8",
        "window": ("2020-01-01T00:00:00Z", "2020-02-01T00:00:00Z"),
        "n": 1000,
        "positives": 200,
        "threshold": 0.3,
        "metrics": {"ece": _estimate(0.02, 0.01, 0.03), "auc": _estimate(0.8, 0.78, 0.82)},
        "slices": (),
        "baselines": (),
        "best_baseline": None,
        "teacher": None,
        "production": None,
        "curves": Curves(roc=(), precision_recall=(), reliability=()),
        "bootstrap": {"resamples": 400, "days": 31, "seed": 1},
    }
    return Evaluation(**{**fields, **changes})


def _peer(name: str, **difference: Estimate) -> Peer:
    return Peer(name=name, metrics={}, difference=difference)


def _slice(value: str, n: int, **difference: Estimate) -> SliceEvaluation:
    return SliceEvaluation(slice="shop", value=value, n=n, positives=n // 4, metrics={}, versus_production=difference)


def _judge(evaluation: Evaluation, **rule: Any) -> tuple[Reason, ...]:
    return judge(evaluation, DEV.model_copy(update={"offline": (OfflineRule(**rule),)}))


@pytest.mark.parametrize(
    ("role", "low", "high", "verdict"),
    [
        ("success", 0.011, 0.03, Verdict.PASS),
        ("success", 0.005, 0.03, Verdict.INCONCLUSIVE),
        ("success", -0.02, 0.01, Verdict.FAIL),
        ("guardrail", -0.009, 0.03, Verdict.PASS),
        ("guardrail", -0.02, 0.03, Verdict.INCONCLUSIVE),
        ("guardrail", -0.03, -0.02, Verdict.FAIL),
        ("deterioration", -0.009, 0.03, Verdict.PASS),
        ("deterioration", -0.02, 0.03, Verdict.PASS),
        ("deterioration", -0.03, -0.02, Verdict.FAIL),
    ],
)
@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_roles(metric: str, role: str, low: float, high: float, verdict: Verdict) -> None:
    gain = _estimate((low + high) / 2, low, high)
    difference = gain if metric == "auc" else _estimate(-gain.value, -high, -low)
    (reason,) = _judge(
        _evaluation(production=_peer("production", **{metric: difference})),
        metric=metric, role=role, against="production", margin=0.01,
    )  # fmt: skip
    assert reason.verdict is verdict
    assert (reason.observed, reason.low, reason.high) == pytest.approx((gain.value, low, high))
    assert reason.bound == (0.01 if role == "success" else -0.01)
    assert reason.rule == f"{role} {metric} vs production"


@pytest.mark.parametrize(
    ("metric", "limit", "verdict"),
    [
        ("ece", 0.03, Verdict.PASS),
        ("ece", 0.02, Verdict.INCONCLUSIVE),
        ("ece", 0.009, Verdict.FAIL),
        ("auc", 0.78, Verdict.PASS),
        ("auc", 0.8, Verdict.INCONCLUSIVE),
        ("auc", 0.83, Verdict.FAIL),
    ],
)
def test_limits_hold_for_the_bad_end(metric: str, limit: float, verdict: Verdict) -> None:
    (reason,) = _judge(_evaluation(), metric=metric, role="limit", limit=limit)
    assert reason.verdict is verdict
    assert reason.bound == limit


def test_sentences_can_be_read_by_a_newcomer() -> None:
    found = _evaluation(
        production=_peer("production"),
        slices=(_slice("VX", 812, log_loss=_estimate(0.31, 0.22, 0.41)),),
        baselines=(_peer("rate", auc=_estimate(0.1, 0.08, 0.12)), _peer("logistic", auc=_estimate(0.04, 0.03, 0.05))),
        best_baseline="logistic",
    )
    (broken,) = _judge(
        found, metric="log_loss", role="deterioration", against="production", margin=0.05, per_slice=True
    )
    assert broken.text == (
        "In slice shop=VX the log loss is 0.31 worse than production (95 % interval 0.22 to 0.41, n=812); "
        "allowed is 0.05 worse."
    )
    assert broken.rule == "deterioration log_loss vs production[shop=VX]"
    assert broken.verdict is Verdict.FAIL
    (better,) = _judge(found, metric="auc", role="success", against="best-baseline")
    assert better.text == (
        "The AUC is 0.04 better than the best baseline (logistic) (95 % interval 0.03 to 0.05, n=1000); "
        "wanted is more than 0 better."
    )
    (limit,) = _judge(found, metric="ece", role="limit", limit=0.1)
    assert limit.text == ("The calibration error is 0.02 (95 % interval 0.01 to 0.03, n=1000); allowed is at most 0.1.")


def test_slices_give_a_reason_each_that_fails_and_one_for_the_rest() -> None:
    rule = {"metric": "log_loss", "role": "deterioration", "against": "production", "margin": 0.05, "per_slice": True}
    fine, bad = _estimate(0.01, -0.01, 0.02), _estimate(0.3, 0.2, 0.4)
    slices = (
        _slice("a", 900, log_loss=fine),
        _slice("b", 800, log_loss=bad),
        _slice("c", 700),
        _slice("d", 499, log_loss=bad),
        _slice("e", 600, log_loss=_estimate(0.02, -0.01, 0.06)),
    )
    found = _evaluation(production=_peer("production"), slices=slices)
    reasons = _judge(found, **rule)
    assert [(reason.rule.partition("[")[2], reason.verdict.value) for reason in reasons] == [
        ("shop=b]", "FAIL"),
        ("shop=c]", "INCONCLUSIVE"),
        ("slices]", "PASS"),
    ]
    assert "was not measured" in reasons[1].text
    assert reasons[2].text.startswith("2 of 4 judged slices pass; the closest to the bound: In slice shop=e ")
    assert reasons[2].text.endswith("Not judged, fewer than 500 rows or not measurable: shop=d (499 rows).")
    skipping = _judge(found, **rule, when_missing="skip")
    assert [reason.verdict.value for reason in skipping] == ["FAIL", "PASS"]
    assert "shop=c (700 rows)" in skipping[1].text
    nan = _evaluation(production=found.production, slices=(*slices, _slice("f", 900, log_loss=_estimate(NAN, 0, 1))))
    assert [reason.verdict.value for reason in _judge(nan, **rule, when_missing="skip")][:2] == ["FAIL", "INCONCLUSIVE"]


def test_small_slices_do_not_block_but_none_at_all_is_inconclusive() -> None:
    rule = {"metric": "log_loss", "role": "deterioration", "against": "production", "margin": 0.05, "per_slice": True}
    bad = _estimate(0.3, 0.2, 0.4)
    some = (_slice("a", 900, log_loss=_estimate(0, -0.01, 0.01)), _slice("b", 20, log_loss=bad))
    assert overall(_judge(_evaluation(production=_peer("production"), slices=some), **rule)) is Verdict.PASS
    for slices in ((_slice("b", 20, log_loss=bad),), ()):
        (reason,) = _judge(_evaluation(production=_peer("production"), slices=slices), **rule)
        assert reason.verdict is Verdict.INCONCLUSIVE
        assert "No slice could be judged" in reason.text


@pytest.mark.parametrize("broken", [(NAN, 0.1, 0.2), (0.1, NAN, 0.2), (0.1, 0.0, float("inf"))])
@pytest.mark.parametrize("role", ["success", "guardrail", "deterioration"])
def test_what_is_not_a_number_is_inconclusive(role: str, broken: tuple[float, float, float]) -> None:
    found = _evaluation(production=_peer("production", auc=_estimate(*broken)))
    (reason,) = _judge(found, metric="auc", role=role, against="production", margin=0.01)
    assert reason.verdict is Verdict.INCONCLUSIVE
    assert "not a finite number" in reason.text
    assert reason.observed is None


@pytest.mark.parametrize("against", ["production", "best-baseline", "teacher"])
def test_absent_numbers_are_inconclusive_with_the_problem(against: str) -> None:
    found = _evaluation(production=_peer("production"), problems=("3 of 9 scores are NaN.",))
    (reason,) = _judge(found, metric="auc", role="deterioration", against=against, margin=0.01)
    assert reason.verdict is Verdict.INCONCLUSIVE
    assert reason.text.endswith("3 of 9 scores are NaN.")


def test_too_few_rows_are_inconclusive() -> None:
    found = _evaluation(n=499, production=_peer("production", auc=_estimate(0.1, 0.05, 0.2)))
    (reason,) = _judge(found, metric="auc", role="guardrail", against="production", margin=0.01)
    assert reason.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("per_slice", [True, False])
def test_empty_production_passes_and_says_so(per_slice: bool) -> None:
    (reason,) = _judge(_evaluation(), metric="auc", role="guardrail", against="production", per_slice=per_slice)
    assert reason.verdict is Verdict.PASS
    assert reason.text.startswith("Production is empty")


def _verdict_on(directory: Path, policy: GatePolicy, variant: str = "student_int8") -> tuple[Reason, ...]:
    found = evaluate(sample_task(), directory, directory, directory, variant, production(), seed=1)
    return judge(found, policy)


def test_dev_policy_lets_a_sound_challenger_through(tmp_path: Path) -> None:
    write_sample(tmp_path)
    reasons = _verdict_on(tmp_path, DEV)
    assert overall(reasons) is Verdict.PASS, [reason.text for reason in reasons if reason.verdict is not Verdict.PASS]
    assert len(reasons) == len(DEV.offline)


def test_dev_policy_stops_a_challenger_that_is_broken_in_one_slice(tmp_path: Path) -> None:
    north = write_sample(tmp_path).frame["slice_shop"].to_numpy() == "north"
    write_sample(tmp_path, broken=np.where(north, 1.8, 0.0))
    failed = [reason for reason in _verdict_on(tmp_path, DEV) if reason.verdict is Verdict.FAIL]
    assert [reason.rule for reason in failed if "[" in reason.rule] == [
        "deterioration log_loss vs production[shop=north]"
    ]


def test_dev_policy_does_not_promote_a_candidate_with_nan_scores(tmp_path: Path) -> None:
    write_sample(tmp_path, student_int8=np.full(2 * DAYS * ROWS_A_DAY, np.nan))
    assert overall(_verdict_on(tmp_path, DEV)) is Verdict.INCONCLUSIVE


def _document() -> dict[str, Any]:
    return dict(yaml.safe_load(POLICY_FILE.read_bytes()))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"surprise": 1}, "surprise"),
        ({"offline": []}, "offline"),
        ({"offline": [{"metric": "auc", "role": "success", "against": "best-baseline", "margin": 1.5}]}, "margin"),
        ({"offline": [{"metric": "auc", "role": "success", "against": "best-baseline", "margin": NAN}]}, "margin"),
        ({"offline": [{"metric": "auc", "role": "success"}]}, "against"),
        ({"offline": [{"metric": "ece", "role": "limit"}]}, "limit"),
        ({"offline": [{"metric": "f1", "role": "success", "against": "teacher"}]}, "metric"),
        ({"select": {"margin": -0.1}}, "select.margin"),
        ({"online": {**_document()["online"], "look_every_hours": 0}}, "look_every_hours"),
        (
            {"online": {**_document()["online"], "canary": {**_document()["online"]["canary"], "steps": [50, 10]}}},
            "steps",
        ),
    ],
)
def test_a_wrong_policy_is_refused_by_its_key(change: dict[str, Any], named: str) -> None:
    text = yaml.safe_dump({**_document(), **change}).encode()
    with pytest.raises(BadInput, match=rf"gate-policy\.yaml.*{named}"):
        parse_policy(text, "gate-policy.yaml")


def test_a_policy_that_is_not_yaml_or_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not YAML"):
        parse_policy(b"a: [", "gate-policy.yaml")
    with pytest.raises(BadInput, match=r"absent\.yaml: cannot be read"):
        read_policy(tmp_path / "absent.yaml")
