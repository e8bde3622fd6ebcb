"""From whatever an ONNX model answers to a target's raw outputs: which output, which columns, the inverse of a link."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from sluice.errors import BadArtifact, BadInput
from sluice.targets.link import LINKS, LinkName


@dataclass(frozen=True)
class GraphAnswer:
    """
    What of a model's outputs are the target's raw outputs.

    Attributes:
        inverse: of this link the inverse is taken, where the model answers predictions.
        output: name of the output, where there are several.
        columns: of it in the order of the target's; all as they are where there are none.
        of: how many columns it has to have; 0 where nobody said.
    """

    inverse: LinkName | None = None
    output: str | None = None
    columns: tuple[int, ...] = ()
    of: int = 0

    @classmethod
    def of_json(cls, text: str) -> Self:
        """What ``as_json`` wrote."""
        keys = json.loads(text)
        return cls(**{**keys, "columns": tuple(keys["columns"])})

    def as_json(self) -> str:
        """For a child process."""
        return json.dumps(asdict(self))

    @property
    def plain(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.inverse or self.output or self.columns)

    @property
    def unchanged(self) -> GraphAnswer:
        """The same output with the numbers that the model gives, in its own order."""
        return replace(self, inverse=None, columns=())

    def check_width(self, outputs: int) -> None:
        """Raises BadInput where an output of so many columns has not those that are asked for."""
        if self.of and self.of != outputs:
            rule = f"answers {outputs} columns, and `columns` of the spec names {self.of}"
            raise BadInput("the model", rule, "name what each column is of, or export the output that has those")
        if self.columns and max(self.columns) >= outputs:
            rule = f"is {max(self.columns)}, and the model answers {outputs} columns, from 0"
            raise BadInput("column", rule, "name one that is there")


def with_answer(data: bytes, answer: GraphAnswer) -> bytes:
    """
    The ONNX model with one output: the chosen columns as raw outputs; nodes that nothing needs are left out.

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
    if answer.plain:
        return data
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
    if answer.columns:
        constants["sluice_columns"] = np.array(answer.columns, np.int64)
        nodes.append(helper.make_node("Gather", [source, "sluice_columns"], ["sluice_chosen"], axis=1))
        source = "sluice_chosen"
    if answer.inverse:
        link = LINKS[answer.inverse]
        constants |= {"sluice_low": np.float32(link.low), "sluice_high": np.float32(link.high)}
        nodes.append(helper.make_node("Clip", [source, "sluice_low", "sluice_high"], ["sluice_p"]))
        source = "sluice_p"
        if answer.inverse == "logistic":
            constants["sluice_one"] = np.float32(1)
            nodes.append(helper.make_node("Sub", ["sluice_one", source], ["sluice_q"]))
            nodes.append(helper.make_node("Div", [source, "sluice_q"], ["sluice_odds"]))
            source = "sluice_odds"
        nodes.append(helper.make_node("Log", [source], ["sluice_raw"]))
        source = "sluice_raw"
    if nodes:
        nodes.append(helper.make_node("Identity", [source], ["sluice_answer"]))
    return nodes, [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
