"""
What a stage of a rollout is: who serves, how traffic goes, its section of the policy, what is asked, its words.

A stage is data and, at most, one pure function from its section of the policy to its steps; ``sluice.rollout`` does
with it what every stage needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from sluice.stages.section import TimedStage

Percent = Annotated[int, Field(ge=0, le=100)]
SIDES = STABLE_ROLE, CANDIDATE_ROLE = "stable", "candidate"
"""Roles of a rollout with two arms."""
LEFTOVER_ROLE = "leftover"
"""
Of the candidate's server once its rollout has ended. Nothing is sent to it; it runs until the route was read back,
since requests are lost where the server goes and the route stays.
"""
PolicySection = TypeVar("PolicySection", bound=TimedStage)


class RolloutArm(BaseModel):
    """One arm of a rollout: a model in a role, and its share of the requests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: str
    digest: str | None = None
    weight: Percent = 0
    """Percent of the requests that it answers."""
    mirror: Percent = 0
    """Percent of the requests that it gets a copy of."""


Traffic = tuple[RolloutArm, ...]
"""How requests are split, arm by arm; the digests are the state's."""


def arm_in(role: str, traffic: Traffic) -> RolloutArm:
    """The arm in a role; where there is none, one that serves nothing."""
    for arm in traffic:
        if arm.role == role:
            return arm
    return RolloutArm(role=role)


def split(candidate: int, mirror: int = 0) -> Traffic:
    """The candidate answers ``candidate`` percent and gets copies of ``mirror`` percent; stable answers the rest."""
    return (
        RolloutArm(role=STABLE_ROLE, weight=100 - candidate),
        RolloutArm(role=CANDIDATE_ROLE, weight=candidate, mirror=mirror),
    )


@dataclass(frozen=True, kw_only=True)
class RolloutStage(Generic[PolicySection]):
    """
    One stage.

    Attributes:
        name: as release files and evidence write it.
        roles: the arms that serve.
        weights: percent that stable, the candidate and any others answer, in order; ``None`` where the arms share the
            traffic, each with 1 to 99.
        most_holdback: percent that stable may keep, at most, where it has none by ``weights``.
        mirrors: whether an arm gets copies of requests.
        manifests: folder of ``manifests/strategies`` that renders it; ``None`` where nothing is served.
        manifests_before: names that the folder had in older versions.
        section: key of its terms in the policy's ``online``; ``None`` where no policy speaks of it.
        steps: how traffic goes, step by step, by its section of the policy.
        has_pause: whether it may soak, and wait for a person.
        judge: what a look asks: the section's rules; whether requests failed; or the servers, where no user's request
            reaches the candidate, and what rules the section has. ``None`` between rollouts.
        whole_rollout: whether labels count of all requests that the rollout's arms answered, not of this stage's only.
        action: what a decision that begins it is called.
        subject: what that decision's commit says; ``{who}``: the candidate, ``{was}`` and ``{weight}``: its percent
            before and after, ``{mirror}``: percent of copies, ``{way}``: the stage before where it shared traffic.
        approval: what the approval of a step to it says, likewise.
        label: the action in a report.
    """

    name: str
    roles: tuple[str, ...] = SIDES
    weights: tuple[int, ...] | None
    most_holdback: int = 0
    mirrors: bool = False
    manifests: str | None = None
    manifests_before: tuple[str, ...] = ()
    section: str | None = None
    steps: Callable[[PolicySection], tuple[Traffic, ...]] = lambda _: ()
    has_pause: bool = True
    judge: Literal["rules", "failures", "servers"] | None = None
    whole_rollout: bool = False
    action: str = ""
    subject: str = ""
    approval: str = "goes to {stage} with {weight} %"
    label: str = ""

    def section_of(self, online: BaseModel) -> PolicySection | None:
        """Its section of a policy's ``online``; ``None`` where the policy has no such stage."""
        return getattr(online, self.section, None) if self.section else None

    @property
    def has_traffic(self) -> bool:
        """Whether requests of users, or copies of them, are planned for the candidate."""
        return self.judge != "servers"

    @property
    def renderings(self) -> tuple[str | None, ...]:
        """The folder that renders it, then those that did in older versions."""
        return (self.manifests, *self.manifests_before)
