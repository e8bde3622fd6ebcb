"""What a recipe may name as its family, what each refuses, and trees that are the same bytes on any machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sluice.content import digest_of_bytes, digest_of_value
from sluice.errors import BadArtifact, BadInput
from sluice.models.encoder import Encoder, RawCode, fit_encoder, fit_raw_encoder
from sluice.models.runtime import OnnxScorer
from sluice.targets.registry import BINARY
from sluice.tasks.recipe import Recipe
from sluice.training.boosting import TreeSettings, boost, margins
from sluice.training.distribution import Distribution
from sluice.training.families.family import Family, read_teacher
from sluice.training.families.registry import FAMILIES, family_of
from sluice.training.families.trees import BOOSTER
from sluice.training.frame import EncodedSplit, encoded_splits, prepared_frame, reduced_manifest
from sluice.training.objective import objective_of
from sluice.training.setup import TrainingSetup
from sluice.training.teacher import train_teacher
from tests.support.tiny_training import RECIPE, sample, write_frame

TREES = RECIPE.model_copy(update={"family": "trees", "settings": {"rounds": 60, "learning_rate": 0.2}})


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_frame(tmp_path_factory.mktemp("frame"), sample())


@pytest.fixture(scope="module")
def teacher(frame: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trees") / "teacher"
    train_teacher(frame, TREES, out, ("shop",), lambda _line: None)
    return out


@pytest.fixture(scope="module")
def splits(frame: Path) -> tuple[Encoder, dict[str, EncodedSplit]]:
    rows = prepared_frame(frame, TREES)
    encoder = fit_raw_encoder(rows.filter(split="train"), reduced_manifest(frame, TREES))
    return encoder, encoded_splits(rows, encoder)


def test_a_recipe_of_before_has_the_digest_that_it_had() -> None:
    document = RECIPE.model_dump(mode="json")
    assert not {"family", "settings"} & set(document)
    named = RECIPE.model_copy(update={"family": "trees", "settings": {"rounds": 9}})
    assert Recipe.model_validate_json(named.model_dump_json()) == named
    assert digest_of_value(named.model_dump(mode="json")) != digest_of_value(document)


@pytest.mark.parametrize("name", [*FAMILIES, "tests.support.own_networks:crossed"])
def test_a_family_is_found_by_name_or_by_place(name: str) -> None:
    recipe = RECIPE.model_copy(update={"family": name})
    family = family_of(recipe)
    family.check(recipe, TrainingSetup())
    assert isinstance(family, Family)


UNKNOWN = {
    "a name that is not there": ("forest", "is not known"),
    "no such module": ("nowhere.at.all:build", "cannot be imported"),
    "no such attribute": ("tests.support.own_networks:absent", "cannot be imported"),
    "no function": ("tests.support.own_networks:NUMBER", "is a int, neither a function nor a family"),
    "an empty module": (":build", "cannot be imported"),
    "a module that raises": ("antigravity.nothing:build", "cannot be imported"),
}


@pytest.mark.parametrize("case", list(UNKNOWN))
def test_what_is_no_family_is_refused_before_anything_is_trained(case: str, frame: Path, tmp_path: Path) -> None:
    name, rule = UNKNOWN[case]
    with pytest.raises(BadInput, match=rule) as refused:
        train_teacher(frame, RECIPE.model_copy(update={"family": name}), tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


MIRRORED = TrainingSetup(Distribution(kind="mirrored"))
KEPT = TrainingSetup(checkpoints="somewhere")
CANNOT: dict[str, tuple[dict[str, Any], TrainingSetup, str]] = {
    "a setting that trees do not have": ({"settings": {"depth": 3}}, TrainingSetup(), "'depth' of family 'trees'"),
    "a setting out of range": ({"settings": {"max_depth": 99}}, TrainingSetup(), "'max_depth' of family 'trees'"),
    "a setting of another type": ({"settings": {"rounds": "many"}}, TrainingSetup(), "'rounds' of family 'trees'"),
    "a setting that is no number": ({"settings": {"reg_lambda": float("nan")}}, TrainingSetup(), "'reg_lambda'"),
    "trees over devices": ({}, MIRRORED, "distribution 'mirrored'"),
    "trees with checkpoints": ({}, KEPT, "keeps no checkpoints"),
    "trees in bfloat16": ({"precision": "mixed_bfloat16"}, TrainingSetup(), "cannot compute in mixed_bfloat16"),
    "a perceptron with settings": ({"family": "mlp", "settings": {"rounds": 3}}, TrainingSetup(), "'rounds' of family"),
    "branches over devices": ({"family": "wide-and-deep"}, MIRRORED, "distribution 'mirrored'"),
    "branches with checkpoints": ({"family": "wide-and-deep"}, KEPT, "keeps no checkpoints"),
    "one's own in bfloat16": (
        {"family": "tests.support.own_networks:crossed", "precision": "mixed_bfloat16"},
        TrainingSetup(),
        "cannot compute in mixed_bfloat16",
    ),
}


@pytest.mark.parametrize("case", list(CANNOT))
def test_what_a_family_cannot_do_is_refused_by_name(case: str, frame: Path, tmp_path: Path) -> None:
    change, setup, rule = CANNOT[case]
    recipe = TREES.model_copy(update={"settings": {}, **change})
    with pytest.raises(BadInput, match=rule):
        train_teacher(frame, recipe, tmp_path / "out", setup=setup)
    assert not (tmp_path / "out").exists()


def test_trees_get_numbers_as_they_are_and_strings_as_one_hot(splits: tuple[Encoder, dict[str, EncodedSplit]]) -> None:
    encoder = splits[0]
    assert [column.kind for column in encoder.columns] == ["raw", "raw", "category"]
    assert not encoder.dense
    again = Encoder.model_validate_json(encoder.model_dump_json())
    rows: dict[str, list[Any]] = {"size": [1.25, None, 1e300], "price": [-7, float("nan"), 0], "shop": ["b", "z", None]}
    largest = np.finfo(np.float32).max
    expected = np.array([[1.25, -7, 0, 1, 0], [np.nan, np.nan, 0, 0, 0], [largest, 0, 0, 0, 0]], np.float32)
    assert np.array_equal(again.encode(rows), expected, equal_nan=True)
    assert np.array_equal(again.encode(pl.DataFrame(rows, strict=False)), expected, equal_nan=True)
    assert encoder.one_hot == {"shop": slice(2, 5)}


def test_strings_alone_are_encoded_and_a_raw_column_that_is_absent_is_named() -> None:
    rows = pl.DataFrame({"shop": ["a", "a", "b", "b"]})
    only = Encoder(columns=(fit_encoder(rows, _manifest_of("shop")).columns[0],))
    assert only.encode({"shop": ["b", "a"]}).tolist() == [[0, 1], [1, 0]]
    with pytest.raises(BadInput, match="'size'"):
        Encoder(columns=(RawCode(name="size"),)).encode({"price": [1.0]})


def _manifest_of(name: str) -> Any:
    from tests.support.tiny_training import MANIFEST

    return MANIFEST.model_copy(update={"features": tuple(each for each in MANIFEST.features if each.name == name)})


def test_the_file_answers_as_the_library_on_every_row(
    teacher: Path, splits: tuple[Encoder, dict[str, EncodedSplit]]
) -> None:
    encoder = read_teacher(teacher, TREES)
    trees = family_of(TREES).restore(teacher, TREES, encoder, objective_of(BINARY, splits[1]["train"].y))
    assert encoder == splits[0]
    x = np.concatenate([part.x for part in splits[1].values()])
    assert np.isnan(x).any()
    file = trees.model_file(x, "teacher_f32")
    assert file.format == "onnx"
    assert file.beside[BOOSTER] == (teacher / BOOSTER).read_bytes()
    assert np.abs(OnnxScorer(file.data).raw(x) - trees.raw(x)).max() <= 1e-5


def test_trees_beat_what_they_are_beside(teacher: Path) -> None:
    table = pl.read_parquet(teacher / "baselines.parquet")
    assert table.columns == ["example_id", "split", "prior", "rate", "logistic", "trees"]
    assert table.filter(pl.any_horizontal(pl.col("logistic", "trees").is_between(0, 1).not_())).is_empty()
    labelled = table.filter(split="test").join(sample().select("example_id", "label"), on="example_id")
    losses = labelled.select(
        -(pl.when(pl.col("label") == 1).then(pl.col(name)).otherwise(1 - pl.col(name))).log().mean().alias(name)
        for name in ("prior", "logistic", "trees")
    ).row(0)
    assert losses[2] < losses[1] < losses[0]


def test_tune_says_when_to_stop(splits: tuple[Encoder, dict[str, EncodedSplit]]) -> None:
    parts = splits[1]
    objective = objective_of(BINARY, parts["train"].y)
    settings = TreeSettings(rounds=400, patience=5, learning_rate=0.3, min_child_weight=1, max_depth=8)
    lines: list[str] = []
    booster, losses = boost(parts["train"], parts["tune"], settings, objective, 1, lines.append)
    best = int(np.argmin(losses["tune"])) + 1
    assert booster.num_boosted_rounds() == best < len(losses["tune"]) < 400
    assert len(lines) == len(losses["tune"]) // 25
    logits = margins(booster, parts["tune"].x)[:, 0]
    loss = np.mean(np.logaddexp(0, logits) - parts["tune"].y * logits)
    assert loss == pytest.approx(losses["tune"][best - 1], abs=1e-5)


SAME = """
import sys
from pathlib import Path
from sluice.tasks.recipe import Recipe
from sluice.training.families.registry import family_of
from sluice.training.frame import encoded_splits, prepared_frame, reduced_manifest
from sluice.training.objective import objective_of
from sluice.targets.registry import BINARY
from sluice.training.setup import TrainingSetup
frame, out, recipe = Path(sys.argv[1]), Path(sys.argv[2]), Recipe.model_validate_json(sys.argv[3])
rows, family = prepared_frame(frame, recipe), family_of(recipe)
encoder = family.fit_encoder(rows.filter(split="train"), reduced_manifest(frame, recipe))
splits = encoded_splits(rows, encoder)
family.train(splits, encoder, recipe, objective_of(BINARY, splits["train"].y), print, TrainingSetup(), out)
print("tensorflow" in sys.modules, "sklearn" in sys.modules)
"""


def test_the_same_seed_gives_the_same_trees_whatever_threads_there_are(
    frame: Path, teacher: Path, tmp_path: Path
) -> None:
    """In another process, which is told to use four threads; it needs neither TensorFlow nor scikit-learn."""
    asked = [sys.executable, "-c", SAME, str(frame), str(tmp_path), TREES.model_dump_json()]
    environ = os.environ | {"OMP_NUM_THREADS": "4", "PYTHONHASHSEED": "7"}
    said = subprocess.run(asked, env=environ, capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "False False"
    assert digest_of_bytes((tmp_path / BOOSTER).read_bytes()) == digest_of_bytes((teacher / BOOSTER).read_bytes())


def test_damaged_trees_are_refused(
    teacher: Path, splits: tuple[Encoder, dict[str, EncodedSplit]], tmp_path: Path
) -> None:
    objective = objective_of(BINARY, splits[1]["train"].y)
    for name in ("encoder.json", "spec.json"):
        (tmp_path / name).write_bytes((teacher / name).read_bytes())
    encoder = read_teacher(tmp_path, TREES)
    for content in (b"", b"{}", (teacher / BOOSTER).read_bytes()[:-200]):
        (tmp_path / BOOSTER).write_bytes(content)
        with pytest.raises(BadArtifact, match=r"booster\.json"):
            family_of(TREES).restore(tmp_path, TREES, encoder, objective)
    with pytest.raises(BadArtifact, match="family 'trees'"):
        read_teacher(tmp_path, RECIPE)
