"""Models that want too much: `sluice import` tries them in a child, says one line, and lives on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper

from sluice.errors import SluiceError
from sluice.models.foreign.trial import TrialLimits
from sluice.operations import import_trial
from sluice.operations.import_model import import_model
from sluice.operations.import_spec import ImportSpec
from tests.support.import_kinds import KINDS, NUMBERS, kind_task, linear_model, write_kind
from tests.support.onnx_models import HOSTILE, onnx_model
from tests.support.tiny_bundle import TINY_MODEL

SIDE = 50_000
"""A table of so many rows and columns of float32 has 10 GB."""
TIGHT = TrialLimits(memory_bytes=3 << 30, first_cpu_s=8, all_cpu_s=12)


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kind(tmp_path_factory.mktemp("frame"), "value")


def _bytes(nodes: list[Any], constants: Mapping[str, Any]) -> bytes:
    return bytes(onnx_model(nodes, constants, 2).SerializeToString())


def _vast_answer() -> bytes:
    """10 GB from two columns of 200 kB, between an input and an output of one column."""
    ones = np.ones(SIDE, np.float32)
    constants = {"a": ones[:, np.newaxis], "b": ones[np.newaxis], "w": np.ones((2, 1), np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"]),
        helper.make_node("ReduceMean", ["s"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Add", ["m", "a"], ["column"]),
        helper.make_node("Add", ["column", "b"], ["table"]),
        helper.make_node("ReduceMean", ["table"], ["t"], keepdims=1),
        helper.make_node("Add", ["s", "t"], ["y"]),
    ]
    return _bytes(nodes, constants)


def _endless() -> bytes:
    """A small file that multiplies for hours."""
    side, steps = 1024, 4000
    names = ["h0", *(f"h{step + 1}" for step in range(steps))]
    nodes = [
        helper.make_node("MatMul", ["x", "in"], ["wide"]),
        helper.make_node("ReduceMean", ["wide"], ["row"], axes=[0], keepdims=1),
        helper.make_node("Add", ["square", "row"], ["h0"]),
        *(helper.make_node("MatMul", [first, "square"], [second]) for first, second in pairwise(names)),
        helper.make_node("ReduceMean", [names[-1]], ["t"], keepdims=1),
        helper.make_node("MatMul", ["x", "w"], ["s"]),
        helper.make_node("Add", ["s", "t"], ["y"]),
    ]
    constants = {
        "in": np.ones((2, side), np.float32),
        "square": np.zeros((side, side), np.float32),
        "w": np.ones((2, 1), np.float32),
    }
    return _bytes(nodes, constants)


def _huge_constant() -> bytes:
    """1.1 GiB in the file, as it says."""
    constant = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 150_000_000], raw_data=bytes(1_200_000_000))
    model = onnx_model([helper.make_node("MatMul", ["x", "w"], ["y"])], {}, 2)
    model.graph.initializer.append(constant)
    return bytes(model.SerializeToString())


def _deep() -> bytes:
    """Subgraphs in subgraphs, deeper than any parser goes."""
    inner = b""
    for _ in range(20_000):  # GraphProto.node / NodeProto.attribute / AttributeProto.g, each a field of bytes
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            inner = tag + _length(len(inner)) + inner
    graph = b"\x3a" + _length(len(inner)) + inner
    return b"\x08\x08" + graph


def _length(number: int) -> bytes:
    parts = []
    while True:
        number, low = number >> 7, number & 127
        parts.append(low | (128 if number else 0))
        if not number:
            return bytes(parts)


def _litert(change: Callable[[schema.ModelT], None]) -> bytes:
    import flatbuffers

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(TINY_MODEL), 0))
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _custom(model: schema.ModelT) -> None:
    model.operatorCodes[0].customCode = b"FlexPyFunc"


def _tensor(model: schema.ModelT, shape: tuple[int, ...], values: Any = None) -> int:
    """The place of one more tensor, with values where it is a constant."""
    graph, buffer, tensor = model.subgraphs[0], schema.BufferT(), schema.TensorT()
    buffer.data = None if values is None else np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    whole = values is not None and values.dtype == np.int32
    tensor.shape, tensor.type = np.array(shape, np.int32), schema.TensorType.INT32 if whole else 0
    tensor.buffer, tensor.name = len(model.buffers) - 1, f"more{len(graph.tensors)}".encode()
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _operator(model: schema.ModelT, code: int, inputs: list[int], output: int, options: tuple[int, Any]) -> None:
    model.operatorCodes.append(schema.OperatorCodeT())
    model.operatorCodes[-1].builtinCode = model.operatorCodes[-1].deprecatedBuiltinCode = code
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
    operator.builtinOptionsType, operator.builtinOptions = options
    model.subgraphs[0].operators.append(operator)


def _vast_table(model: schema.ModelT) -> None:
    """The answer, plus a column, plus a row: the file says that this table has one cell, and its mean is the answer."""
    graph, ones = model.subgraphs[0], np.ones(SIDE, np.float32)
    add, kinds = schema.BuiltinOperator.ADD, schema.BuiltinOptions
    column, table, mean = (_tensor(model, (1, 1)) for _ in range(3))
    answer, long, wide = graph.outputs[0], _tensor(model, (SIDE, 1), ones), _tensor(model, (1, SIDE), ones)
    _operator(model, add, [answer, long], column, (kinds.AddOptions, schema.AddOptionsT()))
    _operator(model, add, [column, wide], table, (kinds.AddOptions, schema.AddOptionsT()))
    keep = schema.ReducerOptionsT()
    keep.keepDims = True
    axes = _tensor(model, (2,), np.array([0, 1], np.int32))
    _operator(model, schema.BuiltinOperator.MEAN, [table, axes], mean, (kinds.ReducerOptions, keep))
    graph.outputs = np.array([mean], np.int32)


SPECS = {
    "m.onnx": ImportSpec(inputs=NUMBERS),
    "m.tflite": ImportSpec(inputs=(*NUMBERS, "unused"), one_hot={"shop": ("a", "b", "c", "d")}),
}
Case = tuple[str, Callable[[], bytes], str]
CASES: Mapping[str, Case] = {
    "10 GB between": ("m.onnx", _vast_answer, "is not a model that can be scored"),
    "hours of work": ("m.onnx", _endless, "takes longer than it may; it has 8 s of the processor for its first answer"),
    "a huge constant": ("m.onnx", _huge_constant, "is larger than 1024 MiB"),
    "a deep graph": ("m.onnx", _deep, "its bytes are no ModelProto"),
    "10 GB in LiteRT": ("m.tflite", lambda: _litert(_vast_table), "is not a model that can be scored"),
    "a custom LiteRT operator": ("m.tflite", lambda: _litert(_custom), "custom operator 'FlexPyFunc'"),
    "a cut LiteRT file": ("m.tflite", lambda: TINY_MODEL[: len(TINY_MODEL) // 2], "an offset leads beyond the file"),
} | {
    name: ("m.onnx", lambda make=HOSTILE[name][0]: make().SerializeToString(), HOSTILE[name][1])
    for name in ("external data", "a custom operator", "a loop", "a cycle", "a function", "too many nodes")
}


@pytest.mark.parametrize("name", CASES)
def test_a_model_that_wants_too_much_is_refused_in_one_line(
    tmp_path: Path, frame: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file, make, reason = CASES[name]
    monkeypatch.setattr(import_trial, "LIMITS", TIGHT)
    (tmp_path / file).write_bytes(make())
    with pytest.raises(SluiceError) as refusal:
        import_model(kind_task(KINDS["value"].target), tmp_path / file, SPECS[file], frame, tmp_path / "out")
    (tmp_path / file).unlink()
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_a_child_that_dies_says_how(tmp_path: Path, frame: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory even for the libraries: whatever it dies of, one line says that it did."""
    monkeypatch.setattr(import_trial, "LIMITS", TrialLimits(memory_bytes=1 << 20))
    (tmp_path / "m.onnx").write_bytes(linear_model("value"))
    with pytest.raises(SluiceError, match=r"MiB of memory"):
        import_model(
            kind_task(KINDS["value"].target), tmp_path / "m.onnx", ImportSpec(inputs=NUMBERS), frame, tmp_path / "out"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
