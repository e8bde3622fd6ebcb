"""Teacher → ladder of smaller models, each scored through the runtime that serves it."""

from kfp import dsl

from sluice_steps.step import MIDDLE, Need, step


@step(Need(MIDDLE, retries=2, device=True, hours=12))
def compress(
    task: str,
    recipe: str,
    frame: dsl.Input[dsl.Dataset],
    teacher: dsl.Input[dsl.Model],
    ladder: dsl.Output[dsl.Model],
) -> None:
    """Distil, prune and quantize; one TensorFlow import for the whole ladder."""
    from pathlib import Path

    from sluice.compression.ladder import build_ladder
    from sluice.steps.error_boundary import exit_on_error
    from sluice.tasks.recipe import Recipe
    from sluice.tasks.task import load_task

    with exit_on_error():
        places = Path(frame.path), Path(teacher.path)
        build_ladder(*places, Recipe.model_validate_json(recipe), Path(ladder.path), target=load_task(task).target)
