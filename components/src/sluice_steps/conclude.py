"""Why nothing follows → a page; a condition's other branch, without which KFP takes its graph for unfinished."""

from kfp import dsl

from sluice_steps.step import SMALL, Need, step


@step(Need(SMALL, cached=False, hours=0.25))
def conclude(reason: str, why: dsl.Output[dsl.Markdown]) -> None:
    """Say why the run does no more."""
    from pathlib import Path

    Path(why.path).write_text(f"# Nothing follows\n\n{reason}\n", "utf-8")
    print(reason)  # noqa: T201  the step's log
