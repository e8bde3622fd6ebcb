"""
What operators of ``ai.onnx.ml`` may hold: the runtime believes their lists of numbers, so every one is checked here.

https://onnx.ai/onnx/operators/index.html#ai-onnx-ml
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_NODE_LISTS = ("nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_values")
_CHILDREN = ("nodes_truenodeids", "nodes_falsenodeids")
_MODES = frozenset({b"LEAF", b"BRANCH_LEQ", b"BRANCH_LT", b"BRANCH_GTE", b"BRANCH_GT", b"BRANCH_EQ", b"BRANCH_NEQ"})
_MOST_TARGETS = 100_000


def check_learner(node: Any, name: str, width: int | None) -> int:
    """
    Accept a node of this domain.

    Args:
        node: a NodeProto of an operator in ``LEARNERS``.
        name: how messages call it.
        width: columns of its input, where they are known.

    Returns:
        Columns of its last output.

    Raises:
        ValueError: its lists contradict each other, or lead outside them or its input.
    """
    if width is None:
        raise ValueError(f"operator {name} whose input has no columns that are known; put it behind the model's input")
    try:
        return LEARNERS[node.op_type](_values(node), name, width)
    except (TypeError, KeyError) as error:  # a number where a list is due, a text where a number is
        raise ValueError(f"operator {name} with an attribute that is missing or of another kind") from error


def _values(node: Any) -> dict[str, Any]:
    """Attributes by name: numbers, texts as bytes, lists."""
    values: dict[str, Any] = {}
    for each in node.attribute:
        kinds = {1: each.f, 2: each.i, 3: each.s, 6: each.floats, 7: each.ints, 8: each.strings}
        if each.type not in kinds:
            raise ValueError(f"operator {node.op_type} with an attribute {each.name[:60]!r} that it may not have")
        values[each.name] = kinds[each.type]
    return values


def _scaled(values: Mapping[str, Any], name: str, width: int) -> int:
    for key in ("offset", "scale", "imputed_value_floats"):
        if key in values and len(values[key]) not in (1, width):
            raise ValueError(f"operator {name} with {len(values[key])} values in {key} for {width} columns")
    if name.startswith("Imputer") and "imputed_value_floats" not in values:
        raise ValueError(f"operator {name} without imputed_value_floats")
    if name.startswith("Scaler") and not ("offset" in values and "scale" in values):
        raise ValueError(f"operator {name} without offset and scale")
    return width


def _same_width(values: Mapping[str, Any], name: str, width: int) -> int:
    del values, name
    return width


def _linear(values: Mapping[str, Any], name: str, width: int) -> int:
    coefficients = len(values.get("coefficients", ()))
    targets = values.get("targets", 1) if name.startswith("LinearRegressor") else coefficients // width
    if not 1 <= targets <= _MOST_TARGETS or coefficients != targets * width:
        raise ValueError(f"operator {name} with {coefficients} coefficients for {width} columns")
    if len(values.get("intercepts", ())) not in (0, targets):
        raise ValueError(f"operator {name} with {len(values['intercepts'])} intercepts for {targets} outputs")
    return _classes(values, name, targets) if name.startswith("LinearClassifier") else int(targets)


def _classes(values: Mapping[str, Any], name: str, targets: int) -> int:
    """Columns of a classifier's scores: a binary one may have weights of one class."""
    labels = max(len(values.get(key, ())) for key in ("classlabels_ints", "classlabels_int64s", "classlabels_strings"))
    if labels < 2 or not (targets == labels or (targets == 1 and labels == 2)):
        raise ValueError(f"operator {name} with {labels} labels for {targets} outputs")
    return labels


def _regressor(values: Mapping[str, Any], name: str, width: int) -> int:
    targets = values.get("n_targets", 1)
    if not 1 <= targets <= _MOST_TARGETS:
        raise ValueError(f"operator {name} with {targets} targets")
    _check_trees(values, name, width)
    _check_leaves(values, name, "target", targets)
    return int(targets)


