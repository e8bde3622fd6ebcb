"""What every gate says: one verdict, with one reason a rule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from pydantic import Field

from sluice.content import digest_of_value
from sluice.documents.model import FrozenDocument
from sluice.documents.state import ReleaseState


class Verdict(StrEnum):
    """The only three answers. Missing, stale, NaN or too little evidence is INCONCLUSIVE and never promotes."""

    PASS = "PASS"  # noqa: S105  a verdict, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


class Reason(FrozenDocument):
    """How one rule saw it."""

    rule: str
    """The rule's name in the policy, with the slice where there is one: ``log_loss[region=north]``."""
    verdict: Verdict
    observed: float | None
    low: float | None = None
    high: float | None = None
    """Ends of the interval that decided."""
    bound: float | None
    n: int
    blocks: int | None = Field(default=None, exclude_if=lambda blocks: blocks is None)
    """Blocks of event time that those are in, where they are the unit; ``None`` where requests are."""
    text: str
    """One sentence for people, with the numbers in it."""
    role: str | None = None
    """success, guardrail, deterioration, limit or quality; ``None`` for what no policy rule asks."""
    alpha: float | None = None
    """
    Error of the interval: offline of its one look, online over all looks together; of a slice that may pass and fail,
    of the end that passes it.
    """

    @classmethod
    def of_interval(cls, rule: str, verdict: Verdict, interval: tuple[float, float, float], **fields: Any) -> Reason:
        """Estimate, low and high end; one that is infinite is left out, since JSON has no word for it."""
        observed, low, high = (end if math.isfinite(end) else None for end in interval)
        return cls(rule=rule, verdict=verdict, observed=observed, low=low, high=high, **fields)

    @classmethod
    def plain(cls, rule: str, verdict: Verdict, text: str) -> Reason:
        """What no number decides: a person's word, a freeze, a hold, evidence that may not be read."""
        return cls(rule=rule, verdict=verdict, observed=None, bound=None, n=0, text=text)


class Decision(FrozenDocument):
    """
    One decision of a gate, as it is committed.

    Everything that went into it is named by digest; times are event time in UTC (ISO 8601, ``Z``).
    """

    id: str
    """``<stage>-<12 hex digits>``: a digest of the inputs, so the same decision made twice has one id."""
    task: str
    environment: str
    stage: str
    """propose, offline, bootstrap, shadow, preview, canary, confirm, drain, hold, rollback."""
    action: str
    """
    What follows: refuse, bootstrap, start-shadow, start-preview, set-weight, promote, confirm, pause, approve,
    time-out, rollback, remove-server, hold, release-hold, wait.
    """
    verdict: Verdict
    candidate: str | None
    stable: str | None
    reasons: tuple[Reason, ...]
    now: str
    window: tuple[str, str] | None = None
    evidence: dict[str, Any] = {}
    """The numbers that were looked at, whole, so that the decision can be made again."""
    evidence_digest: str
    policy_digest: str
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    """The release state on both sides of the decision; equal where nothing changed."""
    run: dict[str, Any] = {}
    """Where the candidate comes from: pipeline run, recipe, data and code digests."""

    @classmethod
    def between(cls, before: ReleaseState, after: ReleaseState, evidence: Mapping[str, Any], **fields: Any) -> Decision:
        """
        The decision that leads from one release state to another; task, environment and digest of evidence follow.

        ``fields`` are the others by name. ``stable`` is that of ``after`` unless it is among them.
        """
        derived = {
            "task": before.task,
            "environment": before.environment,
            "stable": after.stable,
            "evidence": dict(evidence),
            "before": before.model_dump(mode="json"),
            "after": after.model_dump(mode="json"),
        }
        if "evidence_digest" not in fields:
            derived["evidence_digest"] = digest_of_value(dict(evidence))
        return cls(**derived | fields)


def identify(stage: str, inputs: Sequence[Any]) -> str:
    """The id of a decision: ``<stage>-<12 hex digits>`` of its inputs."""
    return f"{stage}-{digest_of_value(list(inputs)).partition(':')[2][:12]}"


def unanimous(verdicts: Iterable[Verdict]) -> Verdict:
    """FAIL if any rule fails, else INCONCLUSIVE if any cannot tell or there is none, else PASS."""
    answers = set(verdicts)
    if Verdict.FAIL in answers:
        return Verdict.FAIL
    return Verdict.PASS if answers == {Verdict.PASS} else Verdict.INCONCLUSIVE


def overall(reasons: Sequence[Reason]) -> Verdict:
    """
    The verdict of a look: ``unanimous``, but for success. The offline gate has no such exception.

    The success rules of an online stage are one question, "is it better in anything that we wanted?" (the decision rule
    of Schultzberg, Ankargren, Frånberg 2024): one that passes is enough, and they fail when all of them do.
    """
    verdicts = [reason.verdict for reason in reasons if reason.role != "success"]
    success = {reason.verdict for reason in reasons if reason.role == "success"}
    if success:
        better, worse = Verdict.PASS in success, success == {Verdict.FAIL}
        verdicts.append(Verdict.PASS if better else Verdict.FAIL if worse else Verdict.INCONCLUSIVE)
    return unanimous(verdicts)
