"""Training and compression as a step runs them: twice, in processes of their own, to the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sluice.content import digest_of_file, whole_directory
from sluice.errors import BadArtifact, BadInput
from sluice.models.encoder import Encoder
from sluice.models.runtime import LiteRTScorer
from sluice.tasks.recipe import Recipe
from sluice.training.frame import prepared_frame
from tests.support.forked import AS_A_TRAINING
from tests.support.tiny_training import RECIPE, sample, write_frame

STEP = (
    AS_A_TRAINING
    + """
import sys
from pathlib import Path
from sluice.compression.ladder import build_ladder
from sluice.tasks.recipe import Recipe
from sluice.training.teacher import train_teacher

frame, out, recipe = Path(sys.argv[1]), Path(sys.argv[2]), Recipe.model_validate_json(sys.argv[3])
train_teacher(frame, recipe, out / "teacher", ("shop",))
build_ladder(frame, out / "teacher", recipe, out / "ladder")
"""
)


def start_step(frame: Path, out: Path, recipe: Recipe, **variables: str) -> subprocess.Popen[str]:
    """Forked, unless ``variables`` ask Python to start in another way."""
    return subprocess.Popen(
        [sys.executable, "-c", STEP, str(frame), str(out), recipe.model_dump_json()],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_frame(tmp_path_factory.mktemp("frame"), sample())


@pytest.fixture(scope="module")
def runs(frame: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str, str]]:
    """(outputs, standard output, standard error) of the same step: in a fresh Python, and with another hash seed."""
    outs = [tmp_path_factory.mktemp(f"run{number}") for number in (1, 2)]
    steps = [start_step(frame, outs[0], RECIPE, PYTHONHASHSEED="1"), start_step(frame, outs[1], RECIPE)]
    said = [step.communicate() for step in steps]
    assert [step.returncode for step in steps] == [0, 0], said
    return [(out, *lines) for out, lines in zip(outs, said, strict=True)]


def read_scores(runs: list[tuple[Path, str, str]], split: str) -> pl.DataFrame:
    out = runs[0][0]
    both = pl.read_parquet(out / "ladder/scores.parquet").join(
        pl.read_parquet(out / "teacher/baselines.parquet").drop("split"), on="example_id", validate="1:1"
    )
    return both.filter(split=split).join(sample().select("example_id", "label"), on="example_id")


def auc(table: pl.DataFrame, name: str) -> float:
    ranks = table.select(rank=pl.col(name).rank(), label="label")
    positives = ranks.filter(label=1)
    n, m = positives.height, table.height - positives.height
    return (float(positives["rank"].sum()) - n * (n + 1) / 2) / (n * m)


def test_the_same_seed_gives_the_same_bytes_in_any_process(runs: list[tuple[Path, str, str]]) -> None:
    names = [f"ladder/{variant}/model.tflite" for variant in RECIPE.variants]
    names += ["ladder/scores.parquet", "teacher/baselines.parquet"]
    names += [f"teacher/{name}.json" for name in ("encoder", "manifest", "spec", "history")]
    first, second = ({name: digest_of_file(run[0] / name) for name in names} for run in runs)
    assert first == second


def test_people_see_epochs_and_variants_and_no_noise(runs: list[tuple[Path, str, str]]) -> None:
    _, said, complaints = runs[0]
    lines = said.splitlines()
    assert [line.split()[1] for line in lines[:3]] == ["1/3", "2/3", "3/3"]
    assert [line.split()[0] for line in lines[3:]] == list(RECIPE.variants)
    assert complaints == ""


@pytest.mark.parametrize("variant", RECIPE.variants)
def test_every_variant_beats_every_baseline_where_the_truth_is_curved(
    runs: list[tuple[Path, str, str]], variant: str
) -> None:
    table = read_scores(runs, "test")
    best = max(auc(table, name) for name in ("prior", "rate", "logistic"))
    assert auc(table, variant) > best + 0.05


@pytest.mark.parametrize("variant", RECIPE.variants)
def test_scores_are_probabilities_on_the_scale_of_the_labels(runs: list[tuple[Path, str, str]], variant: str) -> None:
    table = read_scores(runs, "test")
    scores = table[variant]
    assert scores.dtype == pl.Float64
    assert scores.is_between(0, 1).all()
    assert abs(float(scores.mean() or 0) - float(table["label"].mean() or 0)) < 0.06  # type: ignore[arg-type]


def test_the_ladder_says_size_and_speed(runs: list[tuple[Path, str, str]]) -> None:
    ladder = runs[0][0] / "ladder"
    rungs = {rung["name"]: rung for rung in json.loads((ladder / "ladder.json").read_text())}
    assert list(rungs) == list(RECIPE.variants)
    for name, rung in rungs.items():
        assert rung["bytes"] == (ladder / name / "model.tflite").stat().st_size
        assert 0 < rung["latency_p50_us"] <= rung["latency_p99_us"]
    assert 0.48 <= rungs["student_pruned_int8"]["sparsity"] <= 0.52
    assert rungs["student_f32"]["sparsity"] < 0.05


@pytest.mark.parametrize("variant", RECIPE.variants)
def test_a_file_scores_one_row_as_it_scores_many(runs: list[tuple[Path, str, str]], frame: Path, variant: str) -> None:
    out = runs[0][0]
    encoder = Encoder.model_validate_json((out / "teacher/encoder.json").read_bytes())
    rows = prepared_frame(frame, RECIPE).filter(split="test")
    x = encoder.encode(rows)
    stored = pl.read_parquet(out / "ladder/scores.parquet").filter(split="test")
    scorer = LiteRTScorer((out / f"ladder/{variant}/model.tflite").read_bytes())
    many = scorer.scores(x)
    assert np.array_equal(many, stored[variant].to_numpy())
    one = np.concatenate([scorer.scores(x[index : index + 1]) for index in range(40)])
    assert np.abs(one - many[:40]).max() < 1e-6
    assert len(scorer.scores(x[:0])) == 0
    with pytest.raises(BadInput, match="shape"):
        scorer.scores(x[:, 1:])


def test_a_damaged_teacher_is_refused(runs: list[tuple[Path, str, str]], frame: Path, tmp_path: Path) -> None:
    from sluice.compression.ladder import build_ladder

    teacher = tmp_path / "teacher"
    teacher.mkdir()
    (teacher / "encoder.json").write_bytes((runs[0][0] / "teacher/encoder.json").read_bytes())
    (teacher / "spec.json").write_text('{"width": 1, "hidden": [8], "dropout": 0}')
    with pytest.raises(BadArtifact, match=r"spec\.json"):
        build_ladder(frame, teacher, RECIPE, tmp_path / "ladder")
    (teacher / "spec.json").write_text("{")
    with pytest.raises(BadArtifact, match="teacher"):
        build_ladder(frame, teacher, RECIPE, tmp_path / "ladder")
    assert not (tmp_path / "ladder").exists()


def test_sigterm_in_the_middle_leaves_nothing(frame: Path, tmp_path: Path) -> None:
    step = start_step(frame, tmp_path / "out", RECIPE.model_copy(update={"epochs": 500, "learning_rate": 1e-7}))
    assert step.stdout is not None
    assert step.stdout.readline().startswith("epoch 1/500")
    step.send_signal(signal.SIGTERM)
    step.communicate()
    assert step.returncode == 128 + signal.SIGTERM
    assert list((tmp_path / "out").iterdir()) == []


def write_half(out: Path, stop: type[BaseException]) -> None:
    with whole_directory(out) as directory:
        (directory / "new").write_text("half")
        raise stop


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, OSError])
def test_a_stopped_step_leaves_the_old_directory_whole(tmp_path: Path, stop: type[BaseException]) -> None:
    out = tmp_path / "out"
    with whole_directory(out) as directory:
        (directory / "old").write_text("old")
    with pytest.raises(stop):
        write_half(out, stop)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in out.iterdir()] == ["old"]


BAD: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], dict[str, Any], str]] = {
    "no column": (lambda frame: frame.drop("price"), {}, "'price'"),
    "no train": (lambda frame: frame.filter(pl.col("split") != "train"), {}, "'train'"),
    "no test": (lambda frame: frame.filter(pl.col("split") != "test"), {}, "'test'"),
    "NaN label": (lambda frame: frame.with_columns(pl.lit(float("nan")).alias("label")), {}, "'label'"),
    "null label": (lambda frame: frame.with_columns(pl.lit(None, pl.Int8).alias("label")), {}, "'label'"),
    "one class": (lambda frame: frame.with_columns(pl.lit(1, pl.Int8).alias("label")), {}, "one class"),
    "unknown feature": (lambda frame: frame, {"features": ("size", "colour")}, "'colour'"),
    "feature twice": (lambda frame: frame, {"features": ("size", "size")}, "'size' twice"),
    "not SQL": (lambda frame: frame, {"transform": {"size": "size +"}}, "recipe transform"),
    "unknown name in SQL": (lambda frame: frame, {"transform": {"size": "weight + 1"}}, "weight"),
    "unknown target": (lambda frame: frame, {"train_transform": {"weight": "size"}}, "'weight'"),
    "changed label": (lambda frame: frame, {"transform": {"label": "0"}}, "'label'"),
    "changed split": (lambda frame: frame, {"train_transform": {"split": "'test'"}}, "'split'"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_what_cannot_be_trained_on_is_refused_by_name(tmp_path: Path, case: str) -> None:
    change, recipe, named = BAD[case]
    frame = write_frame(tmp_path / "frame", change(sample()))
    with pytest.raises(BadInput, match=named):
        prepared_frame(frame, RECIPE.model_copy(update=recipe))


def test_a_truncated_frame_is_refused(tmp_path: Path) -> None:
    path = write_frame(tmp_path / "frame", sample()) / "frame.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"frame\.parquet"):
        prepared_frame(path.parent, RECIPE)


def test_transforms_reach_the_rows_that_they_name(frame: Path) -> None:
    changed = RECIPE.model_copy(update={"transform": {"size": "size * 60"}, "train_transform": {"price": "price + 1"}})
    before, after = prepared_frame(frame, RECIPE), prepared_frame(frame, changed)
    moved = (after["price"] - before["price"]).round(9)
    assert (after["size"] - before["size"] * 60).abs().max() == 0
    assert moved.filter(before["split"] == "train").unique().to_list() == [1.0]
    assert moved.filter(before["split"] != "train").unique().to_list() == [0.0]
