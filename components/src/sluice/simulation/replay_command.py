"""``sluice simulate POLICY --replay PAIRS``: read both, play, print it, and write it into a page."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from sluice.charts import draw
from sluice.content import write_bytes
from sluice.errors import BadInput
from sluice.gates.block_length import DAY_HOURS
from sluice.gates.blocks import FIRST_LOOK
from sluice.gates.policy import GatePolicy, read_policy
from sluice.simulation.blocks import HISTORY_DAYS
from sluice.simulation.pairs import LabelledPairs, read_pairs
from sluice.simulation.peers import PEERS
from sluice.simulation.picture import bands
from sluice.simulation.replay import (
    MEAN_RUN_DAYS,
    SHARED,
    TRUTHS,
    IntervalSequence,
    ShadowTerms,
    contiguous_draws,
    day_table,
    influence_spread,
    misled,
    replay,
    resampled_draws,
    shortest_block,
)
from sluice.simulation.replay_peers import peers_on_replay
from sluice.simulation.report import grid, interval, markdown, percent, require_page, rewrite
from sluice.simulation.rule_summary import RuleSummary
from sluice.simulation.sizes import require_sizes
from sluice.stages.section import OnlineRule, OnlineStage
from sluice.targets.registry import LOSS_NAMES
from sluice.tasks.task import load_task

HEADINGS = (
    "truth",
    "rule",
    "promoted",
    "rolled back",
    "out of time",
    "wrong (95 %)",
    "days",
    "requests",
    "exposed",
    "missed",
)
"""
Days, requests and those that users got the candidate's answer to as median to the end; missed: the interval excluded
the truth at some look.
"""
COMPARED = ("truth", "candidate", "sluice, shadow", *(peer.name for peer in PEERS))
_DAY_HOURS = 24
_MOST_HOURS = 8784
_WIDE = 140


@dataclass(frozen=True)
class ReplayOptions:
    """What the command line says beside the policy and the pairs."""

    rollouts: int
    seed: int
    look_hours: float | None = None
    maximum_hours: float | None = None
    margin_sd: float | None = None
    part: str | None = None
    contiguous: bool = False
    comparing: bool = False
    """Other tools' rules too."""
    task: str | None = None
    """Whose target the pairs are of."""


@dataclass(frozen=True)
class Replay:
    """What was played, and how it came out."""

    name: str
    policy_digest: str
    options: ReplayOptions
    terms: ShadowTerms
    pairs: int
    days: int
    first_hour: int
    spread: float
    in_time: float
    """Share of the labels that are in when their day's block counts."""
    block_hours: float | None
    """Shortest block that depends little on its neighbours, of the lengths tried."""
    rollouts: int
    rules: tuple[RuleSummary, ...]
    peers: tuple[RuleSummary, ...] = ()
    misled: Mapping[str, IntervalSequence] | None = None
    """Intervals of a rollout that requests counted one by one decide wrongly."""

    def document(self) -> dict[str, Any]:
        """All figures as plain JSON."""
        return {
            "replay": self.name,
            "policy_digest": self.policy_digest,
            "seed": self.options.seed,
            "slice": self.options.part,
            "contiguous": self.options.contiguous,
            "rollouts": self.rollouts,
            "pairs": self.pairs,
            "days": self.days,
            "day_begins_at_utc_hour": self.first_hour,
            "day_influence_sd": self.spread,
            "labels_in_time": self.in_time,
            "shortest_block_hours": self.block_hours,
            "shadow": asdict(self.terms),
            "truths": {name: margins * self.terms.margin for name, margins in TRUTHS.items()},
            "rules": [asdict(one) for one in self.rules],
        } | ({"peers": [asdict(one) for one in self.peers]} if self.peers else {})

    def preamble(self) -> str:
        """One line that says what was played."""
        terms = self.terms
        return (
            f"{self.name}: {self.pairs:,} pairs of {self.days} days, {self.rollouts:,} rollouts, seed "
            f"{self.options.seed}, margin {terms.margin:.4g} ({terms.margin / self.spread:.2g} standard deviations of "
            f"a day), alpha {terms.alpha:g}, blocks of {terms.block_hours:g} h, "
            f"{terms.maximum_hours:g} h with a look every {terms.look_hours:g} h, policy {self.policy_digest[:19]}"
        )

    def subtitle(self) -> str:
        """Of a picture."""
        days = "as they were" if self.options.contiguous else "drawn again"
        return f"{self.name}, days {days}, a look every {self.terms.look_hours:g} h, alpha {self.terms.alpha:g}"

    def notes(self) -> list[str]:
        """What to know about the days before the table is believed."""
        order = "as they were" if self.options.contiguous else f"drawn again in runs of {MEAN_RUN_DAYS} on average"
        begin = f"Days begin at {self.first_hour:02} UTC and are {order}; history has at most {HISTORY_DAYS} others."
        lines = [f"{begin} The gate decides by the last rule."]
        if self.terms.blocks < FIRST_LOOK:
            lines.append(f"Only {self.terms.blocks} blocks count in time, and a first look needs {FIRST_LOOK}.")
        if self.in_time < 1:
            share, hours = percent(1 - self.in_time), self.terms.maturity_hours
            lines.append(f"{share} of the labels come later than {hours:g} h after their block, and are in none.")
        if self.block_hours is None:
            lines.append("Neighbouring blocks depend even where they are the longest that were tried.")
        else:
            lines.append(f"Shortest block whose residual depends little on its neighbours: {self.block_hours:g} h.")
        return lines


