"""Chosen variant → quality by slice with intervals, beside baselines, teacher and production on the same rows."""

from kfp import dsl

from components.image import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def evaluate(
    task: str,
    recipe: str,
    production: str,
    bundles: str,
    frame: dsl.Input[dsl.Dataset],
    teacher: dsl.Input[dsl.Model],
    ladder: dsl.Input[dsl.Model],
    selection: dsl.Input[dsl.Artifact],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    roc: dsl.Output[dsl.ClassificationMetrics],
) -> None:
    """Judge the selected variant on the untouched holdout; ``production`` is a bundle's digest, or empty."""
    from pathlib import Path

    from sluice.models.recipe import Recipe
    from sluice.stages.evaluate import evaluate as run

    result = run(
        task,
        Recipe.model_validate_json(recipe),
        production,
        Path(bundles),
        {
            "span": Path(frame.metadata["span"]),
            "report": Path(frame.metadata["report"]),
            "frame": Path(frame.path),
            "teacher": Path(teacher.path),
            "ladder": Path(ladder.path),
            "selection": Path(selection.path),
        },
        Path(evaluation.path),
    )
    for artifact in (metrics, roc):
        Path(artifact.path).touch()  # KFP's local cache takes an artifact without a file for lost
    for name, estimate in result.metrics.items():
        metrics.log_metric(name, estimate.value)
    points = result.curves.roc
    thresholds = [1 - index / max(1, len(points) - 1) for index in range(len(points))]
    roc.log_roc_curve([x for x, _ in points], [y for _, y in points], thresholds)
