"""Ladder → the cheapest variant that is not worse than the teacher by more than the policy's margin."""

from kfp import dsl

from sluice_steps.step import MIDDLE, Need, step


@step(Need(MIDDLE, retries=2))
def select(
    task: str,
    policy: str,
    recipe: str,
    frame: dsl.Input[dsl.Dataset],
    ladder: dsl.Input[dsl.Model],
    selection: dsl.Output[dsl.Artifact],
) -> str:
    """Measure every variant on the tune split and return the name of the chosen one."""
    from pathlib import Path

    from sluice.steps.error_boundary import exit_on_error
    from sluice.steps.select import select as run
    from sluice.tasks.recipe import Recipe

    with exit_on_error():
        variant = run(
            task,
            Path(frame.path),
            Path(ladder.path),
            policy,
            Recipe.model_validate_json(recipe).seed,
            Path(selection.path),
        )
    selection.metadata.update(variant=variant.name)
    return variant.name
