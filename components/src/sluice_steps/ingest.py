"""Source → a span of examples with its content digest."""

from kfp import dsl

from sluice_steps.step import MIDDLE, Need, step


@step(Need(MIDDLE, retries=2))
def ingest(task: str, source: str, span: dsl.Output[dsl.Dataset]) -> str:
    """Read the task's source into a span and return the span's digest; ``source`` is the digest of the raw files."""
    from pathlib import Path

    from sluice.data.ingest import ingest as run
    from sluice.errors import BadInput
    from sluice.steps.error_boundary import exit_on_error
    from sluice.tasks.task import load_task

    with exit_on_error():
        record = run(load_task(task), Path(span.path))
        if record.source != source:
            raise BadInput(
                f"source of task {task!r}", f"is {record.source}, the run was started for {source}", "start again"
            )
    span.metadata.update(digest=record.digest, rows=record.rows, duplicates=record.duplicates)
    return record.digest
