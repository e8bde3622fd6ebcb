"""Whether a model from elsewhere is one for this target, and says what it said where it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from sluice.arrays import Floats
from sluice.errors import BadArtifact, BadInput, one_line
from sluice.models.bundle import Bundle
from sluice.models.trees import lightgbm_text, xgboost_json
from sluice.models.trees.ensemble import TreeEnsemble
from sluice.models.trees.export import TOLERANCE
from sluice.targets.kind import TargetKind
from sluice.targets.link import LinkName, fitting_links
from sluice.targets.predictions import predictions_in

_OBJECTIVES: Mapping[str, Mapping[str, LinkName]] = {
    xgboost_json.NAME: {name: each.link for name, each in xgboost_json.OBJECTIVES.items()},
    lightgbm_text.NAME: lightgbm_text.OBJECTIVES,
}


def check_objective(path: Path, ensemble: TreeEnsemble, target: TargetKind) -> None:
    """Raise BadInput where trees were trained for another kind of target, or for other quantiles."""
    links, quantiles = fitting_links(target), target.training_loss.quantiles
    if ensemble.link not in links:
        rule = f"was trained for {ensemble.objective!r}, and the task's label is {target.kind}"
        fitting = [name for name, each in _OBJECTIVES[ensemble.library].items() if each in links]
        raise BadInput(str(path), rule, f"train for one of {', '.join(fitting)}")
    due = quantiles or (0.5,)
    if (ensemble.quantiles or len(due) > 1) and sorted(ensemble.quantiles) != list(due):
        has = ", ".join(f"{each:g}" for each in ensemble.quantiles) or f"none ({ensemble.objective})"
        rule = f"was trained for quantiles {has:.120}, and the task asks for {', '.join(f'{each:g}' for each in due)}"
        fix = "train XGBoost with a quantile_alpha of these, or put a model of each into one folder"
        raise BadInput(str(path), rule, fix)


def check_said_elsewhere(bundle: Bundle, frame: Path, path: Path) -> None:
    """
    Accept a bundle that says of rows what its model said where it was trained.

    Args:
        path: Parquet, ``example_id`` and ``score``: a number, or a list of as many as the target has columns.

    Raises:
        BadInput: it cannot be read, or is of other rows.
        BadArtifact: an answer is further from it than ``TOLERANCE``, as a part of it where that is over 1.
    """
    answers = _answers(path, len(bundle.target.columns))
    names = bundle.manifest.features.names
    rows = pl.read_parquet(frame / "frame.parquet", columns=["example_id", *names])
    both = answers.join(rows, on="example_id", how="inner")
    if both.height != answers.height or both.is_empty():
        rule = f"has {answers.height} answers, {both.height} of them to rows of the frame"
        raise BadInput(str(path), rule, "give answers to rows of this frame, each once")
    expected = predictions_in(both["score"])
    apart = _apart(bundle.predict(both.select(names)).reshape(expected.shape), expected)
    worst = int(np.argmax(apart))
    if not apart[worst] <= TOLERANCE:
        score, row = ", ".join(f"{number:g}" for number in expected[worst][:4]), both["example_id"][worst]
        rule = f"was said to answer {score} to {row!r}, and is {apart[worst]:.2g} apart"
        fix = "check the order of its inputs and columns, and what its answer means, in the --spec"
        raise BadArtifact("the model", rule, fix)


def _answers(path: Path, width: int) -> pl.DataFrame:
    try:
        answers = pl.read_parquet(path).select("example_id", "score")
        nested = isinstance(answers["score"].dtype, pl.List | pl.Array)
        dtype = pl.Array(pl.Float64, width) if nested else pl.Float64()
        answers = answers.with_columns(pl.col("score").cast(dtype))
    except (OSError, pl.exceptions.PolarsError) as error:
        rule = f"has no example_id and score ({one_line(error, 120)})"
        raise BadInput(str(path), rule, f"write what the model said, {width} numbers a row an example") from error
    if predictions_in(answers["score"].head(0)).shape[1] != width:
        raise BadInput(f"{path}: column 'score'", f"has one number a row, need {width}", "write lists of them")
    return answers


def _apart(ours: Floats, theirs: Floats) -> Floats:
    """(n,) the largest difference of each row; infinite where one is no number."""
    apart = (np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))).max(axis=1)
    return np.where(np.isfinite(apart), apart, np.inf)
