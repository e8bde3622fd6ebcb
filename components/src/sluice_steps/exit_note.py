"""How a run ended → a page of the run and one line in the log."""

from kfp import dsl

from sluice_steps.step import SMALL, Need, step


@step(Need(SMALL, cached=False, hours=0.25))
def exit_note(run: str, status: dsl.PipelineTaskFinalStatus, note: dsl.Output[dsl.Markdown]) -> None:
    """Say whether the run ended well; where it did not, which step stopped it and where its own words are."""
    from pathlib import Path

    from sluice.steps.exit_note import exit_note as describe

    page, line = describe(run, status.state, status.pipeline_task_name, status.error_message)
    Path(note.path).write_text(page, "utf-8")
    print(line)  # noqa: T201  the step's log
