"""
One process of a training job: ``python -m sluice.training.worker --task NAME --recipe JSON --frame DIR --out DIR``.

A TFJob sets ``TF_CONFIG``. A TrainJob has no notion of it: there ``SLUICE_NODES`` lists the addresses, and Kubernetes
numbers the pods by ``JOB_COMPLETION_INDEX``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from sluice.errors import BadInput, SluiceError, one_line
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import load_task
from sluice.training.distribution import Distribution, DistributionKind, tf_config
from sluice.training.teacher import TrainingSetup, train_teacher

NODES, INDEX = "SLUICE_NODES", "JOB_COMPLETION_INDEX"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; exit code 0 done, 2 the input is wrong, ``sluice.training.loop.PREEMPTED`` start it again."""
    options = _parser().parse_args(arguments)
    try:
        os.environ.update(cluster_variables(os.environ))
        distribution = Distribution(kind=options.distribution, model_shards=options.model_shards)
        setup = TrainingSetup(distribution, options.checkpoints, options.every)
        task, recipe = load_task(options.task), _recipe(options.recipe)
        train_teacher(options.frame, recipe, options.out, task.baseline_keys, setup=setup, target=task.target)
    except SluiceError as error:
        sys.stderr.write(f"sluice: {error}\n")
        return error.exit_code
    return 0


def cluster_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """
    ``TF_CONFIG`` where a TrainJob lists its nodes, else nothing.

    Raises:
        BadInput: the pod has no number, or one that the list does not have.
    """
    if "TF_CONFIG" in environ or NODES not in environ:
        return {}
    addresses, index = tuple(environ[NODES].split(",")), environ.get(INDEX, "")
    if not index.isdecimal() or int(index) >= len(addresses):
        rule = f"is {index!r}, and {NODES} lists {len(addresses)} nodes"
        raise BadInput(INDEX, rule, "run the pods as one Indexed job with as many completions as nodes")
    return {"TF_CONFIG": tf_config(addresses, int(index))}


def _recipe(text: str) -> Recipe:
    try:
        return Recipe.model_validate_json(text)
    except ValidationError as error:
        raise BadInput("--recipe", one_line(error), "give a recipe as JSON") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sluice.training.worker", description="One process of a training job.")
    parser.add_argument("--task", required=True)
    parser.add_argument("--recipe", required=True, help="JSON")
    parser.add_argument("--frame", type=Path, required=True, help="folder that all workers see")
    parser.add_argument("--out", type=Path, required=True, help="folder that the chief writes")
    parser.add_argument("--distribution", choices=get_args(DistributionKind), default="multi_worker")
    parser.add_argument("--model-shards", type=int, choices=range(1, 65), default=1, metavar="1..64")
    parser.add_argument("--checkpoints", default="", help="folder or URL of this training's own; empty keeps none")
    parser.add_argument("--every", type=int, default=TrainingSetup.every, help="steps between two checkpoints")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
