"""Frame → teacher, and baselines beside it."""

from kfp import dsl

from components.image import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def train(
    task: str,
    recipe: str,
    frame: dsl.Input[dsl.Dataset],
    teacher: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Train the Keras teacher of ``recipe`` (JSON) and the baselines on the frame's train split."""
    from pathlib import Path

    from sluice.models.recipe import Recipe
    from sluice.tasks.task import load_task
    from sluice.training.teacher import train_teacher

    record = train_teacher(
        Path(frame.path), Recipe.model_validate_json(recipe), Path(teacher.path), load_task(task).baseline_keys
    )
    Path(metrics.path).touch()  # KFP's local cache takes an artifact without a file for lost
    metrics.log_metric("epochs", record.epochs)
    metrics.log_metric("tune_log_loss", record.tune_log_loss)
