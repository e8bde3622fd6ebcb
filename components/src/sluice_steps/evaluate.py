"""Chosen variant → quality by slice with intervals, beside baselines, teacher and production on the same rows."""

from kfp import dsl

from sluice_steps.step import MIDDLE, Need, step


@step(Need(MIDDLE, retries=2, store=True))
def evaluate(
    task: str,
    recipe: str,
    code: str,
    production: str,
    bundles: str,
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

    ``quality`` is the ROC curve and the confusion matrix at the chosen threshold, or by class, where the kind of target
    has them; ``page`` is the model card.
    """
    from pathlib import Path

    from sluice.evaluation.card import card_html
    from sluice.steps.error_boundary import exit_on_error
    from sluice.steps.evaluate import confusion_table
    from sluice.steps.evaluate import evaluate as judge
    from sluice.steps.package import card_of, provenance_of
    from sluice.steps.patience import patiently
    from sluice.tasks.recipe import Recipe
    from sluice.tasks.task import load_task

    settings, subject = Recipe.model_validate_json(recipe), load_task(task)
    artifacts = {"frame": frame, "teacher": teacher, "ladder": ladder, "selection": selection}
    inputs = {name: Path(artifact.path) for name, artifact in artifacts.items()}
    with exit_on_error():
        result = patiently(lambda: judge(task, settings, production, bundles, inputs, Path(evaluation.path)))
        provenance = provenance_of(subject, settings, code, Path(evaluation.path))
        Path(page.path).write_text(card_html(card_of(subject, settings, Path(evaluation.path), provenance)), "utf-8")
    for artifact in (metrics, quality):
        Path(artifact.path).touch()  # KFP's local cache takes an artifact without a file for lost
    for name, estimate in result.metrics.items():
        metrics.log_metric(name, estimate.value)
    if result.curves and result.curves.roc:
        false_alarms, hits = (list(share) for share in zip(*result.curves.roc, strict=True))
        quality.log_roc_curve(false_alarms, hits, list(result.curves.roc_thresholds))
    if table := confusion_table(result):
        quality.log_confusion_matrix(*table)
