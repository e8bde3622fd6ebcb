"""How a run ended → a page of the run and one line in the log."""

from kfp import dsl

from sluice_steps.image import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def exit_note(run: str, status: dsl.PipelineTaskFinalStatus, note: dsl.Output[dsl.Markdown]) -> None:
    """Say whether the run ended well; where it did not, which step stopped it and where its own words are."""
    from pathlib import Path

    from sluice.steps.ending import ending

    page, line = ending(run, status.state, status.pipeline_task_name, status.error_message)
    Path(note.path).write_text(page, "utf-8")
    print(line)  # noqa: T201  the step's log
