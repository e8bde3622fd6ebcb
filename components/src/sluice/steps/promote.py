"""Propose a digest that an environment has judged before, or what the environment before it has confirmed."""

from __future__ import annotations

from datetime import UTC, datetime

from sluice.documents.event_time import iso
from sluice.operations.promote import Promotion, promote
from sluice.steps.gate import refusal
from sluice.steps.parameters import PromotionParameters
from sluice.steps.release import propose_again
from sluice.steps.repository import open_repository


def promote_digest(parameters: PromotionParameters, job: tuple[str, str]) -> Promotion:
    """
    Propose it on the evidence of then; both what is begun and what is refused are recorded.

    Without a digest: what the environment confirmed that this one's policy names (``sluice.operations.promote``).

    Args:
        job: name and id of the run, in the decision; KFP gives a recurring one no name.

    Raises:
        BadInput: the digest was never judged in this environment, the policy names no environment to promote from, or
            the repository cannot be read or written.
    """
    target = open_repository(parameters.gitops, parameters.environment)
    now = parameters.now or iso(datetime.now(UTC).replace(microsecond=0))
    if not parameters.digest:
        return promote(target, now)
    decision = propose_again(target, parameters.digest, job[0] or job[1], now, job[1])
    why = refusal(decision)
    return Promotion(decision, why or f"{decision.action}: {decision.candidate}", forbidden=bool(why))
