"""
What a LiteRT file may hold, checked before the runtime sees it: a wrong index ends its process, not its call.

Fields are numbered as in TensorFlow's ``schema.fbs`` (version 3 of the file format).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sluice.models.formats.flatbuffer import FlatTable, root_table

MOST_BYTES = 1 << 30
"""Of a model file, and of all tensors of one batch together."""
_MOST_OPERATORS = 10_000
_MOST_PADDING = 256
_MOST_RANK = 8

OPERATORS: Mapping[int, str] = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 6: "DEQUANTIZE",
    7: "EMBEDDING_LOOKUP", 8: "FLOOR", 9: "FULLY_CONNECTED", 11: "L2_NORMALIZATION", 14: "LOGISTIC", 17: "MAX_POOL_2D",
    18: "MUL", 19: "RELU", 20: "RELU_N1_TO_1", 21: "RELU6", 22: "RESHAPE", 25: "SOFTMAX", 28: "TANH", 34: "PAD",
    36: "GATHER", 39: "TRANSPOSE", 40: "MEAN", 41: "SUB", 42: "DIV", 43: "SQUEEZE", 45: "STRIDED_SLICE", 47: "EXP",
    49: "SPLIT", 50: "LOG_SOFTMAX", 53: "CAST", 54: "PRELU", 55: "MAXIMUM", 56: "ARG_MAX", 57: "MINIMUM", 58: "LESS",
    59: "NEG", 61: "GREATER", 62: "GREATER_EQUAL", 63: "LESS_EQUAL", 64: "SELECT", 65: "SLICE", 66: "SIN",
    70: "EXPAND_DIMS", 71: "EQUAL", 72: "NOT_EQUAL", 73: "LOG", 74: "SUM", 75: "SQRT", 76: "RSQRT", 77: "SHAPE",
    78: "POW", 82: "REDUCE_MAX", 83: "PACK", 84: "LOGICAL_OR", 86: "LOGICAL_AND", 87: "LOGICAL_NOT", 88: "UNPACK",
    89: "REDUCE_MIN", 92: "SQUARE", 93: "ZEROS_LIKE", 98: "LEAKY_RELU", 99: "SQUARED_DIFFERENCE", 101: "ABS",
    104: "CEIL", 108: "COS", 111: "ELU", 114: "QUANTIZE", 116: "ROUND", 117: "HARD_SWISH", 123: "SELECT_V2",
    126: "BATCH_MATMUL", 150: "GELU", 158: "SIGN",
}  # fmt: skip
"""Operators by their code: arithmetic on tensors, of a size that their inputs and constants give. Nothing that runs a
subgraph, keeps state, draws random numbers or is not LiteRT's own."""
_SEVERAL_OUTPUTS = frozenset({"SPLIT", "UNPACK"})
_CONSTANT = {"PAD": (1,), "CONV_2D": (1,), "DEPTHWISE_CONV_2D": (1,), "EMBEDDING_LOOKUP": (1,)}
"""Inputs that have to be constants: they say how large the result is."""
_LEAST_INPUTS = {
    "ADD": 2, "SUB": 2, "MUL": 2, "DIV": 2, "POW": 2, "MAXIMUM": 2, "MINIMUM": 2, "SQUARED_DIFFERENCE": 2,
    "LESS": 2, "GREATER": 2, "GREATER_EQUAL": 2, "LESS_EQUAL": 2, "EQUAL": 2, "NOT_EQUAL": 2, "LOGICAL_OR": 2,
    "LOGICAL_AND": 2, "CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "GATHER": 2, "EMBEDDING_LOOKUP": 2,
    "TRANSPOSE": 2, "MEAN": 2, "SUM": 2, "REDUCE_MAX": 2, "REDUCE_MIN": 2, "PAD": 2, "PRELU": 2, "BATCH_MATMUL": 2,
    "EXPAND_DIMS": 2, "ARG_MAX": 2, "SPLIT": 2, "SELECT": 3, "SELECT_V2": 3, "SLICE": 3, "STRIDED_SLICE": 4,
}  # fmt: skip
_STEPS = {"CONV_2D": (1, 2, 4, 5), "DEPTHWISE_CONV_2D": (1, 2, 5, 6), "AVERAGE_POOL_2D": (1, 2, 3, 4)}
_STEPS["MAX_POOL_2D"] = _STEPS["AVERAGE_POOL_2D"]
"""Fields of an operator's options that are strides, windows and dilations: at least 1."""
_DILATIONS = {"CONV_2D": (4, 5), "DEPTHWISE_CONV_2D": (5, 6)}
_SIZES = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 9: 1, 10: 8, 16: 2, 17: 1}
"""Bytes of an element by a tensor's type: floats, integers and booleans; int4 is counted as a byte."""


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]
    constant: memoryview | None
    type: int