def _classifier(values: Mapping[str, Any], name: str, width: int) -> int:
    ids = list(values.get("class_ids", ()))
    labels = _classes(values, name, max(ids, default=0) + 1 if len(set(ids)) > 1 else 1)
    _check_trees(values, name, width)
    _check_leaves(values, name, "class", labels)
    return labels


def _check_leaves(values: Mapping[str, Any], name: str, kind: str, targets: int) -> None:
    trees, nodes, ids, weights = (
        list(values.get(f"{kind}_{key}", ())) for key in ("treeids", "nodeids", "ids", "weights")
    )
    if not len(trees) == len(nodes) == len(ids) == len(weights):
        raise ValueError(f"operator {name} with lists of leaves of different lengths")
    if len(values.get("base_values", ())) not in (0, targets):
        raise ValueError(f"operator {name} with {len(values['base_values'])} base values for {targets} outputs")
    if any(not 0 <= each < targets for each in ids):
        raise ValueError(f"operator {name} with a leaf for output {max(ids)} of {targets}")
    modes = _modes(values)
    if any(modes.get(place) != b"LEAF" for place in zip(trees, nodes, strict=True)):
        raise ValueError(f"operator {name} with a weight at a node that is no leaf")
    if set(zip(trees, nodes, strict=True)) != {place for place, mode in modes.items() if mode == b"LEAF"}:
        raise ValueError(f"operator {name} with a leaf without a weight")


def _modes(values: Mapping[str, Any]) -> dict[tuple[int, int], bytes]:
    keys = ("nodes_treeids", "nodes_nodeids", "nodes_modes")
    return {(tree, node): mode for tree, node, mode in zip(*(values[key] for key in keys), strict=True)}


def _check_trees(values: Mapping[str, Any], name: str, width: int) -> None:
    lengths = {len(values.get(key, ())) for key in ("nodes_treeids", *_NODE_LISTS, *_CHILDREN)}
    lengths |= {len(values[key]) for key in ("nodes_missing_value_tracks_true", "nodes_hitrates") if values.get(key)}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"operator {name} with lists of nodes that are empty or of different lengths")
    modes, features = values["nodes_modes"], values["nodes_featureids"]
    if unknown := set(modes) - _MODES:
        raise ValueError(f"operator {name} with nodes of mode {sorted(unknown)[0][:40]!r}")
    branches = [feature for feature, mode in zip(features, modes, strict=True) if mode != b"LEAF"]
    if any(not 0 <= feature < width for feature in branches):
        raise ValueError(f"operator {name} that asks for column {max(branches)} of {width}")
    _check_shape(values, name)


def _check_shape(values: Mapping[str, Any], name: str) -> None:
    """Every tree is one: each node but its first is the child of just one node, and the first leads to all."""
    keys = ("nodes_treeids", "nodes_nodeids", "nodes_modes", *_CHILDREN)
    children: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}
    roots: dict[int, tuple[int, int]] = {}
    for tree, node, mode, true, false in zip(*(values[key] for key in keys), strict=True):
        if (tree, node) in children:
            raise ValueError(f"operator {name} with node {node} of tree {tree} twice")
        children[tree, node] = () if mode == b"LEAF" else ((tree, true), (tree, false))
        roots.setdefault(tree, (tree, node))
    nodes = set(roots.values())
    todo = list(nodes)
    while todo:
        for child in children[todo.pop()]:
            if child not in children or child in nodes:
                raise ValueError(
                    f"operator {name} whose tree {child[0]} has a cycle, or leads to a node that is not there"
                )
            nodes.add(child)
            todo.append(child)
    if len(nodes) != len(children):
        raise ValueError(f"operator {name} with a node that no tree leads to")


LEARNERS: Mapping[str, Callable[[Mapping[str, Any], str, int], int]] = {
    "Binarizer": _same_width,
    "Imputer": _scaled,
    "LinearClassifier": _linear,
    "LinearRegressor": _linear,
    "Normalizer": _same_width,
    "Scaler": _scaled,
    "TreeEnsembleClassifier": _classifier,
    "TreeEnsembleRegressor": _regressor,
}
"""Allowed operators of ai.onnx.ml, each with the check of its lists; it gives the columns of its last output."""
