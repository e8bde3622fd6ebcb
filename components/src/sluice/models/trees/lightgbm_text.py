"""
LightGBM's text (``Booster.save_model("model.txt")``) and JSON (``Booster.dump_model()``) without LightGBM.

A row goes left where its value is at most the threshold. What is missing is said split by split (``missing_type``):
nothing (NaN is 0), zero (and NaN), or NaN: ``Tree::NumericalDecision`` in LightGBM's include/LightGBM/tree.h.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sluice.arrays import Floats, Floats32
from sluice.errors import BadArtifact, one_line
from sluice.models.trees.ensemble import LEAF, ZERO, Tree, TreeEnsemble, refusal, refuse_objective
from sluice.targets.link import LinkName

NAME = "LightGBM"
OBJECTIVES: Mapping[str, LinkName] = {
    "binary sigmoid:1": "logistic",
    "cross_entropy": "logistic",
    "multiclass": "softmax",
    "multiclassova": "logistic",
    "regression": "identity",
    "regression_l1": "identity",
    "huber": "identity",
    "fair": "identity",
    "mape": "identity",
    "quantile": "identity",
    "poisson": "exponential",
    "gamma": "exponential",
    "tweedie": "exponential",
}
"""Those that were compared with the library, each with the link from a raw output to a prediction."""
_ALPHA = re.compile(r"^\[alpha: (\S+)\]$", re.MULTILINE)
"""Among the settings that it writes behind the trees: the quantile, where that is what it was trained for."""
_CATEGORY, _DEFAULT_LEFT = 1, 2
_MISSING_NONE, _MISSING_ZERO, _MISSING_NAN = range(3)
_MISSING = {"None": _MISSING_NONE, "Zero": _MISSING_ZERO, "NaN": _MISSING_NAN}
_INFINITE = 1e300
_NO_CATEGORIES = "encode categories as numbers before training"


def read_lightgbm(document: bytes) -> TreeEnsemble:
    """
    The trees of a model; its raw outputs are those of ``Booster.predict(…, raw_score=True)``.

    A random forest (``average_output``) gives the mean of its rounds, as ``predict`` has it before it makes a
    probability of it, and not their sum, which ``raw_score=True`` gives.

    Raises:
        BadArtifact: no such document, or an objective, category or kind of tree that is not supported.
    """
    try:
        text = document.decode("utf-8")
        return _from_json(json.loads(text)) if text.lstrip().startswith("{") else _from_text(text)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        rule = f"is no text of LightGBM ({type(error).__name__}: {one_line(error, 120)})"
        raise BadArtifact(f"{NAME} model", rule, "save it by save_model('model.txt')") from error


def _from_text(text: str) -> TreeEnsemble:
    if not text.startswith("tree\n") or "\nend of trees" not in text:
        raise ValueError("it does not begin with `tree` and go on to `end of trees`")
    header, *trees = text.partition("\nend of trees")[0].split("\nTree=")
    fields = _fields(header)
    alpha = _ALPHA.search(text)
    return _ensemble(
        fields | ({"alpha": alpha.group(1)} if alpha else {}),
        average="average_output" in header.splitlines(),
        names=tuple(fields["feature_names"].split()),
        trees=[_tree_of_text(_fields(part)) for part in trees],
    )


def _fields(part: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in part.splitlines() if "=" in line)


def _from_json(document: Any) -> TreeEnsemble:
    return _ensemble(
        document,
        average=bool(document["average_output"]),
        names=tuple(map(str, document["feature_names"])),
        trees=[_tree_of_json(tree) for tree in document["tree_info"]],
    )


def _ensemble(
    fields: Mapping[str, Any], *, average: bool, names: tuple[str, ...], trees: Sequence[Tree]
) -> TreeEnsemble:
    objective = str(fields.get("objective", "custom"))
    link = _link(objective)
    if objective == "quantile" and "alpha" not in fields:
        raise refusal(NAME, "a quantile that it does not tell", "save it by save_model('model.txt')")
    outputs = int(fields["num_tree_per_iteration"])
    if outputs < 1 or len(trees) % outputs:
        raise ValueError(f"{len(trees)} trees for {outputs} outputs")
    share = 1.0 / max(len(trees) // outputs, 1) if average else 1.0
    return TreeEnsemble(
        library=NAME,
        objective=objective,
        width=int(fields["max_feature_idx"]) + 1,
        names=names,
        base=(0.0,) * outputs,
        strict=False,
        trees=tuple(_at_output(tree, number % outputs, share) for number, tree in enumerate(trees)),
        link=link,
        quantiles=(float(fields["alpha"]),) if objective == "quantile" else (),
    )


def _link(objective: str) -> LinkName:
    name, _, rest = objective.partition(" ")
    settings = {"multiclass": r"num_class:\d+", "multiclassova": r"num_class:\d+ sigmoid:1", "tweedie": r".*"}
    if objective not in OBJECTIVES and not (name in settings and re.fullmatch(settings[name], rest)):
        raise refuse_objective(NAME, objective, tuple(OBJECTIVES))
    return OBJECTIVES.get(objective) or OBJECTIVES[name]


def _at_output(tree: Tree, output: int, share: float) -> Tree:
    return Tree(
        output,
        tree.feature,
        tree.threshold,
        tree.missing_left,
        tree.zero_missing,
        tree.left,
        tree.right,
        tree.value * share,
    )


def _tree_of_text(fields: Mapping[str, str]) -> Tree:
    if int(fields["num_cat"]):
        raise refusal(NAME, "splits on categories", _NO_CATEGORIES)
    if int(fields.get("is_linear", "0")):
        raise refusal(NAME, "linear models in its leaves", "train with linear_tree=false")
    leaves = _numbers(fields["leaf_value"], np.float64)
    decisions = _numbers(fields["decision_type"], np.int64)
    if len(leaves) != int(fields["num_leaves"]) or len(decisions) != len(leaves) - 1:
        raise ValueError(
            f"a tree of {fields['num_leaves']} leaves has {len(leaves)} values, {len(decisions)} decisions"
        )
    return _tree(
        _numbers(fields["split_feature"], np.int64),
        _numbers(fields["threshold"], np.float64),
        decisions,
        (_numbers(fields["left_child"], np.int64), _numbers(fields["right_child"], np.int64)),
        leaves,
    )


def _numbers(text: str, dtype: Any) -> Any:
    return np.array(text.split(), dtype)


def _tree_of_json(tree: Any) -> Tree:
    if int(tree["num_cat"]):
        raise refusal(NAME, "splits on categories", _NO_CATEGORIES)
    splits: list[Any] = []
    leaves: list[float] = []
    children: list[list[int]] = []
    for node, parent, side in _nodes(tree["tree_structure"]):
        inner = "split_feature" in node
        if "leaf_const" in node:
            raise refusal(NAME, "linear models in its leaves", "train with linear_tree=false")
        if parent >= 0:
            children[parent][side] = len(splits) if inner else ~len(leaves)
        if inner:
            splits.append(node)
            children.append([0, 0])
        else:
            leaves.append(float(node["leaf_value"]))
    pairs = np.array(children, np.int64).reshape(-1, 2)
    return _tree(
        np.array([node["split_feature"] for node in splits], np.int64),
        _read_thresholds(np.array([node["threshold"] for node in splits], np.float64)),
        np.array([_decision(node) for node in splits], np.int64),
        (pairs[:, 0], pairs[:, 1]),
        np.array(leaves, np.float64),
    )


def _read_thresholds(written: Floats) -> Floats:
    """JSON has no infinity: the library writes 1e300 for it (``AvoidInf`` in src/io/tree.cpp)."""
    return np.where(np.abs(written) >= _INFINITE, np.sign(written) * np.inf, written)


def _nodes(root: Any) -> Iterator[tuple[Any, int, int]]:
    """Every node with the number of its parent among the splits (-1: none) and its side, parents first."""
    todo, splits = [(root, -1, 0)], 0
    while todo:
        node, parent, side = todo.pop()
        yield node, parent, side
        if "split_feature" in node:
            todo += [(node["right_child"], splits, 1), (node["left_child"], splits, 0)]
            splits += 1


def _decision(node: Any) -> int:
    if node["decision_type"] != "<=":
        raise refusal(NAME, "splits on categories", _NO_CATEGORIES)
    return _DEFAULT_LEFT * bool(node["default_left"]) | _MISSING[node["missing_type"]] << 2


def _tree(features: Any, thresholds: Floats, decisions: Any, children: tuple[Any, Any], leaves: Floats) -> Tree:
    """Splits first, then leaves; a child below 0 is leaf ``~child``. A tree of one leaf has no split."""
    if (decisions & _CATEGORY).any():
        raise refusal(NAME, "splits on categories", _NO_CATEGORIES)
    missing = decisions >> 2
    if ((missing < _MISSING_NONE) | (missing > _MISSING_NAN)).any():
        raise ValueError("a decision type that is not known")
    if not len(features) == len(thresholds) == len(decisions) == len(children[0]) == len(children[1]):
        raise ValueError("lists of splits of different lengths")
    splits, count = len(features), len(features) + len(leaves)
    default_left = (decisions & _DEFAULT_LEFT) > 0
    nothing = np.zeros(len(leaves))
    left, right = (np.where(side >= 0, side, splits + ~side) for side in children)
    return Tree(
        output=0,
        feature=np.concatenate([features, np.full(len(leaves), LEAF)]).astype(np.int64),
        threshold=np.concatenate([_float_thresholds(thresholds), nothing]).astype(np.float32),
        missing_left=np.concatenate(
            [np.where(missing == _MISSING_NONE, thresholds >= 0, default_left), nothing]
        ).astype(bool),
        zero_missing=np.concatenate([missing == _MISSING_ZERO, nothing]).astype(bool),
        left=np.concatenate([left, nothing]).astype(np.int64),
        right=np.concatenate([right, nothing]).astype(np.int64),
        value=np.concatenate([np.zeros(count - len(leaves)), leaves]),
    )


def _float_thresholds(thresholds: Floats) -> Floats32:
    """
    The float32 that splits every float32 as the threshold does in the library.

    That is the largest one that is no larger; but whatever is no larger than ``ZERO`` is read as 0 before any split
    (``RowPairFunctionFromDenseMatric`` in src/c_api.cpp), so a threshold among those is moved beyond them.
    """
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32)
    above = near.astype(np.float64) > thresholds
    down = np.where(above, np.nextafter(near, np.float32(-np.inf)), near)
    below_all = np.nextafter(-ZERO, np.float32(-np.inf))
    as_zero = np.abs(down) <= ZERO
    return np.where(as_zero, np.where(thresholds >= 0, ZERO, below_all), down).astype(np.float32)
