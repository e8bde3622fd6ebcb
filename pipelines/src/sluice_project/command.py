"""The commands for repositories of one's own: ``init``, ``check``, ``compile``, ``doctor``, ``gitops``."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sluice.errors import BadInput
from sluice.project import Project, enter_project
from sluice.terminal import JsonOption

gitops = typer.Typer(no_args_is_help=True, help="The repository that a cluster follows.")


def init(
    name: Annotated[str, typer.Argument(help="Of the task and its package: a to z, 0 to 9.")],
    target: Annotated[str, typer.Option(help="binary, multi-class, multi-label, regression or counts.")] = "binary",
    features: Annotated[str, typer.Option(help="feast: a history of each key; none: what a request carries.")] = "none",
    into: Annotated[Path, typer.Option(help="Folder, empty or not there yet.")] = Path(),
    manifests_url: Annotated[str | None, typer.Option(help="Git repository of the platform's manifests.")] = None,
    manifests_ref: Annotated[str | None, typer.Option(help="Tag or commit of it; else of this version.")] = None,
) -> None:
    """
    Write a small repository that works at once: a task on a made-up table, its policies, overlays and tests.

    Example: sluice init returns --target binary

    Example: sluice init parcels --target regression --features feast --into parcels
    """
    from sluice_project.check import write_project_schema
    from sluice_project.scaffold import begin, manifests_source

    folder = into.absolute()
    paths = begin(folder, name, target, features, manifests_source(manifests_url, manifests_ref))
    _, project = _project(folder)
    write_project_schema(project)
    typer.echo(f"{len(paths) + 1} files in {folder}; the task is src/{name}/task.py")
    typer.echo("next: make run, make test, sluice check")


def check(
    write: Annotated[bool, typer.Option("--write-schema", help="Infer the schema of the rows anew, write it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """
    Find everything that is wrong with this repository, before anything is trained: file and line, rule, fix.

    Exits with 2 where something is.

    Example: sluice check
    """
    from sluice_project.check import check_project, write_project_schema

    folder, project = _project(None)
    if write:
        typer.echo(f"wrote {write_project_schema(project)}; read it and commit it")
    mistakes = check_project(folder)
    if as_json:
        typer.echo(json.dumps([asdict(mistake) for mistake in mistakes], indent=2))
    else:
        for mistake in mistakes:
            typer.echo(mistake.text)
            for line in mistake.trace:
                typer.echo(f"    {line}")
        typer.echo(f"{len(mistakes)} to mend" if mistakes else "nothing is wrong")
    if mistakes:
        raise typer.Exit(2)


def _project(folder: Path | None) -> tuple[Path, Project]:
    if folder is not None:
        os.chdir(folder)
    entered = enter_project()
    if entered is None:
        raise BadInput(str(Path.cwd()), "is in no project", "run this in a repository that `sluice init` made")
    return entered


def compile_(
    into: Annotated[Path, typer.Option(help="Folder for the pipelines.")] = Path("pipelines"),
    steps: Annotated[str | None, typer.Option(help="Image of the steps; else sluice.yaml's.")] = None,
) -> None:
    """
    Compile the pipelines for this task and its image, for an upload to Kubeflow Pipelines.

    Example: sluice compile --steps registry.example.com/returns-steps@sha256:…
    """
    from sluice_project.compiled import write_compiled

    _, project = _project(None)
    for path in write_compiled(project, into, steps):
        typer.echo(path)


def doctor(
    write: Annotated[bool, typer.Option("--write", help="Write what the diff shows.")] = False,
) -> None:
    """
    Say what no longer fits the platform that is installed, as a diff.

    Exits with 2 where something does not and nothing was written.

    Example: sluice doctor --write
    """
    from sluice_project.doctor import mend, notes, repairs

    folder, project = _project(None)
    for note in notes(project):
        typer.echo(note)
    misfits = repairs(folder, project)
    for repair in misfits:
        typer.echo(repair.diff, nl=False)
    if write:
        mend(folder, misfits)
    typer.echo(f"{len(misfits)} files {'written' if write else 'to mend'}" if misfits else "everything fits")
    if misfits and not write:
        raise typer.Exit(2)


@gitops.command("init")
def gitops_init(
    repository: Annotated[str, typer.Option(help="URL or path of a Git repository, empty or with other tasks.")],
    as_json: JsonOption = False,
) -> None:
    """
    Bring this task's overlays into the repository that a cluster follows, in one commit beside those of other tasks.

    Exits with 3 where a task of this name is there.

    Example: sluice gitops init --repository ssh://git@example.com/releases.git
    """
    from sluice.terminal import clock, show
    from sluice_project.gitops_repository import bring

    folder, project = _project(None)
    commit = bring(folder, project, repository, clock())
    text = f"{repository} has {project.name} in commit {commit}" if commit else f"{repository} has it already"
    show({"commit": commit}, as_json, [text])
