"""How a run ended → a page of the run and one line in the log."""

from kfp import dsl

from sluice_steps.step import SMALL, Need, step


@step(Need(SMALL, cached=False, hours=0.25))
def exit_note(job_name: str, job_id: str, status: dsl.PipelineTaskFinalStatus, note: dsl.Output[dsl.Markdown]) -> None:
    """
    Say how the run ended: well and with what, refused and by which rule, or failed, in which step and by what.

    ``job_id`` is KFP's id of the run; the pods that have it as a label keep how each step ended.
    """
    from pathlib import Path

    from sluice.steps.exit_note import exit_note as describe
    from sluice_cluster.run_pods import endings_if_readable

    endings, why_not = endings_if_readable(job_id)
    if why_not:
        print(f"the run's pods cannot be read: {why_not}")  # noqa: T201  the step's log
    name = job_name or status.pipeline_job_resource_name or job_id
    page, line = describe(name, status.state, status.pipeline_task_name, status.error_message, endings)
    Path(note.path).write_text(page, "utf-8")
    print(line)  # noqa: T201  the step's log
