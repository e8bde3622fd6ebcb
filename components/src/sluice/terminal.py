"""What all commands share: options, who asks and when, the history that they are about, and how they print."""

from __future__ import annotations

import getpass
import json
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sluice.errors import BadInput
from sluice.workspace import Workspace

if TYPE_CHECKING:
    from sluice.gitops.writer import GitOps

ENVIRONMENT = "SLUICE_ENV"
"""Environment variable: what ``--env`` is where it is left out; a project names its first."""
EnvironmentOption = Annotated[
    str, typer.Option("--env", envvar=ENVIRONMENT, help="Environment, as in manifests/overlays/<env>.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is written into the commit.")]
MomentOption = Annotated[
    str | None, typer.Option("--now", help="Event time where it is replayed; else this machine's clock.")
]


def model_store(named: str | None) -> str:
    """The store of models: the one that is named, else this machine's, where the release history is here too."""
    if named is not None:
        return named
    return "" if os.environ.get("SLUICE_REPOSITORY") else str(Workspace.from_environment().bundles)


def release_history(environment: str, patience_s: float | None = None) -> GitOps:
    """
    The GitOps repository of the workspace that the environment variables name, or the one at ``SLUICE_REPOSITORY``.

    Raises:
        BadInput: there is none yet.
    """
    from sluice.content import digest_of_bytes
    from sluice.gitops.writer import GitOps

    workspace = Workspace.from_environment()
    if url := os.environ.get("SLUICE_REPOSITORY"):
        name = f"{digest_of_bytes(url.encode()).removeprefix('sha256:')[:12]}.clone"
        return GitOps(url, environment, clone=workspace.home / "repositories" / name, patience_s=patience_s)
    if not workspace.gitops.exists():
        raise BadInput(
            str(workspace.gitops), "there is no release history here", "run `sluice run`, or set SLUICE_HOME"
        )
    return GitOps(workspace.gitops, environment, patience_s=patience_s)


def who() -> str:
    """The name that goes into a commit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without an entry in passwd, as in many containers
        return f"uid {os.getuid()}"


def clock() -> str:
    """This machine's time in UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def show(value: Any, as_json: bool, lines: list[str]) -> None:
    """Print ``value`` as JSON, or the lines with rich's markup."""
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2, sort_keys=True) + "\n")
    else:
        console = Console(soft_wrap=True)
        for line in lines:
            console.print(line, highlight=False)
