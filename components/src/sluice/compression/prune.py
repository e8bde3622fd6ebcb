"""Prune: set the smallest weights of the student to zero while it goes on learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sluice.compression.legacy import fine_tune, fresh_copy, import_tfmot, steps_in_all
from sluice.compression.student import Lessons
from sluice.errors import BadArtifact
from sluice.tasks.recipe import Recipe
from sluice.training.export import kernel_sparsity

SPARSITY = 0.5
_FREQUENCY = 5
_SHORTFALL = 0.02


def pruned_student(weights: Path, lessons: Lessons, recipe: Recipe) -> Any:
    """
    A tf_keras model with half of its kernels' weights zero (Zhu, Gupta 2017, "To prune, or not to prune", eq. 1).

    The masks are updated every few steps until two thirds of the training; the rest heals.

    Raises:
        BadArtifact: the kernels came out less sparse than asked: too few steps for the schedule.
    """
    sparsity = import_tfmot().sparsity.keras
    schedule = sparsity.PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=SPARSITY,
        begin_step=0,
        end_step=max(_FREQUENCY, steps_in_all(lessons) * 2 // 3 // _FREQUENCY * _FREQUENCY),
        frequency=_FREQUENCY,
    )
    model = sparsity.prune_low_magnitude(fresh_copy(weights, lessons, recipe), schedule)
    fine_tune(model, lessons, recipe.seed, [sparsity.UpdatePruningStep()])
    stripped = sparsity.strip_pruning(model)
    lessons.finish(stripped)
    reached = kernel_sparsity(stripped)
    if reached < SPARSITY - _SHORTFALL:
        rule = f"has {reached:.3f} of its kernels' weights at zero, asked for {SPARSITY}"
        raise BadArtifact("student_pruned_int8", rule, "train on more rows or leave the variant out")
    return stripped
