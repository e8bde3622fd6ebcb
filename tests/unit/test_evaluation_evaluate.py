"""From frame and ladder to measurements, selection and evaluation."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sluice.content import canonical_json
from sluice.documents.evaluation import Evaluation
from sluice.errors import BadArtifact, BadInput
from sluice.evaluation.evaluate import evaluate
from sluice.evaluation.holdout import read_holdout, read_scores
from sluice.evaluation.intervals import DayResamples, ScoredModel, measure
from sluice.evaluation.measure import measure_ladder
from sluice.evaluation.select import select_variant
from sluice.gates.policy import SelectPolicy
from sluice.simulation.pairs import read_pairs
from sluice.targets.probabilities import exact_metrics, log_losses
from sluice.targets.registry import BINARY
from tests.support.evaluation import (
    DAYS,
    ROWS_A_DAY,
    production,
    sample_task,
    sigmoid,
    slow_weather,
    write_sample,
    write_slow_signal,
)

METRICS = [metric.name for metric in BINARY.metrics]
HALF = DAYS * ROWS_A_DAY


def _evaluate(directory: Path, variant: str = "student_int8", stable: bool = True) -> Evaluation:
    serving = production() if stable else None
    return evaluate(sample_task(), directory, directory, directory, variant, serving, seed=1)


def test_evaluation_holds_every_peer_on_the_untouched_rows(tmp_path: Path) -> None:
    sample = write_sample(tmp_path)
    found = _evaluate(tmp_path)
    test = sample.frame.filter(pl.col("split") == "test")
    scores = pl.read_parquet(tmp_path / "scores.parquet").filter(pl.col("split") == "test")["student_int8"].to_numpy()
    assert found.threshold is not None
    exact = exact_metrics(test["label"].cast(pl.Int64).to_numpy(), scores, found.threshold)
    assert set(found.metrics) == set(METRICS)
    assert {name: round(value, 6) for name, value in exact.items()} == {k: v.value for k, v in found.metrics.items()}
    assert (found.n, found.positives) == (HALF, int(test["label"].sum()))
    assert found.window == ("2020-02-20T00:00:00Z", "2020-03-31T00:00:00Z")
    assert [peer.name for peer in found.baselines] == ["prior", "logistic"]
    assert found.best_baseline == "logistic"
    assert found.baselines[1].difference["auc"].low > 0
    assert found.production is not None
    assert found.production.digest == "sha256:" + "0" * 64
    assert found.teacher is not None
    assert abs(found.teacher.difference["log_loss"].value) < 0.005
    assert found.bootstrap == {
        "resamples": 400,
        "days": DAYS,
        "mean_run_days": 1.0,
        "production_mean_run_days": 1.0,
        "seed": 1,
    }


def test_pairs_are_what_both_said_and_can_be_replayed(tmp_path: Path) -> None:
    sample, out = write_sample(tmp_path), tmp_path / "pairs.parquet"
    folders = (sample_task(), tmp_path, tmp_path, tmp_path, "student_int8")
    found = evaluate(*folders, production(), seed=1, pairs=out)
    pairs = read_pairs(out)
    assert (pairs.day.size, pairs.days) == (HALF, DAYS)
    assert found.production is not None
    gap = found.production.difference["log_loss"].value
    assert float(pairs.difference.mean()) == pytest.approx(gap, abs=1e-6)
    north = sample.frame.filter(pl.col("split") == "test", pl.col("slice_shop") == "north").height
    assert read_pairs(out, "shop=north").day.size == north
    first = out.read_bytes()
    evaluate(*folders, production(), seed=2, pairs=out)
    assert out.read_bytes() == first
    out.unlink()
    evaluate(*folders, None, seed=1, pairs=out)
    assert not out.exists()


def test_runs_are_as_long_as_days_of_the_candidate_depend(tmp_path: Path) -> None:
    write_sample(tmp_path, student_int8=sigmoid(slow_weather()))
    found = _evaluate(tmp_path, stable=False)
    assert 3 < found.bootstrap["mean_run_days"] <= (DAYS / 4 + 1) / 2
    assert "production_mean_run_days" not in found.bootstrap


def test_runs_against_production_are_as_long_as_the_days_of_the_difference_depend(tmp_path: Path) -> None:
    write_slow_signal(tmp_path)
    alone, found = _evaluate(tmp_path, stable=False), _evaluate(tmp_path)
    assert (alone.bootstrap["mean_run_days"], found.bootstrap["mean_run_days"]) == (1, 1)
    assert 3 < found.bootstrap["production_mean_run_days"] <= (DAYS / 4 + 1) / 2
    assert (found.metrics, found.baselines, found.teacher) == (alone.metrics, alone.baselines, alone.teacher)
    assert [part.versus_teacher for part in found.slices] == [part.versus_teacher for part in alone.slices]
    assert found.production is not None
    holdout = read_holdout(tmp_path, "test", ("signal", "slice_shop"))
    ours = read_scores(tmp_path / "scores.parquet", holdout)["student_int8"]
    theirs = production().predict(holdout.frame.select("signal"))
    ours = ours[:, 0]
    more = log_losses(holdout.labels, ours) - log_losses(holdout.labels, theirs)
    resamples = DayResamples.draw(holdout.days, [more], 1)
    models = [ScoredModel.of("model", scores, 0.4) for scores in (ours, theirs)]
    north = np.flatnonzero((holdout.frame["slice_shop"] == "north").to_numpy())
    for rows, difference in ((None, found.production.difference), (north, found.slices[0].versus_production)):
        first, second = (measure(holdout.labels, model, resamples, rows) for model in models)
        assert first.minus(second)["log_loss"] == difference["log_loss"]


def test_an_evaluation_from_before_there_were_runs_reads_as_it_was(tmp_path: Path) -> None:
    write_sample(tmp_path)
    document = _evaluate(tmp_path).model_dump(mode="json")
    document["bootstrap"] = {"resamples": 400, "days": DAYS, "seed": 1}
    assert canonical_json(Evaluation.model_validate(document).model_dump(mode="json")) == canonical_json(document)


def test_slices_partition_the_rows_and_small_ones_say_little(tmp_path: Path) -> None:
    write_sample(tmp_path)
    found = _evaluate(tmp_path)
    by_name = {f"{part.slice}={part.value}": part for part in found.slices}
    assert list(by_name) == ["shop=north", "shop=south", "size=huge", "size=plain"]
    assert by_name["shop=north"].n + by_name["shop=south"].n == HALF
    assert by_name["size=huge"].n == HALF // 400
    assert set(by_name["shop=north"].versus_production) == set(METRICS)
    assert by_name["shop=north"].versus_baseline["auc"].value > 0


def test_empty_production_leaves_no_peer_and_no_slice_difference(tmp_path: Path) -> None:
    write_sample(tmp_path)
    found = _evaluate(tmp_path, stable=False)
    assert found.production is None
    assert all(part.versus_production == {} for part in found.slices)


def test_scores_that_are_no_probabilities_are_told_not_measured(tmp_path: Path) -> None:
    bad = np.full(2 * HALF, 0.4)
    bad[-3:] = [np.nan, np.inf, 2.0]
    write_sample(tmp_path, student_int8=bad)
    found = _evaluate(tmp_path)
    assert found.metrics == {}
    assert found.production is not None
    assert found.production.difference == {}
    assert found.problems == (
        "3 of 2400 scores of the candidate (student_int8) are not probabilities (NaN or outside 0 to 1).",
    )
    canonical_json(found.model_dump(mode="json"))


def test_same_inputs_same_bytes_in_any_row_order_of_the_scores(tmp_path: Path) -> None:
    write_sample(tmp_path)
    first = _evaluate(tmp_path).model_dump_json()
    scores = pl.read_parquet(tmp_path / "scores.parquet")
    scores.reverse().write_parquet(tmp_path / "scores.parquet")
    assert _evaluate(tmp_path).model_dump_json() == first


def test_a_row_without_scores_is_refused(tmp_path: Path) -> None:
    write_sample(tmp_path)
    scores = pl.read_parquet(tmp_path / "scores.parquet")
    scores.head(-5).write_parquet(tmp_path / "scores.parquet")
    with pytest.raises(BadArtifact, match=r"scores\.parquet: has no scores for 5 of 2400 rows"):
        _evaluate(tmp_path)
    pl.concat([scores, scores.tail(1)]).write_parquet(tmp_path / "scores.parquet")
    with pytest.raises(BadArtifact, match="has rows twice"):
        _evaluate(tmp_path)


def test_a_missing_feature_of_production_is_named(tmp_path: Path) -> None:
    sample = write_sample(tmp_path)
    sample.frame.drop("signal").write_parquet(tmp_path / "frame.parquet")
    with pytest.raises(BadArtifact, match="has no column 'signal'"):
        _evaluate(tmp_path)


def test_unknown_variant_and_unreadable_files_are_named(tmp_path: Path) -> None:
    write_sample(tmp_path)
    with pytest.raises(BadInput, match="'student_int4'"):
        _evaluate(tmp_path, variant="student_int4")
    (tmp_path / "baselines.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadArtifact, match=r"baselines\.parquet: cannot be read"):
        _evaluate(tmp_path)
    (tmp_path / "ladder.json").write_text("{}")
    with pytest.raises(BadArtifact, match=r"ladder\.json"):
        measure_ladder(tmp_path, tmp_path, seed=1)


def test_the_smallest_variant_within_the_margin_ships(tmp_path: Path) -> None:
    write_sample(tmp_path)
    measured = measure_ladder(tmp_path, tmp_path, seed=1)
    chosen = select_variant(measured, SelectPolicy(metric="log_loss", margin=0.01))
    assert chosen.name == "student_int8"
    assert any("student_pruned_int8 (900 bytes) does not qualify" in reason for reason in chosen.reasons)
    assert select_variant(tuple(reversed(measured)), SelectPolicy(metric="log_loss", margin=0.01)) == chosen
    by_auc = select_variant(measured, SelectPolicy(metric="auc", margin=0.01))
    assert by_auc.name == "student_pruned_int8"  # it only flattens the scores: their order is the same


def test_the_interval_selects_not_the_point(tmp_path: Path) -> None:
    write_sample(tmp_path)
    measured = measure_ladder(tmp_path, tmp_path, seed=1)
    loss = {variant.name: variant.versus_teacher["log_loss"] for variant in measured}["student_int8"]
    between = (max(loss.value, 0) + loss.high) / 2
    assert loss.value < between < loss.high
    assert select_variant(measured, SelectPolicy(margin=between)).name != "student_int8"


def test_a_measurement_says_its_format_where_it_is_not_litert(tmp_path: Path) -> None:
    write_sample(tmp_path)
    measured = measure_ladder(tmp_path, tmp_path, seed=1)
    assert [variant.model_dump().get("format") for variant in measured] == ["onnx", None, None, None]
    assert {variant.format for variant in measured[1:]} == {"litert"}


def test_nothing_qualifies_so_the_teacher_ships(tmp_path: Path) -> None:
    write_sample(tmp_path)
    measured = measure_ladder(tmp_path, tmp_path, seed=1)
    slow = tuple(variant.model_copy(update={"latency_p99_us": 9000.0}) for variant in measured)
    chosen = select_variant(slow, SelectPolicy())
    assert chosen.name == "teacher_f32"
    assert "No variant qualifies" in chosen.reasons[-1]
    with pytest.raises(BadInput, match="teacher_f32"):
        select_variant(measured[1:], SelectPolicy())


def test_a_variant_with_broken_scores_is_never_selected(tmp_path: Path) -> None:
    write_sample(tmp_path, student_int8=np.full(2 * HALF, np.nan))
    measured = measure_ladder(tmp_path, tmp_path, seed=1)
    assert {variant.name: variant for variant in measured}["student_int8"].metrics == {}
    assert select_variant(measured, SelectPolicy()).name == "student_f32"


def test_evaluation_of_a_sample_takes_no_time(tmp_path: Path) -> None:
    write_sample(tmp_path)
    start = time.process_time()
    _evaluate(tmp_path)
    assert time.process_time() - start < 3
