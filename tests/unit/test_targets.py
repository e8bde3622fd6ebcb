"""Kinds of target: numbers are those of scikit-learn and scipy, on all rows and in every resample."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import special, stats
from sklearn import metrics as oracle

from sluice.errors import BadInput
from sluice.evaluation.intervals import DayResamples, ScoredModel, measure
from sluice.targets.binary import Binary
from sluice.targets.counts import Counts
from sluice.targets.kind import Outcomes, TargetKind
from sluice.targets.multi_class import MultiClass
from sluice.targets.multi_label import MultiLabel
from sluice.targets.registry import TARGETS, target_of
from sluice.targets.regression import Regression
from sluice.targets.sums import DaySums
from sluice.targets.yardstick import OwnMetric, Yardstick
from tests.support.targets import (
    DIGITS,
    QUANTILES,
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

SOURCES = Path(__file__).parents[2]
ROUGH = {"auc", "pr_auc", "macro_auc"}
"""Resampled by bins of scores."""


def _outcomes(sample: TargetSample, threshold: float | None = 0.5) -> Outcomes:
    return Outcomes(sample.target.codes(sample.labels), sample.predictions, threshold)


def _multi_class(sample: TargetSample) -> dict[str, float]:
    target, labels, scores = sample.target, sample.target.codes(sample.labels), sample.predictions
    assert isinstance(target, MultiClass)
    codes, answers = range(len(target.classes)), scores.argmax(axis=1)
    recalls = oracle.recall_score(labels, answers, average=None)
    return {
        "accuracy": oracle.accuracy_score(labels, answers),
        "macro_f1": oracle.f1_score(labels, answers, average="macro"),
        "log_loss": oracle.log_loss(labels, scores),
        f"top_{target.top}": oracle.top_k_accuracy_score(labels, scores, k=target.top),
        **{f"recall[{target.classes[code]}]": recalls[code] for code in codes},
    }


def _multi_label(sample: TargetSample) -> dict[str, float]:
    labels, scores = sample.target.codes(sample.labels), sample.predictions
    flags = scores >= 0.5
    columns = range(labels.shape[1])
    losses = [oracle.log_loss(labels[:, j], scores[:, j]) for j in columns]
    areas = [oracle.roc_auc_score(labels[:, j], scores[:, j]) for j in columns]
    names = sample.target.columns
    return {
        "macro_auc": oracle.roc_auc_score(labels, scores, average="macro"),
        "macro_f1": oracle.f1_score(labels, flags, average="macro"),
        "subset_accuracy": oracle.accuracy_score(labels, flags),
        "log_loss": float(np.mean(losses)),
        **{f"log_loss[{names[j]}]": losses[j] for j in columns},
        **{f"auc[{names[j]}]": areas[j] for j in columns},
    }


def _regression(sample: TargetSample, value: np.ndarray) -> dict[str, float]:
    labels = sample.labels.to_numpy()
    return {
        "rmse": oracle.root_mean_squared_error(labels, value),
        "mae": oracle.mean_absolute_error(labels, value),
        "bias": float((value - labels).mean()),
        "r2": oracle.r2_score(labels, value),
    }


def _quantiles(sample: TargetSample) -> dict[str, float]:
    labels, values = sample.labels.to_numpy(), sample.predictions
    losses = [oracle.mean_pinball_loss(labels, values[:, j], alpha=QUANTILES[j]) for j in range(3)]
    inside = (labels >= values[:, 0]) & (labels <= values[:, 2])
    width = float((values[:, 2] - values[:, 0]).mean())
    shared = _regression(sample, values[:, 1])
    return {"pinball": float(np.mean(losses)), "coverage": float(inside.mean()), "width": width, **shared}


ORACLES: list[tuple[TargetSample, dict[str, float]]] = [
    (digits(), _multi_class(digits())),
    (wine(), _multi_class(wine())),
    (exercises(), _multi_label(exercises())),
    (
        diabetes(),
        {
            **_regression(diabetes(), diabetes().predictions[:, 0]),
            "mse": oracle.mean_squared_error(diabetes().labels, diabetes().predictions[:, 0]),
        },
    ),
    (diabetes_quantiles(), _quantiles(diabetes_quantiles())),
    (
        visits(),
        {
            "deviance": oracle.mean_poisson_deviance(visits().labels, visits().predictions[:, 0]),
            "mae": oracle.mean_absolute_error(visits().labels, visits().predictions[:, 0]),
            "bias": float((visits().predictions[:, 0] - visits().labels.to_numpy()).mean()),
        },
    ),
]


@pytest.mark.parametrize(
    ("sample", "truth"), ORACLES, ids=lambda part: getattr(part, "target", None) and part.target.kind
)
def test_metrics_are_those_of_scikit_learn(sample: TargetSample, truth: dict[str, float]) -> None:
    found = sample.target.exact(_outcomes(sample))
    assert {name: found[name] for name in truth} == pytest.approx(truth, abs=1e-6)
    rest = {name for name in found if name not in truth}
    assert {name.partition("[")[0] for name in rest} <= {"ece"}
    assert set(found) == {metric.name for metric in sample.target.metrics}


@pytest.mark.parametrize("sample_of", SAMPLES)
def test_a_resample_says_what_its_rows_say(sample_of: Callable[[], TargetSample]) -> None:
    sample = sample_of()
    resamples = DayResamples.draw(sample.days, (), seed=1, resamples=3)
    outcomes = _outcomes(sample)
    draws = sample.target.resampled(outcomes, DaySums(sample.days, resamples.weights))
    apart: dict[int, set[str]] = {}
    for number, counts in enumerate(resamples.weights):
        rows = np.repeat(np.arange(len(sample.days)), counts[sample.days].astype(int))
        truth = sample.target.exact(Outcomes(outcomes.labels[rows], outcomes.predictions[rows], 0.5))
        known = {name: values[number] for name, values in draws.items() if not name.startswith("ece")}
        rough = {name for name in known if name.partition("[")[0] in ROUGH}
        apart[number] = {
            name for name, value in known.items() if abs(value - truth[name]) > (5e-3 if name in rough else 1e-9)
        }
    assert apart == {0: set(), 1: set(), 2: set()}


@pytest.mark.parametrize("sample_of", SAMPLES)
def test_every_metric_has_an_interval_around_its_value(sample_of: Callable[[], TargetSample]) -> None:
    sample = sample_of()
    yardstick = Yardstick(sample.target)
    model = ScoredModel.of("model", sample.predictions, 0.5, yardstick)
    codes, draws = sample.target.codes(sample.labels), DayResamples.draw(sample.days, (), seed=1)
    performance = measure(codes, model, draws, yardstick=yardstick)
    found = performance.estimates()
    assert list(found) == [name for name in performance.values if name in found]
    missing = {metric.name for metric in sample.target.metrics} - set(found)
    assert missing <= {f"recall[{name}]" for name in ("class_0",)}
    assert [name for name, part in found.items() if not part.low <= part.value <= part.high] == []
    assert sum(part.low < part.high for part in found.values()) >= len(found) - 1
    nothing = performance.minus(performance)
    assert {(part.low, part.value, part.high) for part in nothing.values()} == {(0, 0, 0)}


@pytest.mark.parametrize("sample_of", SAMPLES)
def test_losses_are_means_of_the_metric_of_that_name(sample_of: Callable[[], TargetSample]) -> None:
    sample = sample_of()
    outcomes, target = _outcomes(sample), sample.target
    mean = float(target.losses(outcomes.labels, outcomes.predictions).mean())
    assert target.exact(outcomes)[target.loss_metric] == pytest.approx(mean, abs=1e-12)


def test_links_are_those_of_scipy() -> None:
    raw = np.random.default_rng(1).normal(0, 30, (200, 3))
    assert MultiClass(classes=("a", "b", "c")).link(raw) == pytest.approx(special.softmax(raw, axis=1))
    assert MultiLabel(names=("a", "b", "c")).link(raw) == pytest.approx(special.expit(raw))
    assert Binary().link(raw[:, :1]) == pytest.approx(special.expit(raw[:, :1]))
    crossed = Regression(loss="pinball", quantiles=QUANTILES).link(raw)
    assert (np.diff(crossed, axis=1) >= 0).all()
    assert (Regression().link(raw[:, :1]) == raw[:, :1]).all()
    assert np.isfinite(Counts().link(np.array([[1e9], [-1e9]]))).all()


@pytest.mark.parametrize("sample_of", SAMPLES)
def test_predictions_of_a_link_are_some_and_others_are_none(sample_of: Callable[[], TargetSample]) -> None:
    target, n = sample_of().target, 50
    raw = np.random.default_rng(2).normal(0, 3, (n, target.outputs))
    predictions = target.link(raw)
    assert predictions.shape == (n, len(target.columns))
    assert target.are_predictions(predictions).all()
    for odd in (np.nan, np.inf, -np.inf):
        spoiled = predictions.copy()
        spoiled[3, -1] = odd
        assert np.flatnonzero(~target.are_predictions(spoiled)).tolist() == [3]


def test_poisson_deviance_is_twice_the_log_likelihood_lost() -> None:
    sample = visits()
    counts, rates = sample.labels.to_numpy(), sample.predictions[:, 0]
    best = stats.poisson.logpmf(counts, np.maximum(counts, 1e-300))
    lost = 2 * (best - stats.poisson.logpmf(counts, rates))
    assert Counts().losses(counts.astype(float), sample.predictions) == pytest.approx(lost)


@pytest.mark.parametrize("sample_of", SAMPLES)
def test_constants_are_the_best_that_one_number_can_be(sample_of: Callable[[], TargetSample]) -> None:
    sample = sample_of()
    target, labels = sample.target, sample.target.codes(sample.labels)
    constant = target.constant(labels)
    rows = np.tile(constant, (len(labels), 1))
    assert target.are_predictions(rows).all()
    least = target.losses(labels, rows).mean()
    towards = np.eye(constant.size)[0] - (np.eye(constant.size)[1] if constant.size > 1 else 0)
    others = (target.losses(labels, rows + step * towards).mean() for step in (-0.01, 0.01))
    assert all(other >= least - 1e-3 for other in others), target.kind


@pytest.mark.parametrize("sample_of", SAMPLES)
def test_groups_lean_on_all_rows_where_they_are_small(sample_of: Callable[[], TargetSample]) -> None:
    sample = sample_of()
    target, labels = sample.target, sample.target.codes(sample.labels)
    groups = np.where(np.arange(len(labels)) < 2, 1, 0)
    found = target.by_group(labels, groups, 3)
    assert found.shape == (3, len(target.columns))
    assert target.are_predictions(found).all()
    constant = target.constant(labels)
    assert found[2] == pytest.approx(constant)
    assert np.abs(found[1] - constant).max() <= np.abs(labels[:2] - constant.mean()).max()


FAULTS: list[tuple[TargetKind, pl.Series, str]] = [
    (Binary(), pl.Series([0, 2], dtype=pl.Int8), "labels from 0 to 2"),
    (Binary(), pl.Series(["a", "b"]), "labels of type String, not 0 and 1"),
    (
        MultiClass(classes=("a", "b")),
        pl.Series(["a", "c", "c"]),
        "label 'c' in 2 of 3 rows, which is none of the classes",
    ),
    (MultiClass(classes=("a", "b")), pl.Series([0, 1]), "labels of type Int64, not the names of classes"),
    (MultiLabel(names=("a", "b")), pl.Series([["a"], ["x", "b"]]), "label 'x', which is none of the target's names"),
    (MultiLabel(names=("a", "b")), pl.Series([["a", "a"]]), "a name twice, or null, in 1 of 1 lists"),
    (MultiLabel(names=("a", "b")), pl.Series([["a", None]]), "a name twice, or null, in 1 of 1 lists"),
    (MultiLabel(names=("a", "b")), pl.Series(["a"]), "labels of type String, not lists of names"),
    (Regression(), pl.Series([1.0, float("nan")]), "label nan in 1 of 2 rows, no finite number of 32 bits"),
    (Regression(), pl.Series([1.0, float("inf")]), "label inf in 1 of 2 rows, no finite number of 32 bits"),
    (Regression(), pl.Series([1.0, -1e39]), "no finite number of 32 bits"),
    (Regression(), pl.Series(["1"]), "labels of type String, not numbers"),
    (Counts(), pl.Series([1, -1]), "label -1 in 1 of 2 rows, which is no count"),
    (Counts(), pl.Series([1.5]), "labels of type Float64, not whole numbers"),
]


@pytest.mark.parametrize(("target", "labels", "rule"), FAULTS)
def test_a_label_of_the_wrong_kind_is_named(target: TargetKind, labels: pl.Series, rule: str) -> None:
    fault = target.label_fault(labels)
    assert fault is not None
    assert rule in fault.rule
    assert fault.fix


@pytest.mark.parametrize("sample_of", SAMPLES)
def test_labels_of_the_right_kind_have_no_fault(sample_of: Callable[[], TargetSample]) -> None:
    sample = sample_of()
    assert sample.labels.dtype == sample.target.label_type
    assert sample.target.label_fault(sample.labels) is None
    assert sample.target.split_fault(sample.labels) is None
    assert sample.target.split_fault(sample.labels.head(1)) is not None


def test_what_can_teach_nothing_is_named() -> None:
    for target, labels, rule in (
        (Binary(), pl.Series([1, 1], dtype=pl.Int8), "one class only (label 1)"),
        (MultiClass(classes=("a", "b", "c")), pl.Series(["a", "b"]), "no row of class 'c'"),
        (MultiLabel(names=("a", "b")), pl.Series([["a"], ["a", "b"]]), "label 'a' in all rows or in none"),
        (Regression(), pl.Series([2.0, 2.0]), "one label only (2.0)"),
        (Counts(), pl.Series([0, 0]), "one label only (0)"),
    ):
        fault = target.split_fault(labels)
        assert fault is not None
        assert fault.rule == rule


def test_a_target_reads_back_from_its_document_and_odd_ones_are_refused() -> None:
    for sample_of in SAMPLES:
        target = sample_of().target
        assert target_of(target.model_dump(mode="json")) == target
    for document, rule in (
        ({"kind": "ordinal"}, "target 'ordinal': is no kind of target; choose from binary, multi-class"),
        ({}, "is no kind of target"),
        ({"kind": "multi-class", "classes": ["a"]}, "target multi-class: classes"),
        ({"kind": "multi-class", "classes": ["a", "a"]}, "'a' is there twice"),
        ({"kind": "multi-class", "classes": ["a", " "]}, "is no name of 1 to 100"),
        ({"kind": "regression", "loss": "pinball"}, "loss 'pinball' needs 'quantiles'"),
        ({"kind": "regression", "quantiles": [0.5]}, "no other loss takes them"),
        ({"kind": "regression", "loss": "pinball", "quantiles": [0.9, 0.5]}, "quantiles ascend between 0 and 1"),
        ({"kind": "counts", "more": 1}, "target counts: more"),
    ):
        with pytest.raises(BadInput) as refusal:
            target_of(document)
        assert rule in str(refusal.value)


def test_classes_are_slices_in_which_accuracy_is_recall() -> None:
    sample = digits()
    outcomes = _outcomes(sample)
    whole = sample.target.exact(outcomes)
    parts = dict(sample.target.slices(outcomes.labels))
    assert tuple(parts) == DIGITS
    for name, rows in parts.items():
        part = sample.target.exact(Outcomes(outcomes.labels[rows], outcomes.predictions[rows], whole=False))
        assert part["accuracy"] == pytest.approx(whole[f"recall[{name}]"])
        assert "macro_f1" not in part
    overlapping = dict(exercises().target.slices(exercises().target.codes(exercises().labels)))
    assert sum(map(len, overlapping.values())) == exercises().labels.list.len().sum()


def test_pictures_hold_every_row_once() -> None:
    for sample, n in ((digits(), 1797), (diabetes(), 442), (visits(), 500)):
        outcomes = _outcomes(sample)
        first = sample.target.pictures(outcomes.labels, outcomes.predictions, None).pictures[0].model_dump()
        rows = first["rows"] if "rows" in first else [[part["n"] for part in first["bins"]]]
        assert sum(map(sum, rows)) == n
        assert sample.target.pictures(outcomes.labels, None, None).pictures == ()
    assert clicks().target.pictures(_outcomes(clicks()).labels, None, 0.5).curves is not None


@pytest.mark.parametrize("sample_of", SAMPLES)
def test_shift_agreement_and_covariates_are_declared(sample_of: Callable[[], TargetSample]) -> None:
    sample = sample_of()
    target, ours = sample.target, sample.predictions
    theirs = ours[::-1].copy()
    assert (target.shift(ours, ours) == 0).all()
    assert (target.shift(ours, theirs) == target.shift(theirs, ours)).all()
    assert target.shift(ours, theirs).shape == (len(ours),)
    same, other = (target.agreement(ours, others, (0.5, 0.5)) for others in (ours, theirs))
    assert (same is None) == (target == diabetes_quantiles().target)
    assert same is None or (same.all() and other is not None and not other.all())
    covariates = target.covariates(target.codes(sample.labels), ours)
    assert [values.shape for values in covariates.values()] == [(len(ours),)] * 2
    assert all(np.isfinite(values).all() for values in covariates.values())
    assert sum(field.size for field in target.answers) >= len(target.columns)


def test_a_task_adds_metrics_and_a_loss_of_its_own() -> None:
    sample = clicks()
    cost = OwnMetric(
        "cost", "cost of a miss", lambda label, score: np.where(label == 1, 5 * (1 - score[:, 0]), score[:, 0])
    )
    rate = OwnMetric("caught", "share caught", lambda _, score: score[:, 0] >= 0.5, lambda label, _: label, higher=True)
    yardstick = Yardstick(sample.target, (cost, rate), "cost")
    outcomes = _outcomes(sample)
    found = yardstick.exact(outcomes)
    assert found["task.caught"] == pytest.approx(found["recall"])
    assert found["task.cost"] == pytest.approx(yardstick.losses(outcomes.labels, outcomes.predictions).mean())
    loss = yardstick.metrics.find("loss")
    assert loss is not None
    assert loss.name == "task.cost"
    model = ScoredModel.of("model", sample.predictions, 0.5, yardstick)
    draws = DayResamples.draw(sample.days, (), seed=1)
    estimates = measure(outcomes.labels, model, draws, yardstick=yardstick).estimates()
    recall, caught = estimates["recall"], estimates["task.caught"]
    assert (caught.low, caught.high) == pytest.approx((recall.low, recall.high), abs=1e-6)


def _raises(label: np.ndarray, score: np.ndarray) -> np.ndarray:
    raise ZeroDivisionError("no\nrows")


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        (lambda _, score: score, r"gives shape \(500, 1\) for 500 rows"),
        (lambda label, _: np.log(label * 0.0), "500 of 500 numbers that are not finite"),
        (_raises, r"raises ZeroDivisionError \(no rows\)"),
        (lambda *_: ["a"] * 500, "raises ValueError"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_an_own_metric_that_gives_no_numbers_is_refused_by_name(
    values: Callable[[np.ndarray, np.ndarray], np.ndarray], rule: str
) -> None:
    with pytest.raises(BadInput, match=f"own metric 'cost': .*{rule}"):
        Yardstick(Binary(), (OwnMetric("cost", "cost", values),)).exact(_outcomes(clicks()))


def test_own_metrics_have_names_of_their_own() -> None:
    cost = OwnMetric("cost", "cost", lambda label, _: label)
    for wrong, rule in (
        (lambda: OwnMetric("Cost", "cost", cost.values), "is no name of small letters"),
        (lambda: Yardstick(Binary(), (cost, cost)), "is there twice"),
        (lambda: Yardstick(Binary(), (cost,), "loss"), "is none of the task's own metrics"),
        (lambda: Yardstick(Binary(), (OwnMetric("a", "a", cost.values, higher=True),), "a"), "is better when higher"),
    ):
        with pytest.raises(BadInput, match=rule):
            wrong()


def _asks_for_a_kind(path: Path) -> list[str]:
    """Places of a module that ask which kind a target is, by its class or its name."""
    classes = {kind.__name__ for kind in TARGETS.values()}
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        tests = (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("isinstance", "issubclass")
        )
        named = tests and any(isinstance(part, ast.Name) and part.id in classes for part in ast.walk(node))
        compared = isinstance(node, ast.Compare | ast.Match) and any(
            isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value in TARGETS
            for part in ast.walk(node)
        )
        if named or compared:
            found.append(f"{path.name}:{getattr(node, 'lineno', 0)}")
    return found


def test_nobody_outside_asks_which_kind_a_target_is() -> None:
    folders = ("components/src", "pipelines/src", "serving/src", "feature_repo")
    paths = [path for folder in folders for path in (SOURCES / folder).rglob("*.py") if "targets" not in path.parts]
    assert len(paths) > 200
    assert [place for path in paths for place in _asks_for_a_kind(path)] == []


def test_a_question_for_the_kind_is_found(tmp_path: Path) -> None:
    asks = tmp_path / "asks.py"
    for text in ('if target.kind == "binary": pass', "isinstance(target, Regression)", 'kind in ("counts", "x")'):
        asks.write_text(text)
        assert _asks_for_a_kind(asks) == ["asks.py:1"]


@pytest.mark.parametrize("make", SAMPLES)
def test_a_kind_answers_with_the_fields_that_it_says(make: Callable[[], TargetSample]) -> None:
    target, predictions = make().target, make().predictions[:5]
    answer = target.answer(predictions, target.unknown_threshold)
    assert list(answer) == [field.name for field in target.answers]
    sizes = {name: np.asarray(values).reshape(5, -1).shape[1] for name, values in answer.items()}
    assert sizes == {field.name: field.size for field in target.answers}
    types = {"FP64": float, "BOOL": bool, "BYTES": str}
    for field in target.answers:
        assert {type(value) for value in np.ravel(answer[field.name]).tolist()} == {types[field.datatype]}


def test_one_row_is_answered_as_many_are() -> None:
    raw = np.array([[-40.0], [-1.5], [0.0], [0.3], [800.0], [-800.0]])
    one = np.concatenate([Binary().link(row[np.newaxis]) for row in raw])
    assert one == pytest.approx(Binary().link(raw), abs=1e-16)
