"""What a decision's commit says, so that ``git log`` reads like a release history."""

from __future__ import annotations

from typing import Any

from sluice.documents.trailers import trailer, trailers_of
from sluice.documents.verdict import Decision


def commit_message(decision: Decision, record: str | None = None) -> str:
    """Subject, one line a reason, and the trailers that tools look for; ``record`` is the digest of its record."""
    subject = f"{decision.task} {decision.environment}: {_what(decision)}  {decision.verdict}"
    reasons = [f"{reason.verdict:<12}  {reason.rule}: {_one_line(reason.text)}" for reason in decision.reasons]
    rows = [trailer(key, value) for key, value in trailers_of(decision.model_dump(mode="json"), record).items()]
    return "\n".join([subject, "", *reasons, *([""] if reasons else []), *rows]) + "\n"


def _what(decision: Decision) -> str:
    before, after = decision.before, decision.after
    who = short(decision.candidate)
    held = " and held" if len(after.get("holds", ())) > len(before.get("holds", ())) else ""
    way = "canary" if before.get("stage") == "canary" else "traffic"
    ended = "ended" if any(reason.rule == "policy" for reason in decision.reasons) else "timed out"
    texts = {
        "refuse": f"{who} refused",
        "bootstrap": f"first model {who} answers 100 %",
        "start-shadow": f"{who} shadows {after.get('mirror_percent')} %",
        "start-preview": f"{who} is made ready without traffic",
        "set-weight": f"canary {_weight(before)} -> {_weight(after)} %",
        "promote": f"{way} {_weight(before)} -> {_weight(after)} %, old side warm",
        "confirm": f"{who} confirmed as stable",
        "pause": f"{who} passed {before.get('stage')}, waits for approval",
        "approve": f"{who} approved in {before.get('stage')}, {_next(after)}",
        "time-out": f"{who} {ended} in {before.get('stage')}, stable is {short(after.get('stable'))}",
        "rollback": f"{who} rolled back{held} in {before.get('stage')}, stable is {short(after.get('stable'))}",
        "hold": f"{who} held",
        "release-hold": f"hold on {who} lifted",
    }
    return texts.get(decision.action, f"{decision.stage} {decision.action} {who}")


def _next(after: dict[str, Any]) -> str:
    stage = after.get("stage")
    return "confirmed as stable" if stage == "stable" else f"goes to {stage} with {_weight(after)} %"


def _weight(state: dict[str, Any]) -> int:
    return int(state.get("candidate_weight", 0))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def short(digest: str | None) -> str:
    """The first twelve hexadecimal digits, or ``none``."""
    return digest.partition(":")[2][:12] if digest else "none"