def check_litert(data: bytes) -> None:
    """
    Accept a file of one graph of allowed operators, each of which reads what was there before it.

    Raises:
        ValueError: says in one clause what is not allowed.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data) >> 20} MiB, more than {MOST_BYTES >> 20}")
    model = root_table(data, b"TFL3")
    if (version := model.number(0, "I")) != 3:
        raise ValueError(f"version {version} of the file format, need 3")
    graphs = model.tables(2)
    if len(graphs) != 1:
        raise ValueError(f"{len(graphs)} subgraphs, need one")
    names = [_operator_name(code) for code in model.tables(1)]
    buffers = [_buffer(each) for each in model.tables(4)]
    _check_graph(graphs[0], names, buffers)


def _operator_name(code: FlatTable) -> str:
    if len(code.content(1)):
        raise ValueError(f"custom operator {bytes(code.content(1))[:60].decode('utf-8', 'replace')!r}")
    number = max(code.number(0, "b"), code.number(3, "i"))
    if number not in OPERATORS:
        raise ValueError(f"operator number {number} is not in the list of allowed operators")
    return OPERATORS[number]


def _buffer(buffer: FlatTable) -> memoryview:
    if buffer.number(1, "Q") or buffer.number(2, "Q"):
        raise ValueError("a constant outside the file's buffers")
    return buffer.content(0)


def _check_graph(graph: FlatTable, names: Sequence[str], buffers: Sequence[memoryview]) -> None:
    tensors = [_tensor(each, buffers) for each in graph.tables(0)]
    if sum(math.prod(each.shape) * _SIZES[each.type] for each in tensors) > MOST_BYTES:
        raise ValueError(f"tensors of more than {MOST_BYTES >> 20} MiB")
    operators = graph.tables(3)
    if len(operators) > _MOST_OPERATORS:
        raise ValueError(f"{len(operators)} operators, at most {_MOST_OPERATORS:,} are allowed")
    known = {number for number, tensor in enumerate(tensors) if tensor.constant is not None}
    known |= {_index(number, len(tensors)) for number in graph.numbers(1)}
    for operator in operators:
        name = names[_index(operator.number(0, "I"), len(names))]
        _check_operator(operator, name, tensors, known)
    for number in graph.numbers(2):
        if _index(number, len(tensors)) not in known:
            raise ValueError("an output that no operator writes")


def _tensor(tensor: FlatTable, buffers: Sequence[memoryview]) -> _Tensor:
    shape, kind = tensor.numbers(0), tensor.number(1, "b")
    if kind not in _SIZES:
        raise ValueError(f"a tensor of type number {kind}, which is no kind of number")
    if tensor.table(6) is not None or tensor.number(5, "B") or len(tensor.tables(9)):
        raise ValueError("a sparse tensor, a variable or a variant")
    if len(shape) > _MOST_RANK or any(not 0 <= size <= MOST_BYTES for size in shape):
        raise ValueError(f"a tensor of shape {shape[:9]}")
    content = buffers[_index(tensor.number(2, "I"), len(buffers))]
    if len(content) and kind != 17 and len(content) != math.prod(shape) * _SIZES[kind]:
        raise ValueError(f"a constant of shape {shape} in {len(content)} bytes")
    return _Tensor(shape, content if len(content) else None, kind)


def _check_operator(operator: FlatTable, name: str, tensors: Sequence[_Tensor], known: set[int]) -> None:
    inputs, outputs = operator.numbers(1), operator.numbers(2)
    if len(operator.content(5)) or operator.number(9, "Q") or operator.table(12) is not None:
        raise ValueError(f"{name} with options that are not LiteRT's")
    least = _LEAST_INPUTS.get(name, 1)
    if len(inputs) < least or not outputs or (len(outputs) > 1 and name not in _SEVERAL_OUTPUTS):
        raise ValueError(f"{name} with {len(inputs)} inputs and {len(outputs)} outputs")
    for place, number in enumerate(inputs):
        absent = number == -1 and place >= least
        if not absent and _index(number, len(tensors)) not in known:
            raise ValueError(f"{name} reads what no operator before it has written")
    for number in outputs:
        if _index(number, len(tensors)) in known:
            raise ValueError(f"{name} writes what is written already")
        known.add(number)
    _check_sizes(operator, name, [tensors[number] for number in inputs if number >= 0])


def _check_sizes(operator: FlatTable, name: str, inputs: Sequence[_Tensor]) -> None:
    for place in _CONSTANT.get(name, ()):
        if inputs[place].constant is None:
            raise ValueError(f"{name} whose input {place} is no constant")
    if name == "PAD":
        _check_padding(inputs[1])
    if name in _STEPS:
        options = operator.table(4)
        for field in _STEPS[name]:
            step = options.number(field, "i", int(field in _DILATIONS.get(name, ()))) if options else 0
            if not 1 <= step <= 4096:
                raise ValueError(f"{name} with a stride, window or dilation of {step}")


def _check_padding(paddings: _Tensor) -> None:
    size = _SIZES[paddings.type]
    content = paddings.constant or memoryview(b"")
    each = [int.from_bytes(content[at : at + size], "little", signed=True) for at in range(0, len(content), size)]
    if size < 4 or any(not 0 <= value <= _MOST_PADDING for value in each):
        raise ValueError(f"PAD by something else than 0 to {_MOST_PADDING}")


def _index(number: int, length: int) -> int:
    if not 0 <= number < length:
        raise ValueError(f"a reference to number {number} of {length}")
    return number
