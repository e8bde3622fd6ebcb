"""Everything that serving needs → one content-addressed bundle with its model card."""

from kfp import dsl

from sluice_steps.step import MIDDLE, Need, step


@step(Need(MIDDLE, retries=2))
def bundle(
    task: str,
    recipe: str,
    code: str,
    frame: dsl.Input[dsl.Dataset],
    teacher: dsl.Input[dsl.Model],
    ladder: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    packed: dsl.Output[dsl.Model],
    card: dsl.Output[dsl.HTML],
) -> str:
    """Write the bundle to ``packed`` and return its digest."""
    from pathlib import Path

    from sluice.steps.error_boundary import exit_on_error
    from sluice.steps.package import package as pack

    artifacts = {"frame": frame, "teacher": teacher, "ladder": ladder, "evaluation": evaluation}
    with exit_on_error():
        inputs = {name: Path(artifact.path) for name, artifact in artifacts.items()}
        result = pack(task, recipe, code, inputs, Path(packed.path))
    Path(card.path).write_bytes((result.directory / "card.html").read_bytes())
    packed.metadata.update(digest=result.digest)
    return result.digest
