"""
XGBoost's JSON (``Booster.save_raw("json")``, ``save_model("model.json")``) without XGBoost.

https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html; a row goes left where its value is less than
``split_conditions``, and a missing one where ``default_left`` says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sluice.errors import BadArtifact, one_line
from sluice.models.trees.ensemble import LEAF, Tree, TreeEnsemble, refusal, refuse_objective
from sluice.targets.link import LinkName

NAME = "XGBoost"
_BOOSTERS = ("gbtree", "dart")


def _logit(p: float) -> float:
    """In float32 all the way, as the library has it."""
    one = np.float32(1)
    return float(-np.log(one / np.float32(p) - one))


def _same(value: float) -> float:
    return value


class TreeObjective(NamedTuple):
    """One objective: the way from ``base_score`` to the raw output, and the one from there to a prediction."""

    raw: Callable[[float], float]
    link: LinkName


OBJECTIVES: Mapping[str, TreeObjective] = {
    "binary:logistic": TreeObjective(_logit, "logistic"),
    "binary:logitraw": TreeObjective(_same, "logistic"),
    "reg:logistic": TreeObjective(_logit, "logistic"),
    "multi:softmax": TreeObjective(_same, "softmax"),
    "multi:softprob": TreeObjective(_same, "softmax"),
    "reg:squarederror": TreeObjective(_same, "identity"),
    "reg:absoluteerror": TreeObjective(_same, "identity"),
    "reg:pseudohubererror": TreeObjective(_same, "identity"),
    "reg:quantileerror": TreeObjective(_same, "identity"),
    "count:poisson": TreeObjective(math.log, "exponential"),
    "reg:gamma": TreeObjective(math.log, "exponential"),
    "reg:tweedie": TreeObjective(math.log, "exponential"),
}
"""Those that were compared with the library."""


def read_xgboost(document: bytes) -> TreeEnsemble:
    """
    The trees of a model; its raw outputs are those of ``Booster.predict(…, output_margin=True)``.

    Raises:
        BadArtifact: no such document, or an objective, booster, category or kind of tree that is not supported.
    """
    try:
        learner = json.loads(document)["learner"]
        return _ensemble(learner)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        rule = f"is no JSON of XGBoost ({type(error).__name__}: {one_line(error, 120)})"
        raise BadArtifact(f"{NAME} model", rule, "save it by save_model('model.json')") from error


def _ensemble(learner: Any) -> TreeEnsemble:
    objective, booster = str(learner["objective"]["name"]), learner["gradient_booster"]
    if objective not in OBJECTIVES:
        raise refuse_objective(NAME, objective, tuple(OBJECTIVES))
    if booster["name"] not in _BOOSTERS:
        raise refusal(NAME, f"booster {booster['name']!r}, none of {', '.join(_BOOSTERS)}")
    dart = booster["name"] == "dart"
    model = booster["gbtree"]["model"] if dart else booster["model"]
    _check_categories(learner, model)
    _check_rounds(learner, model)
    trees = model["trees"]
    weights = booster["weight_drop"] if dart else [1.0] * len(trees)
    return TreeEnsemble(
        library=NAME,
        objective=objective,
        width=int(learner["learner_model_param"]["num_feature"]),
        names=tuple(map(str, learner.get("feature_names", ()))),
        base=_base(learner["learner_model_param"], OBJECTIVES[objective].raw),
        strict=True,
        trees=tuple(
            _tree(tree, int(output), float(weight))
            for tree, output, weight in zip(trees, model["tree_info"], weights, strict=True)
        ),
        link=OBJECTIVES[objective].link,
        quantiles=_numbers(learner["objective"].get("quantile_loss_param", {}).get("quantile_alpha", "")),
    )


def _check_categories(learner: Any, model: Any) -> None:
    kinds = set(map(str, learner.get("feature_types", ())))
    if "c" in kinds or any(model.get("cats", {}).get("enc", ())):
        raise refusal(NAME, "features of type category", "encode categories as numbers before training")


def _check_rounds(learner: Any, model: Any) -> None:
    """One that stopped early has trees that some of the library's calls use and others do not."""
    best = learner.get("attributes", {}).get("best_iteration")
    rounds = len(model.get("iteration_indptr", ())) - 1
    if best is not None and rounds >= 0 and int(best) + 1 != rounds:
        fix = f"save booster[: {int(best) + 1}]"
        raise refusal(NAME, f"{rounds} rounds, of which {int(best) + 1} are the best (it stopped early)", fix)


def _base(parameters: Any, raw: Callable[[float], float]) -> tuple[float, ...]:
    """``base_score`` on the scale of the raw output, float32; of older versions one number for all outputs."""
    outputs = max(int(parameters["num_class"]), int(parameters.get("num_target", 1)), 1)
    scores = _numbers(parameters["base_score"])
    each = scores * outputs if len(scores) == 1 else scores
    if len(each) != outputs:
        raise ValueError(f"{len(each)} base scores for {outputs} outputs")
    return tuple(float(np.float32(raw(float(np.float32(value))))) for value in each)


def _numbers(text: Any) -> tuple[float, ...]:
    """Of a list as the library writes it, or of a single number."""
    return tuple(float(part) for part in str(text).strip("[]").split(",") if part)


def _tree(tree: Any, output: int, weight: float) -> Tree:
    if int(tree["tree_param"]["size_leaf_vector"]) > 1:
        raise refusal(NAME, "trees with several outputs a leaf", "train with multi_strategy='one_output_per_tree'")
    if any(tree.get("categories", ())) or any(tree.get("split_type", ())):
        raise refusal(NAME, "splits on categories", "encode categories as numbers before training")
    lefts, rights = np.array(tree["left_children"], np.int64), np.array(tree["right_children"], np.int64)
    order, place = _reached(lefts, rights)
    conditions = np.array(tree["split_conditions"], np.float32)[order]
    leaf = lefts[order] == -1
    count = len(order)
    return Tree(
        output=output,
        feature=np.where(leaf, LEAF, np.array(tree["split_indices"], np.int64)[order]),
        threshold=np.where(leaf, np.float32(0), conditions).astype(np.float32),
        missing_left=np.array(tree["default_left"]).astype(bool)[order],
        zero_missing=np.zeros(count, bool),
        left=place[lefts[order]],
        right=place[rights[order]],
        value=np.where(leaf, conditions * np.float32(weight), np.float32(0)).astype(np.float64),
    )


def _reached(lefts: NDArray[np.int64], rights: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Nodes that the root leads to, parents first, and the place of each of all nodes among them: pruned ones stay."""
    order: list[int] = []
    todo = [0]
    while todo:
        node = todo.pop()
        order.append(node)
        if len(order) > len(lefts):
            raise ValueError("a tree with a cycle")
        if lefts[node] != -1:
            todo += [int(rights[node]), int(lefts[node])]
            if min(todo[-2:]) < 0:
                raise ValueError("a node with one child")
    place = np.zeros(len(lefts) + 1, np.int64)
    place[order] = np.arange(len(order))
    return np.array(order, np.int64), place
