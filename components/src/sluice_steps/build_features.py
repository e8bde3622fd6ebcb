"""Valid span → frame of features by Feast's point-in-time join."""

from kfp import dsl

from sluice_steps.step import MIDDLE, Need, step


@step(Need(MIDDLE, retries=2))
def build_features(
    task: str,
    feature_repo: str,
    span: dsl.Input[dsl.Dataset],
    validation: dsl.Input[dsl.Artifact],
    frame: dsl.Output[dsl.Dataset],
) -> str:
    """Join every feature of the service to the rows of a span whose ``validation`` says that it is valid."""
    from pathlib import Path

    from sluice.features.build import build_features as run
    from sluice.steps.error_boundary import exit_on_error
    from sluice.steps.evaluate import pass_on
    from sluice.tasks.task import load_task

    out = Path(frame.path)
    with exit_on_error():
        record = run(load_task(task), Path(span.path), Path(feature_repo), out / "store", out)
        pass_on(Path(span.path), Path(validation.path), out)
    frame.metadata.update(digest=record.digest, rows=record.rows, validation=validation.uri)
    return record.digest
