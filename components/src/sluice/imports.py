"""The command that makes a candidate of a model that was trained elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from sluice.terminal import JsonOption, MomentOption, clock, model_store, release_history, show, who

if TYPE_CHECKING:
    from sluice.operations.import_model import Import


def import_(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="ONNX, LiteRT, .keras, SavedModel, or XGBoost's or LightGBM's text or JSON."
        ),
    ],
    task: Annotated[str, typer.Option(metavar="NAME|MODULE:ATTRIBUTE", help="The task that it is for.")],
    frame: Annotated[Path, typer.Option(help="Directory of the features step: the rows that it is evaluated on.")],
    out: Annotated[Path, typer.Option(help="Folder that gets its bundle and its evaluation.")],
    spec: Annotated[
        Path | None, typer.Option(help="YAML: its inputs in order, and what its answer means; see docs/import.md.")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(help="Parquet, example_id and score: what it said elsewhere; it has to say so here.")
    ] = None,
    env: Annotated[str | None, typer.Option("--env", help="Propose it there too, as `sluice propose` does.")] = None,
    bundles: Annotated[
        str | None,
        typer.Option(envvar="SLUICE_MODELS", help="With --env: folder or URL that servers fetch from."),
    ] = None,
    now: MomentOption = None,
    as_json: JsonOption = False,
) -> None:
    """
    Make a candidate of a model that was trained elsewhere: checked, evaluated on the holdout, in a bundle.

    Nothing is unpickled, and nothing is written before all of it has passed. With --env it exits with 3 when a rule
    forbids the proposal.

    Example: sluice import m.onnx --task T --frame F --out O --spec S

    Example: sluice import m.json --task T --frame F --out O --env dev
    """
    from sluice.operations.import_model import import_model
    from sluice.operations.import_spec import read_spec
    from sluice.operations.propose import (
        EvaluationPlace,
        check_environment,
        check_store,
        propose_bundle,
        stable_bundle,
    )
    from sluice.tasks.task import load_task

    subject, gitops = load_task(task), None if env is None else release_history(env)
    store, production = model_store(bundles), None
    if gitops is not None:
        check_store(store)
        here = gitops.snapshot()
        check_environment(here, subject.name, str(model))
        production = stable_bundle(here.state.stable, store)
    candidate = import_model(subject, model, read_spec(spec), frame, out, answers, production)
    facts, lines = _account(candidate, subject.target.headline)
    if gitops is None:
        show(
            facts,
            as_json,
            [escape(line) for line in (*lines, f"next: sluice propose {candidate.bundle} --env ENV --frame {frame}")],
        )
        return
    place = EvaluationPlace(record=out)
    proposal = propose_bundle(gitops, str(candidate.bundle), store, place, who(), now or clock())
    decision = proposal.decision.model_dump(mode="json") if proposal.decision else None
    show(
        facts | {"proposal": asdict(proposal) | {"decision": decision}},
        as_json,
        [escape(x) for x in (*lines, proposal.text)],
    )
    if proposal.forbidden:
        raise typer.Exit(3)


def _account(candidate: Import, headline: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """What became of the model: for scripts, and in lines for people."""
    estimates = candidate.evaluation.metrics
    worth = ", ".join(f"{name} {estimates[name].value:.3f}" for name in headline if name in estimates)
    facts = {
        "bundle": str(candidate.bundle),
        "digest": candidate.digest,
        "kind": candidate.kind,
        "evaluation": str(candidate.bundle.parent / "evaluation.json"),
    }
    rows = f"on {candidate.evaluation.n} rows of the holdout: {worth or 'nothing measured'}"
    return facts, (f"{candidate.kind} → {candidate.bundle}", rows)
