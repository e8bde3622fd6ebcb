"""From a digest or a decision back to its reasons: decision → evidence → run → data."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from rich.markup import escape

from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Decision
from sluice.errors import BadInput
from sluice.gitops.writer import GitOps
from sluice.ledger.trail import Step, Trail
from sluice.rollout.drain import WAITS
from sluice.rollout.message import short

_Match = TypeVar("_Match")
_SHORTEST = 4
_TOGETHER = 16
"""Records that are read at once in search of a run: nearly always the newest decision has it, or the proposal."""
_FIRST, _NEWEST = 10, 90
"""Decisions about one digest that are told where there are more than that."""
_FIX = f"name a digest or a decision of this history; at least {_SHORTEST} digits of a digest"
_HEX = re.compile(r"(?:sha256[:-])?([0-9a-f]{4,64})")
COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}


@dataclass(frozen=True)
class Link:
    """One decision in the chain, and where Git keeps it."""

    path: str
    commit: str
    decision: Decision


@dataclass(frozen=True)
class Explanation:
    """
    Why something is as it is.

    Attributes:
        subject: the digest or the decision's id, in full.
        standing: what it is now: stable, candidate, held (and why), or neither.
        run: where the candidate comes from, with the digests of its data.
        links: the decisions about it, oldest first: all of them, or the first ones and the newest.
        left_out: how many are between these.
    """

    subject: str
    standing: str
    run: dict[str, Any]
    links: tuple[Link, ...]
    left_out: int = 0

    def document(self) -> dict[str, Any]:
        """Plain JSON; evidence as its digest and its numbers, before and after left out."""
        keep = {"before", "after"}
        links = [
            {"path": link.path, "commit": link.commit, **link.decision.model_dump(mode="json", exclude=keep)}
            for link in self.links
        ]
        return asdict(self) | {"links": links}

    def lines(self) -> list[str]:
        """For people, with rich's markup."""
        rows = [f"[bold]{self.subject}[/bold]", f"  is {escape(self.standing)}"]
        for place, link in enumerate(self.links):
            if self.left_out and place == _FIRST:
                rows.append(f"  … {self.left_out} more decisions on it; `--all` shows them")
            rows.extend(_link_lines(link))
        if self.run:
            rows.append("[bold]comes from[/bold]")
            rows.extend(f"  {escape(key)}: {escape(_plain(value))}" for key, value in sorted(self.run.items()))
        return rows


def why(gitops: GitOps, token: str, *, whole: bool = False) -> Explanation:
    """
    Explain a digest (``sha256:…``, or a unique beginning of at least four hexadecimal digits) or a decision's id.

    Args:
        whole: all decisions about it, however many; else at most a hundred.

    Raises:
        BadInput: nothing, or more than one thing, is called so.
    """
    if len(token) < _SHORTEST:
        raise BadInput(repr(token), f"is shorter than {_SHORTEST} letters", _FIX)
    snapshot = gitops.snapshot()
    state, trail = snapshot.state, gitops.trail(snapshot.commit)
    steps = {step.decision: step for step in trail.matching(state.environment, token)}
    if steps:
        return _about_decision(gitops, trail, state, _single(steps, token))
    matched = _HEX.fullmatch(token)
    beginning = f"sha256:{matched[1]}" if matched else token
    mentions = list(trail.steps(state.environment, beginning))
    digests = {digest: digest for step in mentions for digest in step.digests if digest.startswith(beginning)}
    digest = _single(digests, token)
    about = [step for step in reversed(mentions) if digest in (step.candidate, step.replaced)]
    left_out = 0 if whole else max(0, len(about) - _FIRST - _NEWEST)
    chain = _links(gitops, [*about[:_FIRST], *about[_FIRST + left_out :]])
    return Explanation(digest, _situation(state, digest), _run(chain, digest), tuple(chain), left_out)


def _about_decision(gitops: GitOps, trail: Trail, state: ReleaseState, step: Step) -> Explanation:
    (link,) = _links(gitops, [step])
    decision = link.decision
    situation = f"a decision about {decision.candidate}, which is now {_situation(state, decision.candidate)}"
    return Explanation(decision.id, situation, decision.run or run_of(gitops, trail, decision.candidate), (link,))


def run_of(gitops: GitOps, trail: Trail, digest: str | None) -> dict[str, Any]:
    """
    Where the digest comes from, as the newest decisions on it tell, else the oldest that does; empty when none does.
    """
    steps = list(trail.about(gitops.environment, digest))
    order = steps[:_TOGETHER] + steps[: _TOGETHER - 1 : -1]
    for start in range(0, len(order), _TOGETHER):
        records = gitops.records_of(order[start : start + _TOGETHER])
        if run := next((decision.run for _, _, decision in records if decision.run), None):
            return dict(run)
    return {}


def _links(gitops: GitOps, steps: list[Step]) -> list[Link]:
    return [Link(path, step.commit, decision) for step, path, decision in gitops.records_of(steps)]


def _single(matches: dict[str, _Match], token: str) -> _Match:
    if not matches:
        raise BadInput(repr(token), "is not in the history", _FIX)
    if len(matches) > 1:
        raise BadInput(repr(token), f"could be {', '.join(sorted(matches)[:3])}", "give more digits")
    return next(iter(matches.values()))


def _run(chain: list[Link], digest: str | None) -> dict[str, Any]:
    runs = [link.decision.run for link in chain if link.decision.candidate == digest]
    return next((run for run in runs if run), {})


def _situation(state: ReleaseState, digest: str | None) -> str:
    if digest and (hold := state.held(digest)):
        return f"held since {hold.at} by {hold.by}: {hold.reason}"
    if digest and digest == state.stable:
        return f"stable in {state.environment}, with {state.stable_weight} % of the traffic"
    if digest and digest == state.candidate:
        waits = ", and waits for approval" if state.paused else ""
        return f"the candidate in {state.stage}, with {state.candidate_weight} % of the traffic{waits}"
    if digest and digest == state.leftover:
        return f"not released; {WAITS}"
    return "not released and not held"


def _plain(value: Any) -> str:
    return ", ".join(f"{key} {inner}" for key, inner in value.items()) if isinstance(value, dict) else str(value)


def reason_lines(decision: Decision) -> list[str]:
    """A line a reason, with rich's markup."""
    return [
        f"  [{COLOURS[reason.verdict]}]{reason.verdict:<12}[/] {escape(reason.rule)}: {escape(reason.text)}"
        for reason in decision.reasons
    ]


def _link_lines(link: Link) -> list[str]:
    decision = link.decision
    colour = COLOURS[decision.verdict]
    head = f"[bold]{decision.now}  {decision.stage} → {decision.action}[/bold]  [{colour}]{decision.verdict}[/{colour}]"
    rows = [f"{head}  {decision.id}  commit {link.commit[:12]}"]
    return [
        *rows,
        *reason_lines(decision),
        f"  evidence {short(decision.evidence_digest)}  policy {short(decision.policy_digest)}",
    ]
