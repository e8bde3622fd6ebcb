"""Models of images and of texts: trained, compressed, bundled and served, without a feature store anywhere."""

from __future__ import annotations

import dataclasses
import http.client
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import orjson
import polars as pl
import pytest

from sluice.child_process import ChildServer
from sluice.compression.ladder import build_ladder
from sluice.errors import BadInput
from sluice.evaluation.infra import infra_validate
from sluice.evidence.recheck import recheck_cells
from sluice.features.parity import FeatureHistory
from sluice.models.bundle import Bundle, load_bundle
from sluice.operations.import_model import import_model
from sluice.operations.import_spec import ImportSpec
from sluice.predictions.contents import contents_of
from sluice.predictions.log import read_lines, window_frame
from sluice.tasks.recipe import Recipe
from sluice.training.teacher import train_teacher
from tests.support import digits_task, sentences_task
from tests.support.input_bundles import Trained, train

PREDICTOR = (sys.executable, "-m", "sluice_serving.predictor")
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The convolutional network of the drawings."""
    return train(digits_task.TASK, tmp_path_factory.mktemp("drawings"))


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The network of the sentences."""
    return train(sentences_task.TASK, tmp_path_factory.mktemp("sentences"))


def accuracy(labels: Any, scores: Any) -> float:
    return float(np.mean((scores >= 0.5) == (labels == 1)))


def test_a_convolutional_network_learns_what_drawings_show(drawings: Trained) -> None:
    assert accuracy(*drawings.scores("teacher_f32")) > 0.98
    assert accuracy(*drawings.scores("student_int8")) > 0.9
    assert accuracy(*drawings.scores("logistic", "teacher/baselines.parquet")) > 0.9
    assert drawings.bundle("teacher_f32").manifest.format == "litert"


def test_a_network_of_texts_learns_what_sentences_say(sentences: Trained) -> None:
    assert accuracy(*sentences.scores("teacher_f32")) > 0.93
    assert accuracy(*sentences.scores("student_int8")) > 0.8
    assert accuracy(*sentences.scores("prior", "teacher/baselines.parquet")) < 0.6


def infra(trained: Trained, bundle: Bundle, out: Path) -> None:
    report = infra_validate(bundle.directory, bundle.digest, trained.frame, PREDICTOR, out)
    assert (report.passed, report.reasons, report.rows) == (True, (), 32)
    assert set(report.refused.values()) <= {400, 415}


def test_a_server_answers_drawings_as_the_offline_model_does(drawings: Trained, tmp_path: Path) -> None:
    infra(drawings, drawings.bundle("teacher_f32"), tmp_path)


def test_a_server_answers_sentences_as_the_offline_model_does(sentences: Trained, tmp_path: Path) -> None:
    infra(sentences, sentences.bundle("student_int8"), tmp_path)


