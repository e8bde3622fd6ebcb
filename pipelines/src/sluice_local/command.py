"""The commands that this distribution adds to ``sluice``: ``run``, ``report`` and ``serve``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sluice.project import enter_project
from sluice.tasks.table_declaration import QUICK_ROWS
from sluice.terminal import release_history
from sluice.workspace import Workspace

DEFAULT_STORY = "flights"
_QUICK = 2000
"""Rows of a table that are used where it is to be quick."""
StoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|MODULE:NAME", help="The story; else the project's, or the one that was last played in this home."
    ),
]


def run(
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the state of earlier runs first.")] = False,
    story: StoryOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="At most 2,000 rows of a table, evenly over time, in a home of its own.")
    ] = False,
) -> None:
    """
    Play the whole loop on this machine: train, gate, release, serve, promote, roll back.

    A run that was stopped goes on where it was; a finished one only shows its end again.

    Example: sluice run --fresh

    Example: SLUICE_HOME=/tmp/imported sluice run --story imported
    """
    from sluice_local.play import play

    workspace = Workspace.from_environment()
    if quick:
        workspace = Workspace(Path(f"{workspace.home}-quick"))
        os.environ |= {QUICK_ROWS: str(_QUICK), "SLUICE_HOME": str(workspace.home)}
    play(workspace, _story_in(workspace, story), fresh)


def report(story: StoryOption = None) -> None:
    """
    Write the HTML report of the runs so far and say where it is.

    Example: sluice report
    """
    from sluice_local.play import write_report
    from sluice_local.story import load_story

    workspace = Workspace.from_environment()
    name = _story_in(workspace, story)
    release_history(load_story(name).environment)
    typer.echo(write_report(workspace, name))


def serve(
    digest: Annotated[
        str, typer.Argument(metavar="DIGEST", help="Of a model of this machine; its first letters will do.")
    ],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 0,
) -> None:
    """
    Serve a model on this machine, with a page on which to ask it; until Ctrl-C.

    Example: sluice serve 4f1c

    Example: sluice serve sha256:4f1c --port 8080
    """
    from sluice.notebook import load
    from sluice_local.request_page import serve_page

    enter_project()
    workspace = Workspace.from_environment()
    serve_page(workspace, load(digest, workspace.home).bundle, port, typer.echo)


def _story_in(workspace: Workspace, name: str | None) -> str:
    from sluice_local.story import last_story

    project = enter_project()
    if name is None and project:
        return project[1].story
    return name if name is not None else last_story(workspace) or DEFAULT_STORY
