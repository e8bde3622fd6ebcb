"""Replays of every kind of target: pairs say what they are of, or a task does."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from sluice.commands import app
from sluice.errors import BadInput
from sluice.evaluation.holdout import Holdout
from sluice.evaluation.pairs import write_pairs
from sluice.simulation.pairs import read_pairs
from sluice.simulation.plan import plan_shadow
from sluice.simulation.replay_command import ReplayOptions, replay_pairs
from sluice.targets.regression import Regression
from sluice.targets.yardstick import OwnMetric, Yardstick
from tests.support.import_kinds import kind_task
from tests.support.targets import SAMPLES, TargetSample, diabetes, diabetes_quantiles, digits

_POLICY = Path(__file__).parents[2] / "manifests/overlays/dev/gate-policy.yaml"
_DAYS = 40
_BEGIN = datetime(2024, 3, 1, tzinfo=UTC)
OWN = Yardstick(Regression(tolerance=5), (OwnMetric("cost", "cost", lambda y, p: 3 * np.abs(y - p[:, 0])),), "cost")
OWN_TASK = kind_task(OWN.target)


def worse(sample: TargetSample) -> Any:
    """The sample's predictions of other rows, a tenth of them mixed in: still predictions."""
    predictions = 0.9 * sample.predictions + 0.1 * sample.predictions[::-1]
    return np.sort(predictions, axis=1) if len(getattr(sample.target, "quantiles", ())) > 1 else predictions


