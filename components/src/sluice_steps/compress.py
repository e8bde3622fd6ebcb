"""Teacher → ladder of smaller models, each scored through the runtime that serves it."""

from kfp import dsl

from sluice_steps.image import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def compress(
    recipe: str,
    frame: dsl.Input[dsl.Dataset],
    teacher: dsl.Input[dsl.Model],
    ladder: dsl.Output[dsl.Model],
) -> None:
    """Distil, prune and quantize; one TensorFlow import for the whole ladder."""
    from pathlib import Path

    from sluice.compression.ladder import build_ladder
    from sluice.steps.told import told
    from sluice.tasks.recipe import Recipe

    with told():
        build_ladder(Path(frame.path), Path(teacher.path), Recipe.model_validate_json(recipe), Path(ladder.path))
