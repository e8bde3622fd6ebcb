"""Frame → teacher, and baselines beside it."""

from kfp import dsl

from sluice_steps.step import MIDDLE, Need, step


@step(Need(MIDDLE, retries=3, device=True, store=True, hours=24))
def train(
    task: str,
    recipe: str,
    frame: dsl.Input[dsl.Dataset],
    teacher: dsl.Output[dsl.Model],
    learning: dsl.Output[dsl.Metrics],
    distribution: str = "single",
    checkpoints: str = "",
    checkpoint_every: int = 200,
) -> None:
    """
    Train the teacher of ``recipe`` (JSON) and the baselines on the frame's train split.

    ``distribution`` is ``single`` or ``mirrored`` (every device of the node). With ``checkpoints``, a folder or URL of
    this training's own, a retry goes on from the last one, at most ``checkpoint_every`` steps back.
    """
    from pathlib import Path

    from sluice.steps.error_boundary import exit_on_error
    from sluice.steps.patience import patiently
    from sluice.tasks.recipe import Recipe
    from sluice.tasks.task import load_task
    from sluice.training.distribution import Distribution
    from sluice.training.teacher import TrainingSetup, train_teacher

    with exit_on_error():
        setup = TrainingSetup(Distribution.model_validate({"kind": distribution}), checkpoints, checkpoint_every)
        places, subject = (Path(frame.path), Path(teacher.path)), load_task(task)
        settings, keys, target = Recipe.model_validate_json(recipe), subject.baseline_keys, subject.target
        record = patiently(lambda: train_teacher(places[0], settings, places[1], keys, setup=setup, target=target))
    Path(learning.path).touch()  # KFP's local cache takes an artifact without a file for lost
    for name, value in record.figures.items():
        learning.log_metric(name, value)
