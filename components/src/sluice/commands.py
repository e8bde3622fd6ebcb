"""The commands of ``sluice`` that the core has; ``sluice.cli`` starts them."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from sluice.data_commands import data
from sluice.errors import BadInput, SluiceError
from sluice.imports import import_
from sluice.proposals import propose
from sluice.rehearsals import plan, simulate
from sluice.terminal import EnvironmentOption, JsonOption, MomentOption, ReasonOption, clock, release_history, show, who
from sluice.workspace import Workspace

if TYPE_CHECKING:
    from sluice.documents.verdict import Decision

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Ship machine-learning models through evaluation gates.\n\n"
    "State lives under .sluice/ or $SLUICE_HOME; the release history too, or at the URL $SLUICE_REPOSITORY.\n\n"
    "\bExamples:\n"
    "  sluice run                            play the whole loop on this machine\n"
    "  sluice status --json                  what is in production, and on its way\n"
    "  sluice why sha256:4f1c                why this model is where it is\n"
    "  sluice simulate POLICY                what a policy would do in known worlds\n"
    "  sluice propose DIRECTORY --env dev    propose a model that you have\n"
    "  sluice import MODEL --task T …        take a model trained elsewhere\n"
    "  sluice promote --env staging          propose what dev has confirmed\n"
    "  sluice approve --reason 'looks right' let a paused rollout go on\n"
    "  sluice rollback --reason 'odd scores' back to the last good model\n"
    "  sluice ledger verify                  whether every decision is as written\n",
)
hold = typer.Typer(no_args_is_help=True, help="Digests that no automation may promote.")
app.add_typer(hold, name="hold")
app.add_typer(data, name="data")
app.command()(propose)
app.command("import")(import_)
app.command()(simulate)
app.command()(plan)
ledger = typer.Typer(no_args_is_help=True, help="The decisions, each chained to the one before it.")
app.add_typer(ledger, name="ledger")

_PATIENCE_S = 5.0
"""How long an incident waits for Git before it goes on with what was last seen."""


def _show_decision(decision: Decision, as_json: bool, line: str) -> None:
    unread = [f"policy: {reason.text}" for reason in decision.reasons if reason.rule == "policy"]
    show(decision.model_dump(mode="json"), as_json, [escape(text) for text in (line, *unread)])


@app.command()
def status(env: EnvironmentOption = "dev", as_json: JsonOption = False) -> None:
    """
    Say what is in production, what is on its way, and what is held.

    Example: sluice status --env dev --json
    """
    from sluice.operations.status import describe, status_of

    report = status_of(release_history(env))
    show(report, as_json, describe(report))


@app.command()
def why(
    what: Annotated[
        str, typer.Argument(metavar="DIGEST|DECISION", help="A digest, or a decision's id; a prefix will do.")
    ],
    env: EnvironmentOption = "dev",
    whole: Annotated[bool, typer.Option("--all", help="All decisions about a digest, not a hundred.")] = False,
    as_json: JsonOption = False,
) -> None:
    """
    Walk from a model or a decision back to the evidence, the run and the data.

    Example: sluice why sha256:4f1c
    """
    from sluice.operations.why import why as explain

    explanation = explain(release_history(env), what, whole=whole)
    show(explanation.document(), as_json, explanation.lines())


@app.command()
def rollback(
    reason: ReasonOption,
    env: EnvironmentOption = "dev",
    break_glass: Annotated[
        bool, typer.Option("--break-glass", help="With Git down: act on this machine now, tell Git later.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """
    Go back to the last good model in one commit, and hold the digest that is left.

    Example: sluice rollback --env dev --reason "wrong scores since noon"
    """
    from sluice.gitops.writer import GitOps, UnreachableError
    from sluice.operations.operator import break_the_glass, roll_back

    patience_s = _PATIENCE_S if break_glass else None
    gitops = GitOps(Workspace.from_environment().gitops, env, patience_s=patience_s)
    if os.environ.get("SLUICE_REPOSITORY") or not gitops.clone.directory.exists():
        gitops = release_history(env, patience_s)
    if break_glass:
        record = break_the_glass(gitops, reason, who(), clock())
        text = f"{record.digest} is out of service on this machine (as of commit {record.base[:12]}); {reason}"
        try:
            commit = gitops.reconcile()
            outcome = {"commit": commit.commit if commit else None, "pending": None}
        except SluiceError as error:
            outcome = {"commit": None, "pending": str(error)}
            text += f"\nnot in Git yet ({error.thing}: {error.rule}); the next command that reaches it writes it"
        show(record.model_dump(mode="json") | outcome, as_json, [escape(text)])
        return
    try:
        decision = roll_back(gitops, reason, who(), clock())
    except UnreachableError as error:
        fix = "restore it, or act on this machine now with `sluice rollback --break-glass`"
        raise BadInput(error.thing, error.rule, fix) from error
    _show_decision(decision, as_json, f"{decision.action}: {decision.candidate} is held; {reason}")


@app.command()
def approve(
    reason: Annotated[str | None, typer.Option(help="Why; it is written into the commit.")] = None,
    merged: Annotated[
        bool, typer.Option("--merged", help="Act on the overlay's approval.yaml, if it speaks of what waits.")
    ] = False,
    env: EnvironmentOption = "dev",
    now: MomentOption = None,
    as_json: JsonOption = False,
) -> None:
    """
    Let the rollout that waits for a person take its next step, in one commit.

    Exits with 3 when nothing waits, or its time is over.

    Example: sluice approve --env dev --reason "canary looks right"

    Example: sluice approve --env prod --merged
    """
    from sluice.operations.approve import approve as agree
    from sluice.operations.approve import approve_merged

    if merged == (reason is not None):
        raise BadInput("sluice approve", "takes a reason or a merged approval", "give one of --reason and --merged")
    history, moment = release_history(env), now or clock()
    decision = approve_merged(history, moment) if reason is None else agree(history, reason, who(), moment)
    if decision is None:
        show(None, as_json, ["no merged approval speaks of anything that waits"])
        return
    then = f"{decision.after['stage']}, {decision.after['candidate_weight']} % to the candidate"
    _show_decision(decision, as_json, f"{decision.action}: {decision.candidate} goes on; now {then}")


@app.command()
def promote(
    env: Annotated[str, typer.Option("--env", help="Environment to promote into; its policy says from where.")],
    again: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Why to try a model once more whose rollout ended here; is recorded."),
    ] = None,
    now: MomentOption = None,
    as_json: JsonOption = False,
) -> None:
    """
    Propose what the environment before this one has confirmed, if this one's own policy lets it.

    Exits with 0 when it is proposed or there is nothing to do, with 3 when a rule forbids it.

    Example: sluice promote --env staging

    Example: sluice promote --env prod --again "the store was down last time"
    """
    from sluice.operations.promote import promote as ask

    promotion = ask(release_history(env), now or clock(), (who(), again) if again is not None else None)
    decision = promotion.decision.model_dump(mode="json") if promotion.decision else None
    show(asdict(promotion) | {"decision": decision}, as_json, [escape(promotion.text)])
    if promotion.forbidden:
        raise typer.Exit(3)


@app.command()
def decide(
    policy: Annotated[Path, typer.Option(help="Gate policy, YAML.")],
    state: Annotated[Path, typer.Option(help="Release state, JSON (docs/schemas/release-state.schema.json).")],
    evidence: Annotated[Path, typer.Option(help="Evidence, JSON (docs/schemas/evidence.schema.json).")],
    now: Annotated[str, typer.Option(help="The moment of the decision, like 2013-08-01T05:00:00Z.")],
    as_json: JsonOption = False,
) -> None:
    """
    Say what a rollout in this state would decide on this evidence; the same rules as the loop's, nothing is written.

    Exits with 0 whatever the verdict is. Evidence that does not fit the state and the moment is INCONCLUSIVE.

    Example: sluice decide --policy P --state S.json --evidence E.json --now T
    """
    from sluice.operations.decide import decide as ask
    from sluice.operations.decide import describe

    decision = ask(policy, state, evidence, now)
    show(decision.model_dump(mode="json"), as_json, describe(decision))


@ledger.command("verify")
def ledger_verify(
    env: EnvironmentOption = "dev",
    expect: Annotated[
        str | None, typer.Option(metavar="DIGEST", help="A head that an earlier verify printed; it must be there.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """
    Walk all decisions: order, chain, bytes, commits, states, and the release that they led to.

    Exits with 0 when all is intact, with 2 and the first problem when not.

    Example: sluice ledger verify --env dev --json
    """
    from sluice.operations.ledger import verify

    report = verify(release_history(env), expect)
    show(report.document(), as_json, report.lines())
    report.require_intact()


@ledger.command("accept")
def ledger_accept(
    reason: ReasonOption,
    env: EnvironmentOption = "dev",
    given_up: Annotated[
        str | None, typer.Option("--given-up", metavar="COMMIT", help="The commit that a cluster's gate misses.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """
    Go on with a history that somebody rewrote; the ledger keeps who took it, why, and what was given up.

    Example: sluice ledger accept --reason "restored from Tuesday's copy"
    """
    from sluice.operations.operator import accept_history

    decision = accept_history(release_history(env), reason, who(), clock(), given_up)
    gone, accepted = decision.evidence["given_up"], decision.evidence["accepted"]
    line = f"accepted {accepted}; {gone} was the newest commit before, and a private clone that saw it keeps it"
    _show_decision(decision, as_json, line)


@hold.command("list")
def hold_list(env: EnvironmentOption = "dev", as_json: JsonOption = False) -> None:
    """
    List the held digests.

    Example: sluice hold list --json
    """
    holds = [entry.model_dump(mode="json") for entry in release_history(env).snapshot().state.holds]
    lines = [escape(f"{entry['digest']}  since {entry['at']} by {entry['by']}: {entry['reason']}") for entry in holds]
    show(holds, as_json, lines or ["no digest is held"])


@hold.command("add")
def hold_add(digest: str, reason: ReasonOption, env: EnvironmentOption = "dev", as_json: JsonOption = False) -> None:
    """
    Hold a digest.

    Example: sluice hold add sha256:4f1c… --reason "failed the audit"
    """
    from sluice.operations.operator import add_hold

    decision = add_hold(release_history(env), digest, reason, who(), clock())
    _show_decision(decision, as_json, f"{digest} is held: {reason}")


@hold.command("release")
def hold_release(
    digest: str, reason: ReasonOption, env: EnvironmentOption = "dev", as_json: JsonOption = False
) -> None:
    """
    Lift a hold.

    Example: sluice hold release sha256:4f1c… --reason "feature mended"
    """
    from sluice.operations.operator import release_hold

    decision = release_hold(release_history(env), digest, reason, who(), clock())
    _show_decision(decision, as_json, f"{digest} is no longer held: {reason}")