def write(folder: Path, sample: TargetSample, yardstick: Yardstick | None = None) -> Path:
    n = len(sample.labels)
    rng = np.random.default_rng(1)
    moments = [
        _BEGIN + timedelta(days=int(day), minutes=int(minute))
        for day, minute in zip(np.arange(n) % _DAYS, rng.integers(0, 1400, n), strict=True)
    ]
    time = pl.Series(moments, dtype=pl.Datetime("us", "UTC"))
    frame = pl.DataFrame(
        {
            "example_id": [f"e{row:05d}" for row in range(n)],
            "event_time": time,
            "label_time": time + timedelta(minutes=5),
            "label": sample.labels,
            "slice_shop": ["a", "b"] * (n // 2) + ["a"] * (n % 2),
        }
    )
    holdout = Holdout(frame, sample.target.codes(sample.labels), np.arange(n) % _DAYS)
    path = folder / "pairs.parquet"
    write_pairs(path, holdout, yardstick or Yardstick(sample.target), sample.predictions, worse(sample))
    return path


@pytest.mark.parametrize("make", SAMPLES)
def test_pairs_are_judged_by_the_loss_of_what_they_say_they_are(
    tmp_path: Path, make: Callable[[], TargetSample]
) -> None:
    sample = make()
    pairs = read_pairs(write(tmp_path, sample))
    labels = sample.target.codes(sample.labels)
    ours, theirs = (sample.target.losses(labels, each) for each in (sample.predictions, worse(sample)))
    assert pairs.loss == sample.target.loss_metric
    assert pairs.stable.mean() == pytest.approx(ours.mean(), rel=1e-4)
    assert pairs.difference.mean() == pytest.approx((theirs - ours).mean(), rel=1e-2, abs=1e-5)
    assert tuple(pairs.covariates) == sample.target.covariate_names
    assert np.isfinite(np.stack(list(pairs.covariates.values()))).all()
    assert read_pairs(tmp_path / "pairs.parquet", "shop=a").day.size == (len(sample.labels) + 1) // 2


def policy(folder: Path, metric: str) -> Path:
    text = _POLICY.read_text()
    assert "metric: log_loss" in text
    path = folder / "policy.yaml"
    path.write_text(text.replace("metric: log_loss", f"metric: {metric}"))
    return path


@pytest.mark.parametrize("make", [digits, diabetes_quantiles])
def test_they_are_played_and_planned_without_an_option(tmp_path: Path, make: Callable[[], TargetSample]) -> None:
    sample, path = make(), write(tmp_path, make())
    rules, options = policy(tmp_path, "loss"), ReplayOptions(5, 0, maximum_hours=240)
    played = replay_pairs(rules, path, options)
    assert (played.pairs, played.days in (_DAYS, _DAYS + 1)) == (len(sample.labels), True)
    assert "metric: loss, role" in plan_shadow(rules, path).policy_lines()
    own = plan_shadow(policy(tmp_path, sample.target.loss_metric), path)
    assert f"metric: {sample.target.loss_metric}, role" in own.policy_lines()
    with pytest.raises(BadInput, match=f"'deviance': is not .*, which is {sample.target.loss_metric}"):
        replay_pairs(policy(tmp_path, "deviance"), path, options)
    with pytest.raises(BadInput, match="'deviance': is not the loss of these pairs"):
        plan_shadow(policy(tmp_path, "deviance"), path)


def bare(path: Path, *changes: pl.Expr) -> Path:
    """The same rows, written by somebody else: with lists, and nothing said of the target."""
    frame = pl.read_parquet(path)
    lists = [pl.col(name).arr.to_list() for name, kind in frame.schema.items() if isinstance(kind, pl.Array)]
    frame.with_columns(lists).with_columns(changes).write_parquet(path)
    return path


def test_a_task_says_it_where_the_file_does_not(tmp_path: Path) -> None:
    sample = digits()
    said = read_pairs(write(tmp_path, sample))
    task = kind_task(sample.target)
    found = read_pairs(bare(write(tmp_path, sample)), None, task)
    assert np.array_equal(found.difference, said.difference)
    cases = (
        (sample, (), "has labels of type String"),
        (sample, (pl.lit(1).alias("label"),), "has lists of other lengths than 1"),
        (diabetes(), (), "has labels from .*say by --task"),
    )
    for other, changes, rule in cases:
        with pytest.raises(BadInput, match=rule):
            read_pairs(bare(write(tmp_path, other), *changes))
    with pytest.raises(BadInput, match="are of a regression target, and task 'tiny' has another"):
        read_pairs(write(tmp_path, diabetes()), None, task)
    with pytest.raises(BadInput, match="column label: has labels of type Float64"):
        read_pairs(bare(write(tmp_path, diabetes())), None, task)


def test_what_is_no_prediction_of_the_kind_is_refused(tmp_path: Path) -> None:
    task = kind_task(digits().target)
    half = (pl.col("stable_score").list.eval(pl.element() / 2)).alias("stable_score")
    cases = ((half, "their sum is not 1"), (pl.lit(0.5).alias("stable_score"), "has 1 numbers a row, a multi-class"))
    for change, rule in (*cases, (pl.lit(None, pl.Float64).alias("stable_score"), "is null")):
        with pytest.raises(BadInput, match=rule) as refusal:
            read_pairs(bare(write(tmp_path, digits()), change), None, task)
        assert "\n" not in str(refusal.value)
    large = bare(write(tmp_path, diabetes()), pl.lit(1e30).alias("stable_score"))
    with pytest.raises(BadInput, match="has losses beyond"):
        read_pairs(large, None, OWN_TASK)


def test_a_loss_of_the_tasks_own_needs_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, diabetes(), OWN)
    with pytest.raises(BadInput, match="are judged by 'cost', a loss of their task's own; name the task by --task"):
        read_pairs(path)
    monkeypatch.setattr(type(OWN_TASK), "yardstick", OWN)
    pairs = read_pairs(path, None, OWN_TASK)
    errors = np.abs(diabetes().target.codes(diabetes().labels) - diabetes().predictions[:, 0])
    assert pairs.stable.mean() == pytest.approx(3 * errors.mean(), rel=1e-4)
    assert pairs.loss == "loss"


def test_the_commands_take_the_task(tmp_path: Path) -> None:
    path = bare(write(tmp_path, diabetes_quantiles()))
    task = ("--task", f"{__name__}:QUANTILE_TASK")
    rules = policy(tmp_path, "loss")
    done = CliRunner().invoke(app, ["plan", str(rules), "--replay", str(path), *task, "--json"])
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["loss"] == "loss"
    arguments = ["simulate", str(rules), "--replay", str(path), *task, "--rollouts", "5", "--hours", "240", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["pairs"] == len(diabetes_quantiles().labels)


QUANTILE_TASK = kind_task(diabetes_quantiles().target)
