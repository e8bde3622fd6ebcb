"""Everything that serving needs → one content-addressed bundle with its model card."""

from kfp import dsl

from components.image import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def bundle(
    task: str,
    recipe: str,
    passed: bool,
    bundles: str,
    run: str,
    evaluation: dsl.Input[dsl.Artifact],
    card: dsl.Output[dsl.HTML],
) -> str:
    """Write the bundle into the store and return its digest."""
    from pathlib import Path

    from sluice.stages.package import package

    if not passed:
        raise ValueError("the offline gate did not pass")
    made = package(
        task,
        recipe,
        run,
        Path(bundles),
        Path(evaluation.path),
    )
    Path(card.path).write_bytes((made.directory / "card.html").read_bytes())
    return made.digest
