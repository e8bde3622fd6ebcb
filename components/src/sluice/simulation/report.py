"""A simulation as one document, and the document as a table for a terminal and for a page."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table as Grid

from sluice.content import write_bytes
from sluice.errors import BadInput
from sluice.gates.policy import GatePolicy
from sluice.simulation.comparison import Matched, Pairing
from sluice.simulation.peers import PEERS
from sluice.simulation.run import OURS, Rival, Table
from sluice.simulation.summary import Proportion, Spread, Summary
from sluice.simulation.worlds import WORLDS, TrafficScale, World

HEADINGS = (
    "world",
    "truth",
    "promoted",
    "by 10,000",
    "rolled back",
    "timed out",
    "wrong (95 %)",
    "requests",
    "hours",
    "exposed",
)
"""
Shares of the rollouts (by 10,000: promoted within 10,000 requests); requests and hours to the verdict as median / 90th
percentile; exposed as median.
"""


@dataclass(frozen=True)
class Simulated:
    """What was played, and how it came out."""

    policy: GatePolicy
    policy_digest: str
    worlds: tuple[World, ...]
    scale: TrafficScale
    rollouts: int
    seed: int
    table: Table
    matched: tuple[Matched, ...] = ()
    pairing: Pairing | None = None

    @property
    def ours(self) -> tuple[Summary, ...]:
        """The policy's own summaries."""
        return self.table[Rival(OURS)]

    def document(self) -> dict[str, Any]:
        """All figures as plain JSON."""
        peers = {peer.name: peer.told for peer in PEERS}
        rules = [
            {"name": rival.name, "told": peers.get(rival.name, ""), "worlds": [one.document() for one in found]}
            for rival, found in self.table.items()
        ]
        return {
            "policy_digest": self.policy_digest,
            "task": self.policy.task,
            "environment": self.policy.environment,
            "seed": self.seed,
            "rollouts": self.rollouts,
            "requests_a_day": self.scale.requests_a_day,
            "look_every_hours": self.scale.look_hours,
            "margin": self.scale.margin,
            "error_rate": self.scale.error_rate,
            "alpha": self.policy.online.alpha,
            "worlds": [{"name": world.name, "truth": world.truth, "about": world.about} for world in self.worlds],
            "rules": rules,
            "matched": [_matched(one) for one in self.matched],
            "pairing": _pairing(self.pairing) if self.pairing else None,
        }

    def preamble(self) -> str:
        """One line that says what was played."""
        return (
            f"{self.rollouts:,} rollouts a world, seed {self.seed}, {self.scale.requests_a_day:g} requests a day, "
            f"a look every {self.scale.look_hours:g} h, margin {self.scale.margin:g}, allowed errors "
            f"{self.scale.error_rate:g}, policy {self.policy_digest[:19]}"
        )

    def notes(self) -> list[str]:
        """What the figures cannot show: that nothing was asked."""
        found = [
            f"{world.name}: not played, since the policy asks nothing of {world.needs}; {self._unasked(world)}"
            for world in WORLDS
            if world.needs and world.needs not in self.scale.asked
        ]
        for summary in self.ours:
            if summary.world == "slice" and not self.scale.sliced:
                found.append("slice: no online rule is asked per_slice, so a slice is seen in the mean alone")
            if summary.truth == "good" and summary.timed_out.share > 0.05:
                found.append(
                    f"{summary.world}: {percent(summary.timed_out.share)} run out of time; more hours or a wider margin"
                )
        return found

    def _unasked(self, world: World) -> str:
        """What becomes of such a model, as far as the policy's other rules can see it."""
        if world.refusals and self.scale.shadow_fails_refusals:
            return "the shadow's error_rate counts what such a model alone refuses, and no later stage does"
        return "such a model is promoted"


def rows_of(summaries: Sequence[Summary]) -> list[tuple[str, ...]]:
    """The cells under ``HEADINGS``."""
    return [
        (
            one.world,
            one.truth,
            percent(one.promoted.share),
            percent(one.promoted_by_10000.share),
            percent(one.rolled_back.share),
            percent(one.timed_out.share),
            interval(one.wrong),
            spread(one.requests),
            spread(one.hours),
            f"{one.exposed.median:,.0f}",
        )
        for one in summaries
    ]


