"""The commands that play a policy before real users pay for it, and say how long it needs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from sluice.errors import BadInput
from sluice.terminal import JsonOption, show

_Played = TypeVar("_Played")
_SliceOption = Annotated[str | None, typer.Option("--slice", metavar="COLUMN=TEXT", help="Only this slice of PAIRS.")]
_TaskOption = Annotated[
    str | None, typer.Option(metavar="NAME|MODULE:ATTRIBUTE", help="Whose target PAIRS are of, if they do not say.")
]


def simulate(
    policy: Annotated[Path, typer.Argument(help="A gate policy, for example manifests/overlays/dev/gate-policy.yaml.")],
    world: Annotated[list[str] | None, typer.Option("--world", help="Only this world; may be given again.")] = None,
    rollouts: Annotated[int, typer.Option(help="Rollouts a world.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds play equal requests.")] = 0,
    requests_a_day: Annotated[float, typer.Option(help="Live requests a day.")] = 900,
    look_every: Annotated[float | None, typer.Option(help="Hours between looks, instead of the policy's.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Beside it the rules of other tools.")] = False,
    write: Annotated[Path | None, typer.Option(help="Put tables and picture into this page.")] = None,
    replay: Annotated[
        Path | None, typer.Option(metavar="PAIRS", help="Play the shadow on these pairs (parquet) instead of worlds.")
    ] = None,
    part: _SliceOption = None,
    margin_sd: Annotated[
        float | None, typer.Option(help="With --replay: a margin of so many standard deviations of a day.")
    ] = None,
    hours: Annotated[float | None, typer.Option(help="With --replay: hours of shadow, not the policy's.")] = None,
    contiguous: Annotated[
        bool, typer.Option("--contiguous", help="With --replay: days as they were, from every start.")
    ] = False,
    task: _TaskOption = None,
    as_json: JsonOption = False,
) -> None:
    """
    Play a policy against worlds whose truth is known, before real users pay for it.

    With --replay the world is a history of your own: docs/simulation.md says what PAIRS has.

    Example: sluice simulate POLICY.yaml --world worse --rollouts 5000

    Example: sluice simulate POLICY.yaml --replay pairs.parquet --hours 720
    """
    of_replay = bool(part or margin_sd is not None or hours is not None or contiguous or task)
    _require_one_way_to_simulate(replay, of_worlds=bool(world), of_replay=of_replay, both_orders=compare and contiguous)
    if replay:
        from sluice.simulation import replay_command

        played_as = (rollouts, seed, look_every, hours, margin_sd, part, contiguous, compare, task)
        options = replay_command.ReplayOptions(*played_as)
        replay_command.run(policy, replay, options, write, as_json=as_json)
        return
    from sluice.simulation import command

    played = partial(
        command.played,
        policy,
        world or (),
        rollouts=rollouts,
        seed=seed,
        requests_a_day=requests_a_day,
        look_hours=look_every,
        comparing=compare,
        page=write,
        console=Console(stderr=True),
    )
    simulated = _uninterrupted(played, write)
    if write:
        command.write(simulated, write)
    command.show(simulated, as_json=as_json)


def _require_one_way_to_simulate(replay: Path | None, *, of_worlds: bool, of_replay: bool, both_orders: bool) -> None:
    if replay and of_worlds:
        raise BadInput("--replay", "plays its own days", "leave out --world")
    if of_replay and not replay:
        raise BadInput("--slice, --margin-sd, --hours, --contiguous, --task", "are of a replay", "give --replay PAIRS")
    if both_orders:
        raise BadInput("--compare", "draws days again, for other tools wait longer", "leave out --contiguous")


def _uninterrupted(played: Callable[[], _Played], write: Path | None) -> _Played:
    """What was played; ends with 130 where somebody does not wait for it. A page needs charts, which is said before."""
    if write:
        from sluice.charts import need_charts

        need_charts()
    try:
        return played()
    except KeyboardInterrupt:
        sys.stderr.write("sluice: interrupted; nothing was written\n")
        raise typer.Exit(130) from None


def plan(
    policy: Annotated[Path, typer.Argument(help="A gate policy whose shadow has a loss guardrail.")],
    replay: Annotated[Path, typer.Option(metavar="PAIRS", help="Pairs of your own days (parquet).")],
    part: _SliceOption = None,
    task: _TaskOption = None,
    as_json: JsonOption = False,
) -> None:
    """
    Say how long a shadow needs for its margin on days of your own, and which margin a week reaches.

    Example: sluice plan manifests/overlays/dev/gate-policy.yaml --replay pairs.parquet
    """
    from sluice.simulation.plan import describe, plan_shadow

    planned = plan_shadow(policy, replay, part, task)
    show(planned.document(), as_json, [escape(line) for line in describe(planned)])