def replay_pairs(policy_path: Path, pairs_path: Path, options: ReplayOptions, *, drawn: bool = False) -> Replay:
    """
    Play the shadow of the policy on the pairs; ``drawn``: with what the picture of a page needs.

    Raises:
        BadInput: policy or pairs cannot be read or do not fit, or an option makes no sense.
    """
    require_sizes(
        {
            "--rollouts": options.rollouts,
            "--look-every": options.look_hours,
            "--hours": options.maximum_hours,
            "--margin-sd": options.margin_sd,
        }
    )
    policy, digest = read_policy(policy_path)
    terms = shadow_terms(policy, options)
    pairs = pairs_for(policy, pairs_path, options.part, options.task)
    shortest = shortest_block(pairs)
    if policy.online.block_hours is None and shortest and _cuts_a_day(shortest):
        terms = replace(terms, block_hours=shortest)
    table = day_table(pairs, terms)
    spread = influence_spread(table)
    if not spread > 0:
        raise BadInput(str(pairs_path), "has no difference that varies from day to day", "give two unlike models")
    if options.margin_sd is not None:
        terms = replace(terms, margin=options.margin_sd * spread)
    draws = (
        contiguous_draws(pairs.days, terms)
        if options.contiguous
        else resampled_draws(pairs.days, terms, options.rollouts, options.seed)
    )
    return Replay(
        name=pairs_path.stem,
        policy_digest=digest,
        options=options,
        terms=terms,
        pairs=pairs.day.size,
        days=pairs.days,
        first_hour=pairs.first_hour,
        spread=spread,
        in_time=_in_time(pairs, terms),
        block_hours=shortest,
        rollouts=len(draws.days),
        rules=replay(table, terms, draws),
        misled=misled(table, terms, draws) if drawn else None,
        peers=peers_on_replay(pairs, table, policy, terms, draws, options.seed) if options.comparing else (),
    )


def pairs_for(policy: GatePolicy, path: Path, part: str | None, task: str | None) -> LabelledPairs:
    """
    The pairs, whose loss is what the policy's shadow asks.

    Raises:
        BadInput: as of ``read_pairs``, or the policy names the loss of another kind of target.
    """
    pairs = read_pairs(path, part, load_task(task) if task else None)
    pairs.require_metric(loss_rule(policy)[1].metric)
    return pairs


def shadow_terms(policy: GatePolicy, options: ReplayOptions) -> ShadowTerms:
    """
    What the policy's shadow asks of the loss of all requests; the tightest guardrail where it has several.

    Raises:
        BadInput: it asks nothing of it, at fixed looks, or at looks that do not divide a day.
    """
    stage, rule = loss_rule(policy)
    if stage.looks is not None:
        raise BadInput("online.shadow.looks", f"is {stage.looks}, and a replay looks at any time", "leave it out")
    look = options.look_hours or policy.online.look_every_hours
    require_sizes({"look_every_hours": look})
    if abs(_DAY_HOURS / look - round(_DAY_HOURS / look)) > 1e-9:
        raise BadInput("look_every_hours", f"is {look:g}, which does not divide a day", "give --look-every 6")
    hours = options.maximum_hours or min(rule.maximum_hours or stage.maximum_hours, stage.maximum_hours)
    if not _DAY_HOURS <= hours <= _MOST_HOURS:
        limits = f"is {hours:g}; a block has {_DAY_HOURS}, and a replay at most {_MOST_HOURS:,}"
        raise BadInput("maximum_hours", limits, "give --hours 120")
    return ShadowTerms(
        margin=rule.margin or 0.0,
        alpha=rule.alpha or policy.online.alpha,
        minimum_n=rule.minimum_n or stage.minimum_n,
        minimum_requests=stage.minimum_n,
        look_hours=look,
        soak_hours=stage.soak_hours,
        maximum_hours=hours,
        block_hours=_block_hours(policy),
        maturity_hours=policy.online.label_maturity_hours,
        reserve=policy.online.reserve,
    )


