"""The command that proposes a bundle that somebody has."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from sluice.terminal import JsonOption, MomentOption, clock, model_store, release_history, show, who


def propose(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE|DIRECTORY", help="A bundle's directory, one that holds a single bundle, or a stored digest."
        ),
    ],
    env: Annotated[str, typer.Option("--env", help="Environment to propose it in, as in manifests/overlays/<env>.")],
    bundles: Annotated[
        str | None,
        typer.Option(envvar="SLUICE_MODELS", help="Folder or URL that servers fetch from, such as s3://models/TASK."),
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="The bundle's evaluation.json; else the one beside it, or in its card.")
    ] = None,
    frame: Annotated[Path | None, typer.Option(help="Evaluate it now, on this directory's frame.parquet.")] = None,
    task: Annotated[
        str | None, typer.Option(metavar="MODULE:ATTRIBUTE", help="With --frame: a task that sluice.tasks has not.")
    ] = None,
    now: MomentOption = None,
    as_json: JsonOption = False,
) -> None:
    """
    Put a bundle into the store, and propose it: one commit, which starts its rollout where the offline rules let it.

    Exits with 0 when it is proposed or on its way already, with 3 when a rule forbids it.

    Example: sluice propose out/bundle --env dev --bundles s3://models/T

    Example: sluice propose sha256:4f1c… --env dev --frame out/frame
    """
    from sluice.operations.propose import EvaluationPlace, propose_bundle

    place = EvaluationPlace(evaluation, frame, task)
    proposal = propose_bundle(release_history(env), bundle, model_store(bundles), place, who(), now or clock())
    decision = proposal.decision.model_dump(mode="json") if proposal.decision else None
    show(asdict(proposal) | {"decision": decision}, as_json, [escape(proposal.text)])
    if proposal.forbidden:
        raise typer.Exit(3)
