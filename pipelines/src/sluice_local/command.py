"""The commands that this distribution adds to ``sluice``: ``run`` and ``report``."""

from __future__ import annotations

from typing import Annotated

import typer

from sluice.terminal import release_history
from sluice.workspace import Workspace

DEFAULT_STORY = "sluice_local.flights_story:STORY"


def run(
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the state of earlier runs first.")] = False,
    story: Annotated[str, typer.Option(help="module:ATTRIBUTE of the story to play.")] = DEFAULT_STORY,
) -> None:
    """
    Play the whole loop on this machine: train, gate, release, serve, promote, roll back.

    A run that was stopped goes on where it was; a finished one only shows its end again.

    Example: sluice run --fresh
    """
    from sluice_local.play import play

    play(Workspace.from_environment(), story, fresh)


def report() -> None:
    """
    Write the HTML report of the runs so far and say where it is.

    Example: sluice report
    """
    from sluice_local.play import write_report
    from sluice_local.story import load_story

    release_history(load_story(DEFAULT_STORY).environment)
    typer.echo(write_report(Workspace.from_environment(), DEFAULT_STORY))
