"""Chosen variant → quality by slice with intervals, beside baselines, teacher and production on the same rows."""

from kfp import dsl

from sluice_steps.step import MIDDLE, Need, step


@step(Need(MIDDLE, retries=2, store=True))
def evaluate(
    task: str,
    recipe: str,
    run: str,
    production: str,
    bundles: str,
    span: dsl.Input[dsl.Dataset],
    report: dsl.Input[dsl.Artifact],
    frame: dsl.Input[dsl.Dataset],
    teacher: dsl.Input[dsl.Model],
    ladder: dsl.Input[dsl.Model],
    selection: dsl.Input[dsl.Artifact],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    quality: dsl.Output[dsl.ClassificationMetrics],
    page: dsl.Output[dsl.HTML],
) -> None:
    """
    Judge the selected variant on the untouched holdout; ``production`` is a bundle's digest, or empty.

    ``quality`` is the ROC curve and the confusion matrix at the chosen threshold, ``page`` the model card.
    """
    import json
    from pathlib import Path

    from sluice.evaluation.card import card_html
    from sluice.evaluation.curves import confusion
    from sluice.steps.error_boundary import exit_on_error
    from sluice.steps.evaluate import evaluate as judge
    from sluice.steps.package import card_of, provenance_of
    from sluice.tasks.recipe import Recipe
    from sluice.tasks.task import load_task

    settings, subject = Recipe.model_validate_json(recipe), load_task(task)
    artifacts = {"span": span, "report": report, "frame": frame, "teacher": teacher, "ladder": ladder}
    inputs = {name: Path(artifact.path) for name, artifact in {**artifacts, "selection": selection}.items()}
    with exit_on_error():
        result = judge(task, settings, production, bundles, inputs, Path(evaluation.path))
        provenance = provenance_of(subject, settings, json.loads(run), Path(evaluation.path))
        Path(page.path).write_text(card_html(card_of(subject, settings, Path(evaluation.path), provenance)), "utf-8")
    for artifact in (metrics, quality):
        Path(artifact.path).touch()  # KFP's local cache takes an artifact without a file for lost
    for name, estimate in result.metrics.items():
        metrics.log_metric(name, estimate.value)
    points = result.curves.roc
    thresholds = [1 - index / max(1, len(points) - 1) for index in range(len(points))]
    quality.log_roc_curve([x for x, _ in points], [y for _, y in points], thresholds)
    if matrix := confusion(result):
        quality.log_confusion_matrix(["negative", "positive"], matrix)
