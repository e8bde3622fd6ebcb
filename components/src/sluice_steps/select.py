"""Ladder → the cheapest variant that is not worse than the teacher by more than the policy's margin."""

from kfp import dsl

from sluice_steps.image import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def select(
    policy: str,
    recipe: str,
    frame: dsl.Input[dsl.Dataset],
    ladder: dsl.Input[dsl.Model],
    selection: dsl.Output[dsl.Artifact],
) -> str:
    """Measure every variant on the tune split and return the name of the chosen one."""
    from pathlib import Path

    from sluice.steps.select import select as run
    from sluice.steps.told import told
    from sluice.tasks.recipe import Recipe

    with told():
        chosen = run(
            Path(frame.path), Path(ladder.path), policy, Recipe.model_validate_json(recipe).seed, Path(selection.path)
        )
    selection.metadata.update(variant=chosen.name)
    return chosen.name
