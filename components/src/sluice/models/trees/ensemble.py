"""An ensemble of decision trees as data, whichever library it is from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sluice.arrays import Floats, Floats32
from sluice.errors import BadArtifact
from sluice.targets.link import LinkName

LEAF = -1
ZERO = np.float32(1e-35)
"""LightGBM's kZeroThreshold: numbers this near to 0 are 0 there, and missing where a split's missing value is zero."""
_MOST_NODES = 20_000_000


@dataclass(frozen=True, eq=False)
class Tree:
    """
    One binary tree; node 0 is its root, arrays have one entry a node.

    Attributes:
        output: the column of the raw output that it adds to.
        feature: column that a node asks for, or ``LEAF``.
        threshold: float32; a row goes left where its value is at most (or less than) it.
        missing_left: whether a missing value goes left.
        zero_missing: whether values of size ``ZERO`` or less are missing too.
        left, right: numbers of a node's children; of a leaf without meaning.
        value: float64; what a leaf adds.
    """

    output: int
    feature: NDArray[np.int64]
    threshold: Floats32
    missing_left: NDArray[np.bool_]
    zero_missing: NDArray[np.bool_]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: Floats

    def check(self, name: str, width: int) -> None:
        """
        Raises BadArtifact where it asks for a column that is not there, a leaf is no finite number, or its nodes form
        no tree: then a walk would not end.
        """
        branch = self.feature != LEAF
        if ((self.feature < LEAF) | (self.feature >= width)).any():
            raise refusal(name, f"a split on column {int(self.feature.max())} of {width}")
        if not np.isfinite(self.value[~branch]).all() or np.isnan(self.threshold[branch]).any():
            raise refusal(name, "a leaf or a threshold that is no finite number")
        children = np.concatenate([self.left[branch], self.right[branch]])
        if len(children) != len(np.unique(children)) or ((children < 1) | (children >= len(self.feature))).any():
            raise refusal(name, "nodes that form no tree")
        if self._reached() != len(self.feature):
            raise refusal(name, "nodes that its root does not lead to")

    def _reached(self) -> int:
        count, level = 0, np.zeros(1, np.int64)
        while len(level):
            count += len(level)
            inner = level[self.feature[level] != LEAF]
            level = np.concatenate([self.left[inner], self.right[inner]])
        return count


@dataclass(frozen=True, eq=False)
class TreeEnsemble:
    """
    Trees whose leaves are added up: ``raw[:, k] = base[k] + sum of trees of output k``.

    Attributes:
        library, objective: where it is from, and what it was trained for, in the library's own word.
        width: columns of a row, float32.
        names: of the columns, or empty.
        base: what a row has before any tree, one an output.
        strict: whether left is ``<`` (XGBoost) and not ``<=`` (LightGBM).
        trees: in the order in which they are added.
        link: from its raw outputs to what the library predicts, each output by itself unless it is softmax.
        quantiles: of a quantile loss where the document says them, one an output.
    """

    library: str
    objective: str
    width: int
    names: tuple[str, ...]
    base: tuple[float, ...]
    strict: bool
    trees: tuple[Tree, ...]
    link: LinkName
    quantiles: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Raises BadArtifact for what is no ensemble of trees."""
        if not 1 <= self.width <= 1 << 20 or not 1 <= self.outputs <= 10_000:
            raise refusal(self.library, f"{self.width} columns and {self.outputs} outputs")
        if self.names and len(self.names) != self.width:
            raise refusal(self.library, f"{len(self.names)} names of features for {self.width} columns")
        if not np.isfinite(self.base).all():
            raise refusal(self.library, "a base score that is no finite number")
        if self.quantiles and len(self.quantiles) != self.outputs:
            raise refusal(self.library, f"{len(self.quantiles)} quantiles for {self.outputs} outputs")
        if sum(len(tree.feature) for tree in self.trees) > _MOST_NODES:
            raise refusal(self.library, f"more than {_MOST_NODES:,} nodes")
        for number, tree in enumerate(self.trees):
            if not 0 <= tree.output < self.outputs:
                raise refusal(self.library, f"tree {number} for output {tree.output} of {self.outputs}")
            tree.check(f"{self.library}: tree {number}", self.width)

    @property
    def outputs(self) -> int:
        """Columns of the raw output."""
        return len(self.base)


def joined(parts: Sequence[TreeEnsemble]) -> TreeEnsemble:
    """
    One ensemble with the outputs of several, in their order.

    Raises:
        BadArtifact: they are of different libraries, objectives or columns.
    """
    first, *others = parts
    for other in others:
        for key in ("library", "objective", "width", "names"):
            mine, its = getattr(first, key), getattr(other, key)
            if mine != its:
                rule = f"{key} {its!s:.80} beside a model that has {mine!s:.80}"
                raise refusal(other.library, rule, "put models of one training side by side")
    starts = [sum(part.outputs for part in parts[:place]) for place in range(len(parts))]
    return replace(
        first,
        base=tuple(base for part in parts for base in part.base),
        trees=tuple(
            replace(tree, output=tree.output + start)
            for part, start in zip(parts, starts, strict=True)
            for tree in part.trees
        ),
        quantiles=tuple(quantile for part in parts for quantile in part.quantiles),
    )


def refusal(name: str, what: str, fix: str = "save the model again, or choose another kind of it") -> BadArtifact:
    """A model of trees that cannot be taken: it has ``what``."""
    return BadArtifact(f"{name} model", f"has {what}", fix)


def refuse_objective(library: str, objective: str, known: Sequence[str]) -> BadArtifact:
    """An objective whose raw outputs nobody has compared with what is served."""
    return refusal(
        library, f"objective {objective!r}, none of {', '.join(known)}", "train with one of these objectives"
    )
