"""Scorers by format: what they answer, alone and in batches, and what they refuse before a runtime sees it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import ModelProto, helper

from sluice.arrays import Floats, Floats32
from sluice.content import canonical_json
from sluice.errors import BadArtifact, BadInput
from sluice.models.bundle import MANIFEST, load_bundle
from sluice.models.runtime import FORMATS, FormatName, Scorer
from sluice.models.scorer import TurnScorer
from tests.support.onnx_models import HOSTILE, WIDTH, network, onnx_model, stump
from tests.support.tiny_bundle import MODELS, TINY_MODEL, tiny_rows, write_tiny_bundle

ROWS = np.random.default_rng(5).normal(size=(2500, WIDTH)).astype(np.float32)


def load(name: FormatName) -> Scorer:
    return FORMATS[name].load(MODELS[name])


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_is_answered_alone_as_in_any_batch(name: FormatName) -> None:
    scorer = load(name)
    assert (scorer.width, scorer.outputs) == (WIDTH, 1)
    alone = np.concatenate([scorer.raw(row[None]) for row in ROWS[:300]])
    for size in (2, 16, 17, 300):
        batches = [scorer.raw(ROWS[at : at + size]) for at in range(0, 300, size)]
        assert np.abs(np.concatenate(batches)[:300] - alone[:300]).max() <= 1e-6
    assert scorer.raw(ROWS).shape == (2500, 1)
    assert scorer.raw(ROWS[:0]).shape == (0, 1)


@pytest.mark.parametrize("name", FORMATS)
def test_an_answer_does_not_depend_on_what_was_asked_before(name: FormatName) -> None:
    scorer = load(name)
    first = scorer.raw(ROWS)
    scorer.raw(ROWS[::-1][:77])
    assert np.array_equal(scorer.raw(ROWS), first)
    assert np.array_equal(load(name).raw(ROWS), first)


def test_the_two_formats_agree_on_one_network() -> None:
    assert np.abs(load("onnx").scores(ROWS) - load("litert").scores(ROWS)).max() < 1e-6


@pytest.mark.parametrize("name", FORMATS)
def test_rows_of_another_width_are_refused(name: FormatName) -> None:
    with pytest.raises(BadInput, match=r"the model takes \(n, 7\)"):
        load(name).raw(ROWS[:, :3])


@pytest.mark.parametrize("name", FORMATS)
def test_latencies_are_measured(name: FormatName) -> None:
    p50, p99 = load(name).latency(ROWS[:50], 50)
    assert 0 < p50 <= p99


class Interruption(TurnScorer):
    """A scorer that stands still for 20 ms at every 17th call, and at the rows that start with 1."""

    width, outputs, largest = WIDTH, 1, 1

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def _batch(self, rows: Floats32) -> Floats:
        self.calls += 1
        if self.calls % 17 == 0 or rows[0, 0] == 1:
            time.sleep(0.02)
        return np.zeros((1, 1))


def test_a_latency_is_the_rows_and_not_the_machines() -> None:
    rows = np.zeros((10, WIDTH), np.float32)
    assert Interruption().latency(rows, 100)[1] < 15_000
    rows[3, 0] = 1
    assert Interruption().latency(rows, 100)[1] > 15_000


def test_several_outputs_are_raw_and_no_binary_score() -> None:
    scorer = FORMATS["onnx"].load(network(outputs=3).SerializeToString())
    assert scorer.outputs == 3
    assert scorer.raw(ROWS[:4]).shape == (4, 3)
    with pytest.raises(BadInput, match="has 3 outputs"):
        scorer.scores(ROWS[:4])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_onnx_file_is_refused_by_name(name: str) -> None:
    make, reason = HOSTILE[name]
    with pytest.raises(BadArtifact) as refusal:
        FORMATS["onnx"].load(make().SerializeToString())
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


def _doubled() -> ModelProto:
    names = ["x", *(f"v{number}" for number in range(40))]
    nodes = [helper.make_node("Concat", [a, a], [b], axis=1) for a, b in pairwise(names)]
    return onnx_model([*nodes, helper.make_node("ReduceSum", [names[-1]], ["y"], keepdims=1)])


@pytest.mark.parametrize("make", [_doubled, lambda: onnx_model([helper.make_node("Transpose", ["x"], ["y"])])])
def test_a_model_that_wants_all_memory_or_mixes_rows_is_refused(make: Callable[[], ModelProto]) -> None:
    with pytest.raises(BadArtifact, match=r"model\.onnx"):
        FORMATS["onnx"].load(make().SerializeToString())


def test_a_tree_is_allowed() -> None:
    scorer = FORMATS["onnx"].load(stump().SerializeToString())
    assert scorer.raw(ROWS)[:, 0].tolist() == np.where(ROWS[:, 0] <= np.float32(0.5), -1.0, 1.0).tolist()


def _changed(change: Callable[[schema.ModelT], None]) -> bytes:
    import flatbuffers

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(TINY_MODEL), 0))
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _not_at_all(model: schema.ModelT) -> None:
    """Packed again by another writer."""


def _custom(model: schema.ModelT) -> None:
    model.operatorCodes[0].customCode = b"FlexPyFunc"


def _while(model: schema.ModelT) -> None:
    model.operatorCodes[0].builtinCode = schema.BuiltinOperator.WHILE
    model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.WHILE


def _two_graphs(model: schema.ModelT) -> None:
    model.subgraphs.append(model.subgraphs[0])


def _outside(model: schema.ModelT) -> None:
    model.buffers[-1].offset, model.buffers[-1].size = 4096, 1 << 40


def _vast(model: schema.ModelT) -> None:
    model.subgraphs[0].tensors[model.subgraphs[0].outputs[0]].shape = [1 << 20, 1 << 20]


def _loose(model: schema.ModelT) -> None:
    model.subgraphs[0].operators[0].inputs[0] = 4000


def _circle(model: schema.ModelT) -> None:
    operators = model.subgraphs[0].operators
    operators[0].inputs[0] = operators[-1].outputs[0]


LITERT = {
    "a custom operator": (_custom, "custom operator 'FlexPyFunc'"),
    "a loop": (_while, "operator number 119"),
    "several subgraphs": (_two_graphs, "2 subgraphs"),
    "a constant elsewhere": (_outside, "outside the file's buffers"),
    "a vast tensor": (_vast, "more than 1024 MiB"),
    "a tensor that is not there": (_loose, "a reference to number 4000"),
    "a cycle": (_circle, "reads what no operator before it has written"),
}


@pytest.mark.parametrize("name", LITERT)
def test_a_hostile_litert_file_is_refused_by_name(name: str) -> None:
    change, reason = LITERT[name]
    with pytest.raises(BadArtifact) as refusal:
        FORMATS["litert"].load(_changed(change))
    assert reason in str(refusal.value)


def test_a_copy_of_the_good_litert_file_is_not_refused() -> None:
    scorer = FORMATS["litert"].load(_changed(_not_at_all))
    assert np.array_equal(scorer.raw(ROWS), load("litert").raw(ROWS))


def _damaged(data: bytes, seed: int) -> bytes:
    draw, damaged = random.Random(seed), bytearray(data)  # noqa: S311 - faults, no secrets
    for _ in range(draw.choice([1, 2, 6])):
        damaged[draw.randrange(len(damaged))] = draw.choice([0, 255, draw.randrange(256)])
    return bytes(damaged[: draw.choice([len(damaged), draw.randrange(len(damaged))])])


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_bytes_are_refused_or_scored_and_never_end_the_process(name: FormatName) -> None:
    load(name).raw(ROWS[:2])
    child = os.fork()
    if child == 0:
        for seed in range(400):
            try:
                FORMATS[name].load(_damaged(MODELS[name], seed)).raw(ROWS[:2])
            except (BadArtifact, BadInput):
                continue
            except BaseException:  # noqa: BLE001 - anything else is what this test is there to find
                os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0


@pytest.mark.parametrize("data", [b"", b"x", b"\x80\x04pickle", b"PK\x03\x04", b"\0" * 64])
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_model_is_refused(name: FormatName, data: bytes) -> None:
    with pytest.raises(BadArtifact, match="is not a model that can be scored"):
        FORMATS[name].load(data)


def test_a_bundle_names_its_format_and_answers_by_it(tmp_path: Path) -> None:
    columns = {name: [row[name] for row in tiny_rows(40)] for name in tiny_rows(1)[0]}
    answers = {}
    for name in FORMATS:
        digest = write_tiny_bundle(tmp_path, kind=name)
        bundle = load_bundle(tmp_path / digest.replace(":", "-"), digest)
        assert bundle.manifest.format == name
        answers[name] = bundle.predict(columns)
    assert np.abs(answers["onnx"] - answers["litert"]).max() < 1e-6


def test_a_bundle_without_the_file_of_its_format_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / write_tiny_bundle(tmp_path, kind="onnx").replace(":", "-")
    document = canonical_json(json.loads((directory / MANIFEST).read_bytes()) | {"format": "litert"})
    (directory / MANIFEST).write_bytes(document)
    with pytest.raises(BadArtifact, match=r"model\.tflite: is not in the manifest"):
        load_bundle(directory.rename(tmp_path / "other"))


def test_reading_a_litert_bundle_imports_nothing_of_onnx(tmp_path: Path) -> None:
    directory = tmp_path / write_tiny_bundle(tmp_path).replace(":", "-")
    code = (
        "import sys; from pathlib import Path; from sluice.models.bundle import load_bundle;"
        f"load_bundle(Path({str(directory)!r})).scorer();"
        "print([name for name in ('onnx', 'onnxruntime', 'xgboost', 'lightgbm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
