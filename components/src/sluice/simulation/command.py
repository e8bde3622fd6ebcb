"""``sluice simulate``: run it, show progress, print it, and write it into a page where that is asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sluice.charts import draw
from sluice.content import write_bytes
from sluice.gates.policy import read_policy
from sluice.simulation.comparison import compare, pairing
from sluice.simulation.picture import endings, mistakes
from sluice.simulation.report import (
    HEADINGS,
    MATCHED_HEADINGS,
    Simulated,
    comparison_rows,
    grid,
    markdown,
    matched_rows,
    require_page,
    rewrite,
    rows_of,
)
from sluice.simulation.run import simulate
from sluice.simulation.sizes import require_sizes
from sluice.simulation.worlds import scale_of, worlds_for

_PAIRS = 300
_WIDE = 140
"""Columns of a pipe or a file."""


def played(
    path: Path,
    names: Sequence[str],
    *,
    rollouts: int,
    seed: int,
    requests_a_day: float,
    look_hours: float | None,
    comparing: bool,
    page: Path | None = None,
    console: Console,
) -> Simulated:
    """
    Play the policy in ``path``; progress goes to ``console`` where that is a terminal.

    Raises:
        BadInput: the policy cannot be read, a size or name makes no sense, or ``page`` could not be written afterwards.
    """
    require_sizes({"--rollouts": rollouts, "--requests-a-day": requests_a_day, "--look-every": look_hours})
    policy, digest = read_policy(path)
    require_sizes({"look_every_hours": policy.online.look_every_hours})
    if page:
        require_page(page, _mark(comparing))
    scale = scale_of(policy, requests_a_day, look_hours)
    worlds = worlds_for(scale, names)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("rollouts", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if not comparing:
            table = simulate(policy, worlds, scale, rollouts=rollouts, seed=seed, progress=progress)
            return Simulated(policy, digest, worlds, scale, rollouts, seed, table)
        table, matched = compare(policy, worlds, scale, rollouts=rollouts, seed=seed, progress=progress)
        pairs = pairing(policy, scale, rollouts=_PAIRS, seed=seed)
        return Simulated(policy, digest, worlds, scale, rollouts, seed, table, matched, pairs)


def show(simulated: Simulated, *, as_json: bool) -> None:
    """Print the document, or the tables."""
    if as_json:
        sys.stdout.write(json.dumps(simulated.document(), indent=2, sort_keys=True) + "\n")
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    console.print(simulated.preamble(), highlight=False)
    for headings, rows, title in _tables(simulated):
        console.print(grid(headings, rows, title))
    for line in _lines(simulated):
        console.print(line, highlight=False)


def write(simulated: Simulated, page: Path) -> None:
    """Put the tables between the marks of ``page``, and the picture beside it."""
    blocks = [f"{simulated.preamble()}."]
    blocks += [f"**{title}**\n\n{markdown(headings, rows)}" for headings, rows, title in _tables(simulated)]
    blocks += _lines(simulated)
    drawing = draw(mistakes(simulated) if simulated.matched else endings(simulated)).encode()
    rewrite(page, _mark(bool(simulated.matched)), "\n" + "\n\n".join(blocks) + "\n")
    suffix = "-compare" if simulated.matched else ""
    write_bytes(page.with_name(f"{page.stem}{suffix}.svg"), drawing)


def _mark(comparing: bool) -> str:
    return "compare" if comparing else "simulate"


def _tables(simulated: Simulated) -> list[tuple[Sequence[str], Sequence[Sequence[str]], str]]:
    if not simulated.matched:
        return [(HEADINGS, rows_of(simulated.ours), "How rollouts end")]
    rules = ("world", "truth", *(rival.name for rival in simulated.table))
    return [
        (rules, comparison_rows(simulated), "Wrong decisions · median requests to the verdict"),
        (MATCHED_HEADINGS, matched_rows(simulated), "Tuned until as seldom wrong as ours on equal and worse"),
    ]


def _lines(simulated: Simulated) -> list[str]:
    found = simulated.pairing
    if not found:
        return simulated.notes()
    factor = found.unpaired.median / found.paired.median
    paired, unpaired = f"{found.paired.median:,.0f}", f"{found.unpaired.median:,.0f}"
    line = f"Pairing: two equal models keep the margin {found.margin:g} after {paired} requests that both answer"
    return [f"{line}, and after {unpaired} that are split: {factor:.0f} times as many."]