def loss_rule(policy: GatePolicy) -> tuple[OnlineStage, OnlineRule]:
    """The shadow, and its tightest guardrail of the loss of all requests; raises BadInput where there is none."""
    stage = policy.online.shadow
    rules = [one for one in stage.rules if one.metric in LOSS_NAMES and one.role == "guardrail"] if stage else []
    whole = [one for one in rules if not one.per_slice]
    if stage is None or not whole:
        raise BadInput("online.shadow", "has no loss guardrail of all requests", "give a policy with one")
    return stage, min(whole, key=lambda one: one.margin or 0.0)


def _block_hours(policy: GatePolicy) -> float:
    hours = policy.online.block_hours or DAY_HOURS
    if not _cuts_a_day(hours):
        rule = f"is {hours:g}, and days are replayed whole"
        raise BadInput("block_hours", rule, "replay a policy whose blocks cut a day evenly: 24, 12, 8, 6, …")
    return hours


def _cuts_a_day(hours: float) -> bool:
    return (_DAY_HOURS / hours) % 1 == 0


def run(policy_path: Path, pairs_path: Path, options: ReplayOptions, page: Path | None, *, as_json: bool) -> None:
    """Play, write into ``page`` where there is one, and print."""
    if page:
        require_page(page, _mark(pairs_path.stem, comparing=options.comparing))
    result = replay_pairs(policy_path, pairs_path, options, drawn=page is not None and not options.comparing)
    if page:
        write(result, page)
    show(result, as_json=as_json)


def show(result: Replay, *, as_json: bool) -> None:
    """Print the document, or the table."""
    if as_json:
        sys.stdout.write(json.dumps(result.document(), indent=2, sort_keys=True) + "\n")
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    console.print(result.preamble(), highlight=False)
    console.print(grid(HEADINGS, rows_of(result.rules), "How the shadow ends"))
    if result.peers:
        console.print(grid(COMPARED, compared_rows(result), "Wrong decisions · days · exposed"))
    for line in result.notes():
        console.print(line, highlight=False)


def write(result: Replay, page: Path) -> None:
    """Put the table between the marks ``replay-<name>`` of ``page`` and a picture beside it, or ``…-compare``."""
    if result.peers:
        parts = [f"{result.preamble()}.", markdown(COMPARED, compared_rows(result))]
    else:
        parts = [f"{result.preamble()}.", markdown(HEADINGS, rows_of(result.rules)), *result.notes()]
    drawing = None if not result.misled else draw(bands(result.misled, result.terms, result.subtitle()))
    rewrite(page, _mark(result.name, comparing=bool(result.peers)), "\n" + "\n\n".join(parts) + "\n")
    if drawing:
        write_bytes(page.with_name(f"{page.stem}-{result.name}.svg"), drawing.encode())


def _mark(name: str, *, comparing: bool) -> str:
    return f"replay-{name}-compare" if comparing else f"replay-{name}"


def compared_rows(result: Replay) -> list[tuple[str, ...]]:
    """The cells under ``COMPARED``: a row a truth; each rule's share of wrong decisions, median days, and exposed."""
    rules = (*(one for one in result.rules if one.rule == SHARED), *result.peers)
    return [
        (
            truth,
            "bad" if margins >= 1 else "good",
            *(
                f"{percent(one.wrong.share)} · {one.days:.2g} · {one.exposed:,.0f}"
                for one in rules
                if one.truth == truth
            ),
        )
        for truth, margins in TRUTHS.items()
    ]


def rows_of(rules: tuple[RuleSummary, ...]) -> list[tuple[str, ...]]:
    """The cells under ``HEADINGS``."""
    return [
        (
            one.truth,
            one.rule,
            percent(one.promoted.share),
            percent(one.rolled_back.share),
            percent(one.out_of_time.share),
            interval(one.wrong),
            f"{one.days:.2g}",
            f"{one.requests:,.0f}",
            f"{one.exposed:,.0f}",
            interval(one.miscoverage) if one.miscoverage else "–",
        )
        for one in rules
    ]


def _in_time(pairs: LabelledPairs, terms: ShadowTerms) -> float:
    ends = (pairs.event_hours // terms.block_hours + 1) * terms.block_hours
    return float((pairs.label_hours <= ends + terms.maturity_hours).mean())
