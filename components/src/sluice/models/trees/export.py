"""
From an ensemble of trees to an ONNX file that answers as its library does.

Written here because public converters are silently wrong for some objectives and boosters, for missing values, and for
values next to a threshold. One ``TreeEnsembleRegressor`` (ai.onnx.ml) adds up float32 leaves in the trees' order, the
base first, as XGBoost does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sluice.arrays import Floats, Floats32
from sluice.errors import BadArtifact, BadInput
from sluice.models.formats.onnx import OnnxScorer
from sluice.models.trees.ensemble import LEAF, ZERO, Tree, TreeEnsemble

TOLERANCE = 1e-5
"""Largest difference of a raw output to the library's, as a part of the answer where that is over 1: float32 sums."""


def export_trees(ensemble: TreeEnsemble, *, exponential: bool = False) -> bytes:
    """
    The ensemble as an ``.onnx`` file: ``x`` float32 (n, width) to ``raw`` float32 (n, outputs).

    Args:
        exponential: whether it answers the exponential of its raw outputs.
    """
    from onnx import TensorProto, helper

    answer = "log" if exponential else "raw"
    zeros = any(bool(tree.zero_missing.any()) for tree in ensemble.trees)
    nodes, constants = _zeros_as_missing() if zeros else ([], [])
    attributes = _attributes(ensemble)
    source = "columns" if zeros else "x"
    nodes.append(helper.make_node("TreeEnsembleRegressor", [source], [answer], domain="ai.onnx.ml", **attributes))
    if exponential:
        nodes.append(helper.make_node("Exp", ["log"], ["raw"]))
    graph = helper.make_graph(
        nodes,
        "trees",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", ensemble.width])],
        [helper.make_tensor_value_info("raw", TensorProto.FLOAT, ["n", ensemble.outputs])],
        constants,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="sluice")
    return bytes(model.SerializeToString(deterministic=True))


def checked_export(ensemble: TreeEnsemble, rows: Floats32, answers: Floats) -> bytes:
    """
    The ensemble as an ``.onnx`` file whose raw outputs were compared with the library's on every given row.

    Args:
        rows: float32, shape (n, width), as the model will be asked.
        answers: the library's own raw outputs of them (margins), shape (n, outputs), or (n,) of one output.

    Raises:
        BadArtifact: an answer is further from the library's than ``TOLERANCE``.
        BadInput: rows and answers do not belong together.
    """
    expected = np.asarray(answers, np.float64).reshape(len(answers), -1)
    if not len(rows) or expected.shape != (len(rows), ensemble.outputs):
        rule = f"have shape {np.shape(answers)} for {len(rows)} rows and {ensemble.outputs} outputs"
        raise BadInput("answers of the library", rule, "give its raw outputs of these very rows")
    data = export_trees(ensemble)
    apart = np.abs(OnnxScorer(data).raw(rows) - expected) / np.maximum(1.0, np.abs(expected))
    worst = int(np.argmax(apart.max(axis=1)))
    if not apart.max() <= TOLERANCE:
        rule = f"answers {apart.max():.2g} apart from {ensemble.library} on row {worst}, over {TOLERANCE:g}"
        raise BadArtifact("model.onnx", rule, "report the model's settings; another objective or booster may do")
    return data


def _attributes(ensemble: TreeEnsemble) -> dict[str, Any]:
    trees = [*_base_trees(ensemble), *ensemble.trees]
    sizes = [len(tree.feature) for tree in trees]
    leaf = [tree.feature == LEAF for tree in trees]
    numbers = [np.arange(size) for size in sizes]
    branch = b"BRANCH_LT" if ensemble.strict else b"BRANCH_LEQ"
    places = [
        np.where(leaf_, 0, tree.feature + ensemble.width * tree.zero_missing)
        for tree, leaf_ in zip(trees, leaf, strict=True)
    ]
    return {
        "n_targets": ensemble.outputs,
        "nodes_treeids": np.repeat(np.arange(len(trees)), sizes).tolist(),
        "nodes_nodeids": np.concatenate(numbers).tolist(),
        "nodes_featureids": np.concatenate(places).tolist(),
        "nodes_modes": [b"LEAF" if each else branch for each in np.concatenate(leaf).tolist()],
        "nodes_values": np.concatenate([tree.threshold for tree in trees]).tolist(),
        "nodes_truenodeids": np.concatenate([tree.left for tree in trees]).tolist(),
        "nodes_falsenodeids": np.concatenate([tree.right for tree in trees]).tolist(),
        "nodes_missing_value_tracks_true": np.concatenate([tree.missing_left for tree in trees]).astype(int).tolist(),
        "target_treeids": np.concatenate([np.full(each.sum(), tree) for tree, each in enumerate(leaf)]).tolist(),
        "target_nodeids": np.concatenate([np.flatnonzero(each) for each in leaf]).tolist(),
        "target_ids": np.concatenate(
            [np.full(each.sum(), t.output) for t, each in zip(trees, leaf, strict=True)]
        ).tolist(),
        "target_weights": np.concatenate([t.value[each] for t, each in zip(trees, leaf, strict=True)]).tolist(),
    }


def _base_trees(ensemble: TreeEnsemble) -> Iterator[Tree]:
    """A tree of one leaf for each output that has a base, or no tree."""
    filled = {tree.output for tree in ensemble.trees}
    for output, base in enumerate(ensemble.base):
        if base or output not in filled:
            none = np.zeros(1, np.int64)
            flags = np.zeros(1, bool)
            yield Tree(output, none + LEAF, np.zeros(1, np.float32), flags, flags, none, none, np.array([base]))


def _zeros_as_missing() -> tuple[list[Any], list[Any]]:
    """Nodes that put a second copy of all columns behind them, in which what is as good as 0 is missing."""
    from onnx import helper, numpy_helper

    constants = {"zero": np.array([ZERO], np.float32), "missing": np.array([np.nan], np.float32)}
    nodes = [
        helper.make_node("Abs", ["x"], ["size"]),
        helper.make_node("LessOrEqual", ["size", "zero"], ["none"]),
        helper.make_node("Where", ["none", "missing", "x"], ["without"]),
        helper.make_node("Concat", ["x", "without"], ["columns"], axis=1),
    ]
    return nodes, [numpy_helper.from_array(value, name) for name, value in constants.items()]
