"""ONNX models of a few nodes, good and hostile, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

WIDTH = 7
_OPSETS = {"": 17, "ai.onnx.ml": 3}


def onnx_model(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, Any] = {},
    width: Any = WIDTH,
    outputs: Any = 1,
    opsets: Mapping[str, int] = _OPSETS,
) -> ModelProto:
    """A model from ``x`` (n, width) to ``y`` (n, outputs)."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, outputs])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def network(outputs: int = 1, width: int = WIDTH, hidden: int = 16, seed: int = 1) -> ModelProto:
    """Two dense layers with fixed random weights."""
    rng = np.random.default_rng(seed)
    constants = {
        "a": rng.normal(size=(width, hidden)).astype(np.float32),
        "b": rng.normal(size=hidden).astype(np.float32),
        "c": rng.normal(size=(hidden, outputs)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "c"], ["y"]),
    ]
    return onnx_model(nodes, constants, width, outputs)


def stump(**changes: Any) -> ModelProto:
    """One split on column 0 as a TreeEnsembleRegressor; ``changes`` to its attributes make it hostile."""
    attributes: dict[str, Any] = {
        "n_targets": 1,
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_values": [0.5, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [-1.0, 1.0],
    }
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **(attributes | changes))
    return onnx_model([node])


def _external() -> ModelProto:
    model = network()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return model


def _custom_operator() -> ModelProto:
    return onnx_model([helper.make_node("Shell", ["x"], ["y"], domain="evil.ops")], opsets={**_OPSETS, "evil.ops": 1})


def _loop() -> ModelProto:
    body = helper.make_graph([], "body", [], [])
    constants = {"n": np.array(1 << 40), "on": np.array(True)}
    return onnx_model([helper.make_node("Loop", ["n", "on", "x"], ["y"], body=body)], constants)


def _branch() -> ModelProto:
    body = helper.make_graph([], "body", [], [])
    nodes = [helper.make_node("Identity", ["x"], ["y"], then_branch=body)]
    return onnx_model(nodes)


def _huge_shape() -> ModelProto:
    model = network()
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 40]
    return model


def _cut_constant() -> ModelProto:
    model = network()
    model.graph.initializer[0].raw_data = b"1234"
    return model


def _cycle() -> ModelProto:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    return onnx_model([*nodes, helper.make_node("Identity", ["b"], ["y"])])


def _function() -> ModelProto:
    model = network()
    model.functions.append(
        helper.make_function("own", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], model.opset_import)
    )
    return model


def _future_ir() -> ModelProto:
    model = network()
    model.ir_version = 99
    return model


def _text_input() -> ModelProto:
    model = network()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    return model


def _two_inputs() -> ModelProto:
    model = network()
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [None, 1]))
    return model


def _made_large() -> ModelProto:
    nodes = [helper.make_node("ConstantOfShape", ["n"], ["m"]), helper.make_node("Add", ["x", "m"], ["y"])]
    return onnx_model(nodes, {"n": np.array([1 << 30, 1 << 10])})


def _many_nodes() -> ModelProto:
    names = ["x", *(f"v{number}" for number in range(10_001)), "y"]
    return onnx_model([helper.make_node("Relu", [a], [b]) for a, b in pairwise(names)])


def _wide_padding() -> ModelProto:
    return onnx_model([helper.make_node("Pad", ["x", "p"], ["y"])], {"p": np.array([0, 0, 1 << 40, 0])})


HOSTILE: Mapping[str, tuple[Callable[[], ModelProto], str]] = {
    "external data": (_external, "external data of constant 'a'"),
    "a custom operator": (_custom_operator, "custom domain 'evil.ops'"),
    "a loop": (_loop, "operator Loop"),
    "a subgraph": (_branch, "subgraph"),
    "a huge constant": (_huge_shape, "more than 1024 MiB"),
    "a cut constant": (_cut_constant, "whose data are not of its shape"),
    "a cycle": (_cycle, "reads 'b' before a node has written it"),
    "a function": (_function, "function 'F'"),
    "an IR of the future": (_future_ir, "IR version 99"),
    "an opset of the future": (lambda: onnx_model(network().graph.node, opsets={"": 99}), "opset 99 of ONNX"),
    "a text input": (_text_input, "of string, need a float32 tensor"),
    "two inputs": (_two_inputs, "2 inputs"),
    "any width": (lambda: network(width=0), "with 0 columns"),
    "a tensor as large as a number says": (_made_large, "operator ConstantOfShape"),
    "too many nodes": (_many_nodes, "10,002 nodes"),
    "a wide padding": (_wide_padding, "pads outside 0 to 256"),
    "a tree that reads past its row": (lambda: stump(nodes_featureids=[9, 0, 0]), "asks for column 9 of 7"),
    "a tree with a cycle": (lambda: stump(nodes_truenodeids=[0, 0, 0]), "has a cycle"),
    "a tree that leads nowhere": (lambda: stump(nodes_falsenodeids=[77, 0, 0]), "a node that is not there"),
    "a leaf for another output": (lambda: stump(target_ids=[0, 5]), "a leaf for output 5 of 1"),
    "a number for a list": (lambda: stump(nodes_values=0.5), "of another kind"),
    "texts for numbers": (lambda: stump(nodes_featureids=["a", "b", "c"]), "of another kind"),
    "lists of other lengths": (lambda: stump(nodes_values=[0.5]), "of different lengths"),
}
"""Models that must be refused, and a part of what the refusal says."""
