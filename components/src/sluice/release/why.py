"""From a digest or a decision back to its reasons: decision → evidence → run → data."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from rich.markup import escape

from sluice.errors import BadInput
from sluice.gates.verdict import Decision
from sluice.release.gitops import GitOps
from sluice.release.message import short
from sluice.release.record import decode_record, plain_decision
from sluice.release.state import ReleaseState

_Found = TypeVar("_Found")
_Mention = tuple[str, bytes, dict[str, Any]]
_SHORTEST = 4
_FIX = f"name a digest or a decision of this history; at least {_SHORTEST} digits of a digest"
_HEX = re.compile(r"(?:sha256[:-])?([0-9a-f]{4,64})")
_COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}


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
        links: the decisions about it, oldest first.
    """

    subject: str
    standing: str
    run: dict[str, Any]
    links: tuple[Link, ...]

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
        for link in self.links:
            rows.extend(_link_lines(link))
        if self.run:
            rows.append("[bold]comes from[/bold]")
            rows.extend(f"  {escape(key)}: {escape(str(value))}" for key, value in sorted(self.run.items()))
        return rows


def why(gitops: GitOps, token: str) -> Explanation:
    """
    Explain a digest (``sha256:…``, or a unique beginning of at least four hexadecimal digits) or a decision's id.

    Raises:
        BadInput: nothing, or more than one thing, is called so.
    """
    if len(token) < _SHORTEST:
        raise BadInput(repr(token), f"is shorter than {_SHORTEST} letters", _FIX)
    state = gitops.snapshot().state
    found = _mentions(gitops, token)
    named = {str(made["id"]): made for _, _, made in found if str(made["id"]).startswith(token)}
    if named:
        identity = str(_single(named, token)["id"])
        return _about_decision(gitops, state, [entry for entry in found if entry[2]["id"] == identity])
    matched = _HEX.fullmatch(token)
    beginning = f"sha256:{matched[1]}" if matched else token
    digests = {digest: digest for _, _, made in found for digest in _digests(made) if digest.startswith(beginning)}
    digest = _single(digests, token)
    chain = _links(gitops, [entry for entry in found if _is_about(entry[2], digest)])
    return Explanation(digest, _standing(state, digest), _run(chain, digest), tuple(chain))


def _about_decision(gitops: GitOps, state: ReleaseState, found: list[_Mention]) -> Explanation:
    (link,) = _links(gitops, found)[:1]
    made = link.decision
    about = _mentions(gitops, made.candidate) if made.candidate and not made.run else []
    told = [one for one in about if one[2].get("run") and one[2].get("candidate") == made.candidate]
    chain = _links(gitops, told[:1])
    standing = f"a decision about {made.candidate}, which is now {_standing(state, made.candidate)}"
    return Explanation(made.id, standing, made.run or _run(chain, made.candidate), (link,))


def _mentions(gitops: GitOps, token: str) -> list[_Mention]:
    """
    Records whose bytes mention the token: path, bytes and the plain decision.

    Not yet checked: most of a long ledger mentions the stable digest, and few of those are about it.
    """
    matched = _HEX.fullmatch(token)
    needle = (f"sha256:{matched[1]}" if matched else f'"{token}').encode()
    return [(path, text, plain_decision(text, path)) for path, text in gitops.records() if needle in text]


def _links(gitops: GitOps, found: list[_Mention]) -> list[Link]:
    commits = gitops.commits() if found else {}
    decisions = [(path, decode_record(text, path).decision) for path, text, _ in found]
    return [Link(path, commits.get(decision.id, ""), decision) for path, decision in decisions]


def _single(found: dict[str, _Found], token: str) -> _Found:
    if not found:
        raise BadInput(repr(token), "is not in the history", _FIX)
    if len(found) > 1:
        raise BadInput(repr(token), f"could be {', '.join(sorted(found)[:3])}", "give more digits")
    return next(iter(found.values()))


def _digests(decision: dict[str, Any]) -> list[str]:
    return [digest for digest in (decision.get("candidate"), decision.get("stable")) if digest]


def _is_about(decision: dict[str, Any], digest: str) -> bool:
    """Decided on the digest, or took its place away."""
    before, after = decision.get("before", {}), decision.get("after", {})
    lost = before.get("stable") == digest and after.get("stable") != digest
    return bool(decision.get("candidate") == digest or lost)


def _run(chain: list[Link], digest: str | None) -> dict[str, Any]:
    runs = [link.decision.run for link in chain if link.decision.candidate == digest]
    return next((run for run in runs if run), {})


def _standing(state: ReleaseState, digest: str | None) -> str:
    if digest and (hold := state.held(digest)):
        return f"held since {hold.at} by {hold.by}: {hold.reason}"
    if digest and digest == state.stable:
        return f"stable in {state.environment}, with {state.stable_weight} % of the traffic"
    if digest and digest == state.candidate:
        waits = ", and waits for approval" if state.paused else ""
        return f"the candidate in {state.stage}, with {state.candidate_weight} % of the traffic{waits}"
    return "not released and not held"


def _link_lines(link: Link) -> list[str]:
    made = link.decision
    colour = _COLOURS[made.verdict]
    head = f"[bold]{made.now}  {made.stage} → {made.action}[/bold]  [{colour}]{made.verdict}[/{colour}]"
    rows = [f"{head}  {made.id}  commit {link.commit[:12]}"]
    rows += [
        f"  [{_COLOURS[reason.verdict]}]{reason.verdict:<12}[/] {escape(reason.rule)}: {escape(reason.text)}"
        for reason in made.reasons
    ]
    return [*rows, f"  evidence {short(made.evidence_digest)}  policy {short(made.policy_digest)}"]
