"""From whatever an ONNX model answers to one raw output: which output, which column, and the logit of a probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sluice.errors import BadArtifact, BadInput

Answers = Literal["logit", "probability"]
CLIP = 1e-7
"""A probability nearer to 0 or 1 is taken for this: float32 knows no logit beyond."""


@dataclass(frozen=True)
class GraphAnswer:
    """
    What of a model's outputs is the score.

    Attributes:
        kind: what its numbers are.
        output: name of the output, where there are several.
        column: which column of it, where it has several.
    """

    kind: Answers = "logit"
    output: str | None = None
    column: int | None = None

    @property
    def plain(self) -> bool:
        """Whether nothing is to be done."""
        return self == GraphAnswer()


def with_answer(data: bytes, answer: GraphAnswer) -> bytes:
    """
    The ONNX model with one output: the chosen column as a logit; nodes that nothing needs are left out.

    Raises:
        BadArtifact: no ONNX model.
        BadInput: it has no such output.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(data)
    except (DecodeError, RecursionError) as error:
        raise BadArtifact("ONNX model", "is none: its bytes are no ModelProto", "export it again") from error
    graph = model.graph
    source = _output(graph, answer.output).name
    nodes, constants = _tail(source, answer)
    _keep_needed(graph, source)
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    if nodes:
        del graph.output[:]
        graph.output.append(onnx.helper.make_tensor_value_info("sluice_answer", onnx.TensorProto.FLOAT, [None, None]))
    return bytes(model.SerializeToString(deterministic=True))


def _output(graph: Any, name: str | None) -> Any:
    names = [each.name for each in graph.output]
    if name is None and len(names) != 1:
        fix = "name the one with the score in `output` of the spec"
        raise BadInput("ONNX model", f"has the outputs {', '.join(names)[:200] or 'none'}", fix)
    if name is not None and name not in names:
        raise BadInput(f"output {name!r}", f"is not one of the model's ({', '.join(names)[:200]})", "name one of them")
    return graph.output[0 if name is None else names.index(name)]


def _keep_needed(graph: Any, source: str) -> None:
    """Only what leads to ``source``, in the same order, and that as the one output."""
    needed = {source}
    nodes = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed.update(node.input)
    nodes.reverse()
    output = next(each for each in graph.output if each.name == source)
    constants = [each for each in graph.initializer if each.name in needed]
    for field, values in ((graph.node, nodes), (graph.initializer, constants), (graph.output, [output])):
        copies = [type(each).FromString(each.SerializeToString()) for each in values]
        del field[:]
        field.extend(copies)


def _tail(source: str, answer: GraphAnswer) -> tuple[list[Any], list[Any]]:
    """Nodes from the output to ``sluice_answer``, and their constants."""
    import numpy as np
    from onnx import helper, numpy_helper

    nodes: list[Any] = []
    constants: dict[str, Any] = {}
    if answer.column is not None:
        constants["sluice_column"] = np.array([answer.column], np.int64)
        nodes.append(helper.make_node("Gather", [source, "sluice_column"], ["sluice_chosen"], axis=1))
        source = "sluice_chosen"
    if answer.kind == "probability":
        constants |= {"sluice_low": np.float32(CLIP), "sluice_high": np.float32(1 - CLIP), "sluice_one": np.float32(1)}
        nodes += [
            helper.make_node("Clip", [source, "sluice_low", "sluice_high"], ["sluice_p"]),
            helper.make_node("Sub", ["sluice_one", "sluice_p"], ["sluice_q"]),
            helper.make_node("Div", ["sluice_p", "sluice_q"], ["sluice_odds"]),
            helper.make_node("Log", ["sluice_odds"], ["sluice_logit"]),
        ]
        source = "sluice_logit"
    if nodes:
        nodes.append(helper.make_node("Identity", [source], ["sluice_answer"]))
    return nodes, [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
