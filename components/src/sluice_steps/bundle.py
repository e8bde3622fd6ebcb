"""Everything that serving needs → one content-addressed bundle with its model card."""

from kfp import dsl

from sluice_steps.step import MIDDLE, Need, step


@step(Need(MIDDLE, retries=2))
def bundle(
    task: str,
    recipe: str,
    code: str,
    frame: dsl.Input[dsl.Dataset],
    evaluation: dsl.Input[dsl.Artifact],
    packed: dsl.Output[dsl.Model],
    card: dsl.Output[dsl.HTML],
) -> str:
    """Write the bundle to ``packed`` and return its digest."""
    from pathlib import Path

    from sluice.steps.error_boundary import exit_on_error
    from sluice.steps.package import package as pack

    with exit_on_error():
        result = pack(task, recipe, code, (Path(frame.path), Path(evaluation.path)), Path(packed.path))
    Path(card.path).write_bytes((result.directory / "card.html").read_bytes())
    packed.metadata.update(digest=result.digest)
    return result.digest
