"""Span → anomalies against the committed schema; any anomaly stops the pipeline."""

from kfp import dsl

from sluice_steps.step import MIDDLE, Need, step


@step(Need(MIDDLE))
def validate(task: str, span: dsl.Input[dsl.Dataset], validation: dsl.Output[dsl.Artifact]) -> bool:
    """Check the span against the task's schema, and the fresh rows against the training rows."""
    from pathlib import Path

    from sluice.data.validate import require_valid
    from sluice.data.validate import validate as run
    from sluice.steps.error_boundary import exit_on_error
    from sluice.tasks.task import load_task

    with exit_on_error():
        result = run(load_task(task), Path(span.path), Path(validation.path))
        validation.metadata.update(anomalies=len(result.anomalies))
        for anomaly in result.anomalies:  # of a failed step KFP keeps no artifact, and the error names the first
            print(f"{anomaly.feature}: {anomaly.text} (rule {anomaly.rule})")  # noqa: T201  the step's log
        require_valid(result)
    return result.passed