def comparison_rows(simulated: Simulated) -> list[tuple[str, ...]]:
    """A row a world; each rule's share of wrong decisions, and median requests to its verdict."""
    return [
        (
            world.name,
            world.truth,
            *(
                f"{percent(found[index].wrong.share)} · {found[index].requests.median:,.0f}"
                for found in simulated.table.values()
            ),
        )
        for index, world in enumerate(simulated.worlds)
    ]


def matched_rows(simulated: Simulated) -> list[tuple[str, ...]]:
    """A row a rule: the parameters that make it as seldom wrong as ours, and what they cost."""
    ours = {summary.world: summary for summary in simulated.ours}
    rows: list[tuple[str, ...]] = []
    if {"equal", "worse"} <= ours.keys():
        rows.append((OURS, "as shipped", *_cost(ours["equal"]), *_cost(ours["worse"])))
    for one in simulated.matched:
        if one.rival and one.equal and one.worse:
            tuned = f"looks or n × {one.rival.budget}"
            tuned += f", {one.rival.slack:.0%} may fail" if one.rival.slack is not None else ""
            rows.append((one.name, tuned, *_cost(one.equal), *_cost(one.worse)))
        else:
            rows.append((one.name, "none of those tried", "–", "–", "–", "–", "–", "–"))
    return rows


MATCHED_HEADINGS = (
    "rule", "tuned to", "equal: wrong", "requests", "exposed", "worse: wrong", "requests", "exposed",
)  # fmt: skip


def grid(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> Grid:
    """A table for a terminal."""
    made = Grid(*headings, title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in made.columns[2:]:
        column.justify = "right"
    for row in rows:
        made.add_row(*row)
    return made


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same table for a page."""
    rule = ["---" if index < 2 else "---:" for index in range(len(headings))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headings, rule, *rows))


def rewrite(page: Path, mark: str, text: str) -> None:
    """
    Replace what stands between ``<!-- mark:begin -->`` and ``<!-- mark:end -->``.

    Raises:
        BadInput: there is no such page, or it has no such marks.
    """
    before, pattern = require_page(page, mark), _between(mark)
    write_bytes(page, pattern.sub(lambda found: f"{found[1]}{text}\n{found[2]}", before).encode())


def require_page(page: Path, mark: str) -> str:
    """
    The text of a page that ``rewrite`` can write.

    Raises:
        BadInput: there is no such page, it has no such marks, or may not be written.
    """
    if not page.is_file():
        raise BadInput(str(page), "is no file", "name an existing page")
    try:
        before = page.read_bytes().decode()
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "no UTF-8"
        raise BadInput(str(page), f"cannot be read ({reason})", "name a page of text") from error
    if not _between(mark).search(before):
        raise BadInput(str(page), f"has no marks {mark}:begin and {mark}:end", "put them where the table goes")
    if not os.access(page.parent, os.W_OK):
        raise BadInput(str(page.parent.absolute()), "may not be written to", "copy the page into a folder of yours")
    return before


def _between(mark: str) -> re.Pattern[str]:
    name = re.escape(mark)
    return re.compile(f"(<!-- {name}:begin -->\r?\n).*?(<!-- {name}:end -->)", re.DOTALL)


def percent(share: float) -> str:
    """``12.3 %``; 0 and 100 only where it is exactly so."""
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", " %")
    return f"{min(max(100 * share, 0.01), 99.99):.2f} %"


def interval(share: Proportion) -> str:
    """The share with the ends of its interval."""
    return f"{percent(share.share)} ({100 * share.low:.2f}–{100 * share.high:.2f})"


def spread(values: Spread) -> str:
    """Median / 90th percentile."""
    return f"{values.median:,.0f} / {values.p90:,.0f}"


def _cost(summary: Summary) -> tuple[str, str, str]:
    return interval(summary.wrong), f"{summary.requests.median:,.0f}", f"{summary.exposed.median:,.0f}"


def _matched(one: Matched) -> dict[str, Any]:
    return {
        "name": one.name,
        "looks_times": one.rival.budget if one.rival else None,
        "may_fail": one.rival.slack if one.rival else None,
        "equal": one.equal.document() if one.equal else None,
        "worse": one.worse.document() if one.worse else None,
    }


def _pairing(found: Pairing) -> dict[str, Any]:
    return {
        "paired": list(found.paired),
        "unpaired": list(found.unpaired),
        "factor_of_medians": found.unpaired.median / found.paired.median,
        "rollouts": found.rollouts,
        "margin": found.margin,
    }
