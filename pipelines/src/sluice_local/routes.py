"""Which request goes where: pure functions of the rollout and the request's id, so that a retry goes the same way."""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ArmName = Literal["stable", "candidate"]
_PARTS = 1_000_000


class Routes(BaseModel):
    """What the splitter is told: the commit that it comes from, backends by arm, weights and mirror in percent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    commit: str = ""
    rollout: str = ""
    """Salt of the hash: each rollout draws its own sample of requests."""
    stable: str | None = None
    candidate: str | None = None
    """URLs of the servers."""
    stable_weight: int = Field(default=0, ge=0, le=100)
    candidate_weight: int = Field(default=0, ge=0, le=100)
    mirror_percent: int = Field(default=0, ge=0, le=100)

    def arm(self, request_id: str) -> ArmName | None:
        """The side that answers; ``None`` while nothing is routed. Raising the weight never moves a request back."""
        total = self.stable_weight + self.candidate_weight
        if total == 0:
            return None
        within = _share(self.rollout, "split", request_id) * total < self.candidate_weight
        return "candidate" if within else "stable"

    @property
    def preview(self) -> ArmName | None:
        """The side that answers on a host of its own: the candidate, as long as no user's request reaches it."""
        return "candidate" if self.candidate and not (self.candidate_weight or self.mirror_percent) else None

    def mirrored(self, request_id: str) -> bool:
        """Whether the candidate gets a copy of a request that stable answers."""
        if self.mirror_percent == 0 or self.candidate is None or self.arm(request_id) != "stable":
            return False
        return _share(self.rollout, "mirror", request_id) * 100 < self.mirror_percent


def _share(salt: str, purpose: str, request_id: str) -> float:
    """A number in [0, 1) that depends on nothing but the arguments."""
    digest = blake2b(f"{salt}\0{purpose}\0{request_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % _PARTS / _PARTS
