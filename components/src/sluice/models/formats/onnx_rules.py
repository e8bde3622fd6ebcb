"""
What an ONNX file may hold, checked before the runtime sees it.

One graph of allowed operators of two domains, every constant inside the file, each operator reading what was there
before it: https://onnx.ai/onnx/repo-docs/IR.html.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sluice.models.formats.onnx_learners import LEARNERS, check_learner

MOST_BYTES = 1 << 30
"""Of a model file, and of its constants."""
_MOST_NODES = 10_000
_MOST_RANK = 8
_MOST_STEP = 4096
_MOST_PADDING = 256
_IR = range(3, 14)
_OPSETS = {"": range(7, 25), "ai.onnx": range(7, 25), "ai.onnx.ml": range(1, 6)}
"""Versions of each domain's operators that the runtime has kernels for."""

_ALLOWED = """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Celu Clip Concat Constant Conv ConvInteger Cos
    DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp Flatten Floor Gather Gelu Gemm
    GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Identity InstanceNormalization IsInf
    IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul MatMulInteger Max MaxPool Mean Min Mish
    Mul Neg Not Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear Reciprocal ReduceL1 ReduceL2 ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round Selu Shape Sigmoid Sign Sin Slice
    Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Tanh ThresholdedRelu Transpose Unsqueeze Where Xor
"""
OPERATORS = frozenset(_ALLOWED.split())
"""Operators of ONNX itself: arithmetic on tensors, of a size that their inputs and constants give. Nothing that runs a
subgraph or a loop, keeps state, draws random numbers, or makes a tensor as large as a number says."""
_ONE_BY_ONE = """
    Abs Cast Ceil Clip Dropout Elu Erf Exp Floor Identity LeakyRelu Log Neg Reciprocal Relu Round Sigmoid Sign
    Softplus Sqrt Tanh
"""
_KEEP_WIDTH = frozenset(_ONE_BY_ONE.split())
_JOIN_WIDTH = frozenset({"Add", "Sub", "Mul", "Div", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"})
_GRAPHS = (5, 10, 11, 12, 13, 14)
"""Numbers of the kinds of attributes that hold a graph, a sparse tensor or a type (AttributeProto.AttributeType)."""


@dataclass
class _GraphWalk:
    """What is known of names on the way through the graph."""

    known: set[str]
    constants: dict[str, Any]
    """Small integer constants by name, as TensorProto."""
    widths: dict[str, int] = field(default_factory=dict)
    """Columns of (n, columns) tensors, where they are known."""
    bytes: int = 0


def check_onnx(data: bytes) -> None:
    """
    Accept a file of one graph of allowed operators, with one float32 input (n, width) and one float32 output (n, k).

    Raises:
        ValueError: says in one clause what is not allowed.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data) >> 20} MiB, more than {MOST_BYTES >> 20}")
    try:
        model = onnx.ModelProto.FromString(data)
    except (DecodeError, RecursionError) as error:
        raise ValueError("no ONNX model: its bytes are no ModelProto") from error
    _check_versions(model)
    _check_graph(model.graph)


def _check_versions(model: Any) -> None:
    if model.ir_version not in _IR:
        raise ValueError(f"IR version {model.ir_version}, need {_IR[0]} to {_IR[-1]}")
    if not model.opset_import:
        raise ValueError("no version of its operators (opset_import)")
    for each in model.opset_import:
        if each.domain not in _OPSETS:
            raise ValueError(f"custom domain {each.domain[:60]!r}, only ONNX's own and ai.onnx.ml are allowed")
        versions = _OPSETS[each.domain]
        if each.version not in versions:
            raise ValueError(f"opset {each.version} of {each.domain or 'ONNX'}, need {versions[0]} to {versions[-1]}")
    if model.functions:
        raise ValueError(f"function {model.functions[0].name[:60]!r}, and functions are not allowed")
    if model.training_info:
        raise ValueError("information for training, which is not allowed")


def _check_graph(graph: Any) -> None:
    if len(graph.node) > _MOST_NODES:
        raise ValueError(f"{len(graph.node):,} nodes, at most {_MOST_NODES:,} are allowed")
    if graph.sparse_initializer:
        raise ValueError("a sparse constant, which is not allowed")
    constants = {each.name: each for each in graph.initializer}
    if len(constants) != len(graph.initializer):
        raise ValueError("a constant that is there twice")
    inputs = [each for each in graph.input if each.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ValueError(f"{len(inputs)} inputs and {len(graph.output)} outputs, need one each")
    width = _check_tensor("input", inputs[0])
    _check_tensor("output", graph.output[0])
    walk = _GraphWalk({inputs[0].name, *constants}, constants, {inputs[0].name: width})
    _check_constants(graph.initializer, walk)
    for node in graph.node:
        _check_node(node, walk)
    if graph.output[0].name not in walk.known:
        raise ValueError(f"output {graph.output[0].name[:60]!r}, which no node writes")


def _check_tensor(kind: str, value: Any) -> int:
    """Columns of the model's input or output; 0 where an output does not say."""
    tensor = value.type.tensor_type
    if value.type.WhichOneof("value") != "tensor_type" or tensor.elem_type != 1:
        raise ValueError(f"{kind} {value.name[:60]!r} of {_type_name(value.type)}, need a float32 tensor")
    dims = tensor.shape.dim
    if not tensor.HasField("shape") and kind == "output":
        return 0
    if len(dims) != 2:
        raise ValueError(f"{kind} {value.name[:60]!r} of rank {len(dims)}, need (n, columns)")
    if dims[0].HasField("dim_value"):
        raise ValueError(
            f"{kind} {value.name[:60]!r} for {dims[0].dim_value} rows only; export it with a dynamic axis 0"
        )
    columns = dims[1].dim_value
    if kind == "input" and not 1 <= columns <= MOST_BYTES >> 12:
        raise ValueError(f"input {value.name[:60]!r} with {columns} columns; export it with a fixed number of them")
    return int(columns)


def _type_name(value: Any) -> str:
    from onnx import TensorProto

    kind = value.WhichOneof("value")
    if kind != "tensor_type":
        return str(kind).removesuffix("_type")
    names = {number: name.lower() for name, number in TensorProto.DataType.items()}
    return str(names.get(value.tensor_type.elem_type, "no type"))


def _check_constants(tensors: Iterable[Any], walk: _GraphWalk) -> None:
    for tensor in tensors:
        walk.bytes += _bytes_of(tensor)
        if walk.bytes > MOST_BYTES:
            raise ValueError(f"constants of more than {MOST_BYTES >> 20} MiB")


def _bytes_of(tensor: Any) -> int:
    import numpy as np
    import onnx

    name = tensor.name[:60]
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise ValueError(f"external data of constant {name!r}; save it in one file")
    if tensor.HasField("segment"):
        raise ValueError(f"a part of constant {name!r} only")
    if len(tensor.dims) > _MOST_RANK or any(size < 0 for size in tensor.dims):
        raise ValueError(f"constant {name!r} of shape {tuple(tensor.dims)[:9]}")
    elements = math.prod(tensor.dims)
    if elements > MOST_BYTES:
        raise ValueError(f"constant {name!r} of shape {tuple(tensor.dims)}, more than {MOST_BYTES >> 20} MiB")
    try:
        dtype: np.dtype[Any] = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except KeyError:
        raise ValueError(f"constant {name!r} of type number {tensor.data_type}") from None
    if dtype.kind not in "fiub":
        raise ValueError(f"constant {name!r} of {dtype}, which is no number")
    _check_length(tensor, name, elements, dtype.itemsize)
    return int(elements * dtype.itemsize)


def _check_length(tensor: Any, name: str, elements: int, itemsize: int) -> None:
    if tensor.HasField("raw_data"):
        fits = len(tensor.raw_data) == elements * itemsize
    else:
        lists = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
        fits = sum(len(values) for values in lists) == elements
    if not fits:
        raise ValueError(f"constant {name!r} whose data are not of its shape {tuple(tensor.dims)}")


def _check_node(node: Any, walk: _GraphWalk) -> None:
    name = f"{node.op_type[:60]}{f' ({node.name[:60]})' if node.name else ''}"
    learner = node.domain == "ai.onnx.ml"
    if node.domain not in _OPSETS:
        raise ValueError(f"operator {name} of custom domain {node.domain[:60]!r}")
    if node.op_type not in (LEARNERS if learner else OPERATORS):
        raise ValueError(f"operator {name}, which is not in the list of allowed operators")
    for each in node.input:
        if each and each not in walk.known:
            raise ValueError(f"operator {name} that reads {each[:60]!r} before a node has written it")
    for each in node.output:
        if each in walk.known:
            raise ValueError(f"operator {name} that writes {each[:60]!r} once more")
    _check_attributes(node, name, walk)
    if learner:
        walk.widths[node.output[-1]] = check_learner(node, name, walk.widths.get(node.input[0]))
    elif width := _width_after(node, walk):
        walk.widths[node.output[0]] = width
    walk.known.update(each for each in node.output if each)


def _check_attributes(node: Any, name: str, walk: _GraphWalk) -> None:
    if (not node.input and node.op_type != "Constant") or not node.output:
        raise ValueError(f"operator {name} without input or output")
    for attribute in node.attribute:
        if attribute.type in _GRAPHS or attribute.type == 9 or attribute.ref_attr_name:
            raise ValueError(f"operator {name} with a subgraph or a type in {attribute.name[:60]!r}")
        if attribute.type == 4:
            _check_constants([attribute.t], walk)
            walk.constants[node.output[0]] = attribute.t
        if attribute.name in ("strides", "dilations", "kernel_shape"):
            _check_numbers(name, attribute.name, attribute.ints, 1, _MOST_STEP)
        if attribute.name == "pads":
            _check_numbers(name, attribute.name, attribute.ints, 0, _MOST_PADDING)
        if attribute.name == "group":
            _check_numbers(name, attribute.name, [attribute.i], 1, 1 << 20)
    if node.op_type == "Pad" and len(node.input) > 1:
        _check_padding(node, name, walk)


def _check_padding(node: Any, name: str, walk: _GraphWalk) -> None:
    import onnx

    constant = walk.constants.get(node.input[1])
    if constant is None:
        raise ValueError(f"operator {name} whose padding is no constant")
    _check_numbers(name, "pads", onnx.numpy_helper.to_array(constant).ravel().tolist(), 0, _MOST_PADDING)


def _check_numbers(name: str, key: str, numbers: Sequence[int], least: int, most: int) -> None:
    if any(not least <= number <= most for number in numbers):
        raise ValueError(f"operator {name} with {key} outside {least} to {most}")


def _width_after(node: Any, walk: _GraphWalk) -> int | None:
    """Columns of a node's output, where it is (n, columns) as its input is."""
    width = walk.widths.get(node.input[0]) if node.input else None
    if node.op_type in _KEEP_WIDTH:
        return width
    if node.op_type in _JOIN_WIDTH and width and node.input[1] in walk.constants:
        dims = walk.constants[node.input[1]].dims
        row = math.prod(dims) == 1 or (math.prod(dims) == width and dims[-1] == width)
        return width if len(dims) <= 2 and row else None
    if node.op_type == "Where" and len(node.input) == 3 and node.input[1] in walk.constants:
        alike = width is not None and width == walk.widths.get(node.input[2])
        return width if alike and math.prod(walk.constants[node.input[1]].dims) == 1 else None
    if node.op_type == "Concat" and any(each.name == "axis" and each.i in (1, -1) for each in node.attribute):
        widths = [walk.widths.get(each) for each in node.input]
        return sum(each for each in widths if each) if all(widths) else None
    return None
