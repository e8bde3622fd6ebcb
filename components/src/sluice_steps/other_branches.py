"""Why nothing follows → a page; a condition's other branch, without which KFP takes its box for unfinished."""

from kfp import dsl

from sluice_steps.step import SMALL, Need, step


@step(Need(SMALL, cached=False, hours=0.25))
def refused(reason: str, why: dsl.Output[dsl.Markdown]) -> None:
    """Say which rule forbids to go on."""
    from pathlib import Path

    Path(why.path).write_text(f"# Refused\n\n{reason}\n", "utf-8")
    print(reason)  # noqa: T201  the step's log


@step(Need(SMALL, cached=False, hours=0.25))
def not_due(reason: str, why_not: dsl.Output[dsl.Markdown]) -> None:
    """Say why no training is due."""
    from pathlib import Path

    Path(why_not.path).write_text(f"# Not due\n\n{reason}\n", "utf-8")
    print(reason)  # noqa: T201  the step's log