class Asked:
    """A server on a bundle, without a feature store, and its log."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        task = bundle.manifest.task
        command = [*PREDICTOR, "--bundle", str(bundle.directory), "--digest", bundle.digest, "--model_name", task]
        self._child = ChildServer(
            [*command, "--http_port", "0", "--log", str(folder / "log/a.jsonl")], folder / "server.log"
        )
        self._connection = http.client.HTTPConnection(urlsplit(self._child.wait_ready(120)).netloc, timeout=20)
        self.path = f"/v1/models/{task}:predict"

    def ask(self, path: str, body: Any = None, request_id: str = "r") -> tuple[int, Any]:
        moment = {"x-request-id": request_id, "x-sluice-time": "2024-03-02T00:00:00Z"}
        data = orjson.dumps(body) if body is not None else None
        self._connection.request("POST" if data else "GET", path, data, {**JSON, **moment})
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def stop(self) -> None:
        assert self._child.stop() == "SIGTERM"


def test_what_a_server_was_sent_is_described_refused_logged_and_read_again(drawings: Trained, tmp_path: Path) -> None:
    bundle, rows = drawings.bundle("teacher_f32"), digits_task.drawings().tail(3)
    server = Asked(bundle, tmp_path)
    said = server.ask("/-/sluice")[1]
    assert said["features"] == {"image": {"kind": "tensor", "dtype": "uint8", "shape": [8, 8], "range": [0, 255]}}
    assert said["request_inputs"]["pen"] == "string"
    assert said["reads_features_online"] is False
    metadata = server.ask("/v2/models/drawings")[1]
    assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8]}]
    instances = rows.select("image", "pen").to_dicts()
    status, answer = server.ask(server.path, {"instances": instances})
    assert status == 200
    expected = bundle.predict(rows)
    assert [each["score"] for each in answer["predictions"]] == pytest.approx(expected.tolist(), abs=1e-6)
    tensor = {
        "name": "image",
        "datatype": "UINT8",
        "shape": [3, 8, 8],
        "data": rows["image"].to_numpy().ravel().tolist(),
    }
    pens = {"name": "pen", "datatype": "BYTES", "shape": [3], "data": rows["pen"].to_list()}
    status, answer = server.ask("/v2/models/drawings/infer", {"inputs": [tensor, pens]}, "again")
    assert status == 200
    assert answer["outputs"][0]["data"] == pytest.approx(expected.tolist(), abs=1e-6)
    status, answer = server.ask(server.path, {"instances": [{**instances[0], "image": [[999] * 8] * 8}]}, "bad")
    assert status == 400
    assert answer["error"].startswith("instances[0].image: has 999 as its number 0, not an integer from 0 to 255; send")
    server.stop()
    log = window_frame(read_lines(tmp_path / "log", {}))
    assert log.height == 7
    assert len(contents_of(log["contents"])) == 3
    assert log["contents"].null_count() == 4  # the second time, and the refusal
    found = recheck_cells(log.filter(status=200), bundle.manifest, FeatureHistory.of_store(drawings.task, tmp_path))
    assert (found.compared, found.different, found.excluded) == (6, 0, 0)
    assert (tmp_path / "server.log").read_text().count("\n") <= 2  # no body, no line a request


def test_a_model_of_an_image_that_somebody_has_is_imported(drawings: Trained, tmp_path: Path) -> None:
    model = drawings.folder / "ladder/teacher_f32/model.tflite"
    made = import_model(drawings.task, model, ImportSpec(inputs=("image",)), drawings.frame, tmp_path / "out")
    rows = digits_task.drawings().tail(5)
    bundle = load_bundle(made.bundle, made.digest)
    assert np.array_equal(bundle.predict(rows), drawings.bundle("teacher_f32").predict(rows))
    with pytest.raises(BadInput, match="takes 64 columns, and the features give 65"):
        import_model(drawings.task, model, ImportSpec(one_hot={"pen": ("chalk",)}), drawings.frame, tmp_path / "no")


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"features": ("pen",)}, "family 'convolutional': is of exactly one image, .* have 0"),
        ({"settings": {"kernel": 0}}, "setting 'kernel' of family 'convolutional'"),
        ({"settings": {"filter": 3}}, "setting 'filter' of family 'convolutional'"),
        ({"family": "text", "settings": {}}, "family 'text': is of texts, and the recipe's features have none"),
    ],
)
def test_a_family_that_inputs_do_not_fit_is_refused_in_a_line(
    changed: dict[str, Any], rule: str, drawings: Trained, tmp_path: Path
) -> None:
    recipe = drawings.task.recipe.model_copy(update=changed)
    with pytest.raises(BadInput, match=rule) as error:
        train_teacher(drawings.frame, recipe, tmp_path / "teacher")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "teacher").exists()


def test_a_function_of_a_users_own_sees_images(drawings: Trained, tmp_path: Path) -> None:
    own = Recipe(
        name="own-edges",
        description="Steps between rows",
        features=("pen", "image"),
        family="tests.support.own_networks:edges",
        epochs=1,
        batch_size=64,
        variants=("teacher_f32",),
    )
    trained = dataclasses.replace(drawings, task=dataclasses.replace(drawings.task, recipe=own), folder=tmp_path)
    (tmp_path / "frame").symlink_to(drawings.frame)
    train_teacher(trained.frame, own, tmp_path / "teacher")
    build_ladder(trained.frame, tmp_path / "teacher", own, tmp_path / "ladder")
    rows = pl.read_parquet(drawings.frame / "frame.parquet").head(40)
    assert trained.bundle("teacher_f32").predict(rows).shape == (40,)
