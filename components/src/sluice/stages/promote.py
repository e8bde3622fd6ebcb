"""Propose a digest that an environment has judged before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import Field, ValidationError, model_validator

from sluice.gates.verdict import Decision
from sluice.release.state import iso
from sluice.stages.release import propose_again
from sluice.stages.repository import open_repository
from sluice.stages.start import DIGEST, ENVIRONMENT, Places, told_wrong


class Promotion(Places):
    """The parameters of a promotion; an empty ``now`` is the clock."""

    digest: str = Field(pattern=f"^{DIGEST}$")
    environment: str = Field(pattern=f"^{ENVIRONMENT}$")

    @model_validator(mode="after")
    def _complete(self) -> Promotion:
        if not self.gitops:
            raise ValueError("gitops: is empty, and a promotion is a commit in a repository")
        return self


def parse_promotion(values: Mapping[str, Any]) -> Promotion:
    """
    The parameters, each in its range.

    Raises:
        BadInput: names the first that is wrong.
    """
    try:
        return Promotion.model_validate(dict(values))
    except ValidationError as error:
        raise told_wrong(error, values) from error


def promote_digest(asked: Promotion, name: str) -> Decision:
    """
    Propose it on the evidence of then; both what is begun and what is refused are recorded.

    What another environment confirmed is `sluice.release.promote`'s to propose: its call belongs here, for an empty
    digest.

    Args:
        name: of the run, in the decision.

    Raises:
        BadInput: the digest was never judged in this environment, or the repository cannot be read or written.
    """
    target = open_repository(asked.gitops, asked.environment)
    now = asked.now or iso(datetime.now(UTC).replace(microsecond=0))
    return propose_again(target, asked.digest, name, now)
