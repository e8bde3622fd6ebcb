"""What a decision's commit says, so that ``git log`` reads like a release history."""

from __future__ import annotations

from sluice.documents.trailers import trailer, trailers_of
from sluice.documents.verdict import Decision
from sluice.stages.registry import STAGES


def commit_message(decision: Decision, record: str | None = None) -> str:
    """Subject, one line a reason, and the trailers that tools look for; ``record`` is the digest of its record."""
    subject = f"{decision.task} {decision.environment}: {_what(decision)}  {decision.verdict}"
    reasons = [f"{reason.verdict:<12}  {reason.rule}: {_one_line(reason.text)}" for reason in decision.reasons]
    rows = [trailer(key, value) for key, value in trailers_of(decision.model_dump(mode="json"), record).items()]
    return "\n".join([subject, "", *reasons, *([""] if reasons else []), *rows]) + "\n"


def _what(decision: Decision) -> str:
    before, after = decision.before, decision.after
    who = short(decision.candidate)
    hold = " and held" if len(after.get("holds", ())) > len(before.get("holds", ())) else ""
    ending = "ended" if any(reason.rule == "policy" for reason in decision.reasons) else "timed out"
    texts = {
        "refuse": f"{who} refused",
        "pause": f"{who} passed {before.get('stage')}, waits for approval",
        "approve": f"{who} approved in {before.get('stage')}, {_words(decision, 'approval')}",
        "time-out": f"{who} {ending} in {before.get('stage')}, stable is {short(after.get('stable'))}",
        "rollback": f"{who} rolled back{hold} in {before.get('stage')}, stable is {short(after.get('stable'))}",
        "hold": f"{who} held",
        "release-hold": f"hold on {who} lifted",
    }
    begins = STAGES.get(after.get("stage", ""))
    if begins and begins.action == decision.action:
        return _words(decision, "subject")
    return texts.get(decision.action, f"{decision.stage} {decision.action} {who}")


def _words(decision: Decision, form: str) -> str:
    """What the stage that the decision leads to says of it."""
    before, after = decision.before, decision.after
    was, stage = before.get("candidate_weight", 0), after.get("stage", "")
    return str(getattr(STAGES.get(stage), form, "")).format(
        who=short(decision.candidate),
        stage=stage,
        way=before["stage"] if was else "traffic",
        was=was,
        weight=after.get("candidate_weight", 0),
        mirror=after.get("mirror_percent"),
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def short(digest: str | None) -> str:
    """The first twelve hexadecimal digits, or ``none``."""
    return digest.partition(":")[2][:12] if digest else "none"
