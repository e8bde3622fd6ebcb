"""A network of a user's own as a teacher: it answers as its file does, and what is wrong with it is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sluice.errors import BadInput
from sluice.models.runtime import LiteRTScorer
from sluice.targets.probabilities import sigmoid
from sluice.targets.registry import BINARY
from sluice.training.determinism import start_tensorflow
from sluice.training.families.family import read_teacher
from sluice.training.families.registry import family_of
from sluice.training.frame import encoded_splits, prepared_frame
from sluice.training.objective import objective_of
from sluice.training.teacher import train_teacher
from tests.support.tiny_training import RECIPE, sample, write_frame

BRANCHED = ("wide-and-deep", "linear", "tests.support.own_networks:crossed")
WRONG = {
    "raises": "raised KeyError: 'colour'",
    "wide_output": r"returned shape \(None, 7\), need a Keras tensor of shape \(None, 1\)",
    "probability": "ends with Dense .* need a Dense with bias and without activation",
    "nothing": "returned a NoneType",
    "summed": "ends with Add",
}


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_frame(tmp_path_factory.mktemp("frame"), sample())


@pytest.mark.parametrize("family", BRANCHED)
def test_a_network_learns_comes_back_and_answers_as_its_file(family: str, frame: Path, tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"family": family, "epochs": 1})
    record = train_teacher(frame, recipe, tmp_path / "teacher", ("shop",), lambda _line: None)
    encoder = read_teacher(tmp_path / "teacher", recipe)
    splits = encoded_splits(prepared_frame(frame, recipe), encoder)
    test, objective = splits["test"], objective_of(BINARY, splits["train"].y)
    teacher = family_of(recipe).restore(tmp_path / "teacher", recipe, encoder, objective)
    file = teacher.model_file(test.x[:100], "teacher_f32")
    assert (file.format, file.parameters) == ("litert", record.parameters)
    scores = LiteRTScorer(file.data).scores(test.x)
    assert np.abs(scores - sigmoid(teacher.raw(test.x)[:, 0])).max() < 1e-5
    assert abs(scores.mean() - test.y.mean()) < 0.15, "after one epoch"


@pytest.mark.parametrize("name", list(WRONG))
def test_a_function_that_builds_no_such_network_is_refused_before_it_is_trained(
    name: str, frame: Path, tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"family": f"tests.support.own_networks:{name}"})
    lines: list[str] = []
    start_tensorflow(1)
    with pytest.raises(BadInput, match=WRONG[name]) as refused:
        train_teacher(frame, recipe, tmp_path / "out", (), lines.append)
    assert "\n" not in str(refused.value)
    assert (lines, list(tmp_path.iterdir())) == ([], [])
