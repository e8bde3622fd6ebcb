"""Propose a digest that an environment has judged before, or what the environment before it has confirmed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import Field, ValidationError, model_validator

from sluice.documents.event_time import iso
from sluice.operations.promote import Promotion, promote
from sluice.steps.release import propose_again
from sluice.steps.repository import open_repository
from sluice.steps.start import DIGEST, ENVIRONMENT, Places, told_wrong


class Asked(Places):
    """Parameters. An empty ``now`` is the clock, an empty ``digest`` what the environment before confirmed."""

    digest: str = Field(default="", pattern=f"^({DIGEST})?$")
    environment: str = Field(pattern=f"^{ENVIRONMENT}$")

    @model_validator(mode="after")
    def _complete(self) -> Asked:
        if not self.gitops:
            raise ValueError("gitops: is empty, and a promotion is a commit in a repository")
        return self


def parse_promotion(values: Mapping[str, Any]) -> Asked:
    """
    The parameters, each in its range.

    Raises:
        BadInput: names the first that is wrong.
    """
    try:
        return Asked.model_validate(dict(values))
    except ValidationError as error:
        raise told_wrong(error, values) from error


def promote_digest(asked: Asked, name: str) -> Promotion:
    """
    Propose it on the evidence of then; both what is begun and what is refused are recorded.

    Without a digest: what the environment confirmed that this one's policy names (``sluice.operations.promote``).

    Args:
        name: of the run, in the decision.

    Raises:
        BadInput: the digest was never judged in this environment, the policy names no environment to promote from, or
            the repository cannot be read or written.
    """
    target = open_repository(asked.gitops, asked.environment)
    now = asked.now or iso(datetime.now(UTC).replace(microsecond=0))
    if not asked.digest:
        return promote(target, now)
    made = propose_again(target, asked.digest, name, now)
    first = next((reason for reason in made.reasons if reason.verdict == made.verdict), None)
    text = f"{first.rule}: {first.text}" if first else made.action
    return Promotion(made, text, forbidden=made.action == "refuse")
