"""``sluice promote``: from one environment to the next."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from sluice.terminal import JsonOption, MomentOption, clock, release_history, show, who


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

    Example: sluice promote --env prod --again "the feature store was down last time"
    """
    from sluice.operations.promote import promote as ask

    promotion = ask(release_history(env), now or clock(), (who(), again) if again is not None else None)
    decision = promotion.decision.model_dump(mode="json") if promotion.decision else None
    show(asdict(promotion) | {"decision": decision}, as_json, [escape(promotion.text)])
    if promotion.forbidden:
        raise typer.Exit(3)
