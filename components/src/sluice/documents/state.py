"""
What is released in one environment, as Git holds it.

    stage       stable  candidate  weights   mirror  kustomize strategy
    empty       –       –          0 / 0     0       none: nothing is served
    bootstrap   –       yes        0 / 100   0       first
    shadow      yes     yes        100 / 0   1–100   shadow
    preview     yes     yes        100 / 0   0       weighted (blue/green before the switch)
    canary      yes     yes        sum 100   0       weighted
    confirm     yes     yes        0 / 100   0       weighted (the old side stays warm)
    stable      yes     –          100 / 0   0       plain

Any stage of a rollout but bootstrap may be ``paused``: it passed, and a person must agree to the next step.

``ReleaseState`` cannot be built in any other shape.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from sluice.documents.event_time import Moment
from sluice.documents.model import FrozenDocument
from sluice.errors import BadArtifact

Stage = Literal["empty", "bootstrap", "shadow", "preview", "canary", "confirm", "stable"]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Percent = Annotated[int, Field(ge=0, le=100)]
Label = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")]
"""A DNS label: task and environment become parts of Kubernetes names."""


STRATEGIES: dict[str, str | None] = {
    "empty": None,
    "bootstrap": "first",
    "shadow": "shadow",
    "preview": "weighted",
    "canary": "weighted",
    "confirm": "weighted",
    "stable": "plain",
}


class Hold(FrozenDocument):
    """A digest that nothing may release until a person lifts it."""

    digest: Digest
    reason: str = Field(min_length=1)
    by: str = Field(min_length=1)
    at: Moment


class Applied(FrozenDocument):
    """What the reconciler read back from the servers and the splitter: the effect, not the intention."""

    commit: str
    """The commit that was brought about."""
    stable: str | None
    candidate: str | None
    """Digests that the servers themselves say they serve."""
    stable_weight: int
    candidate_weight: int
    mirror_percent: int


class _Row(NamedTuple):
    """One row of the table above; ``None`` leaves it open."""

    stable: bool
    candidate: bool
    weights: tuple[int, int] | None
    mirrors: bool


_TABLE: dict[str, _Row] = {
    "empty": _Row(stable=False, candidate=False, weights=(0, 0), mirrors=False),
    "bootstrap": _Row(stable=False, candidate=True, weights=(0, 100), mirrors=False),
    "shadow": _Row(stable=True, candidate=True, weights=(100, 0), mirrors=True),
    "preview": _Row(stable=True, candidate=True, weights=(100, 0), mirrors=False),
    "canary": _Row(stable=True, candidate=True, weights=None, mirrors=False),
    "confirm": _Row(stable=True, candidate=True, weights=(0, 100), mirrors=False),
    "stable": _Row(stable=True, candidate=False, weights=(100, 0), mirrors=False),
}


class ReleaseState(FrozenDocument):
    """The release file and the holds of one environment."""

    task: Label
    environment: Label
    sequence: int = Field(ge=0, lt=2**31)
    """Counts the changes of this file."""
    rollout: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,80}$")
    """Names the rollout that is going on; predictions carry it."""
    stage: Stage
    step: int = Field(default=0, ge=0, le=99)
    """Index of the canary step."""
    since: Moment | None = None
    """Event time at which this stage and step began."""
    stable: Digest | None = None
    candidate: Digest | None = None
    stable_weight: Percent = 0
    candidate_weight: Percent = 0
    mirror_percent: Percent = 0
    paused: bool = False
    """The stage passed and waits for a person: ``sluice approve``."""
    holds: tuple[Hold, ...] = ()

    @classmethod
    def empty(cls, task: str, environment: str) -> ReleaseState:
        """An environment before its first release."""
        return cls(task=task, environment=environment, sequence=0, stage="empty")

    @model_validator(mode="after")
    def _agrees(self) -> ReleaseState:
        if found := contradiction(self):
            raise ValueError(f"{found[0]}: {found[1]}")
        return self

    @model_serializer(mode="wrap")
    def _plain(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without ``paused`` where it is not so: such a state's document is the one that older versions wrote."""
        plain: dict[str, Any] = write(self)
        return plain if self.paused else {key: value for key, value in plain.items() if key != "paused"}

    def held(self, digest: str) -> Hold | None:
        """The hold on a digest, if there is one."""
        return next((hold for hold in self.holds if hold.digest == digest), None)

    @property
    def candidate_route(self) -> str:
        """The route on which the candidate's answers are logged and counted."""
        return "shadow" if self.stage == "shadow" else "candidate"

    def settled(self, stable: str | None, now: str, holds: tuple[Hold, ...]) -> ReleaseState:
        """The state between rollouts that follows this one: one stable model, or none."""
        return ReleaseState(
            task=self.task,
            environment=self.environment,
            sequence=self.sequence + 1,
            stage="stable" if stable else "empty",
            since=now,
            stable=stable,
            stable_weight=100 if stable else 0,
            holds=holds,
        )

    def is_applied(self, applied: Applied) -> bool:
        """Whether what was read back is what this state says: digests, weights and mirror."""
        return all(
            getattr(self, key) == getattr(applied, key)
            for key in ("stable", "candidate", "stable_weight", "candidate_weight", "mirror_percent")
        )


def contradiction(state: ReleaseState) -> tuple[str, str] | None:
    """The first key that disagrees with the stage, and the rule; ``None`` when all agree."""
    row = _TABLE[state.stage]
    rollout = state.stage not in ("empty", "stable")
    weights = (state.stable_weight, state.candidate_weight)
    held = next((name for name in ("stable", "candidate") if state.held(getattr(state, name) or "")), None)
    rules = (
        (sum(weights) == (100 if state.stage != "empty" else 0), "weights", f"{weights} do not add up to 100"),
        ((state.stable is not None) == row.stable, "stable", _presence(state.stage, needed=row.stable)),
        ((state.candidate is not None) == row.candidate, "candidate", _presence(state.stage, needed=row.candidate)),
        (row.weights in (None, weights), "weights", f"are {weights}, stage {state.stage} has {row.weights}"),
        (row.weights is not None or 0 < weights[1] < 100, "candidate_weight", f"is {weights[1]}, a canary has 1 to 99"),
        ((state.mirror_percent > 0) == row.mirrors, "mirror_percent", _presence(state.stage, needed=row.mirrors)),
        ((state.rollout is not None) == rollout, "rollout", _presence(state.stage, needed=rollout)),
        (state.since is not None or state.stage == "empty", "since", _presence(state.stage, needed=True)),
        (state.step == 0 or state.stage == "canary", "step", f"is {state.step}, only a canary has steps"),
        (state.stable is None or state.stable != state.candidate, "candidate", "is the stable digest"),
        (
            not state.paused or (rollout and state.stage != "bootstrap"),
            "paused",
            f"is set, stage {state.stage} never waits for a person",
        ),
        (held is None, str(held), "is a digest with a hold"),
    )
    return next(((key, rule) for good, key, rule in rules if not good), None)


def _presence(stage: str, *, needed: bool) -> str:
    return f"is missing, stage {stage} needs it" if needed else f"is set, stage {stage} has none"


def state_of(document: object, name: str) -> ReleaseState:
    """
    The state in a plain document, for example a decision's ``after``.

    Raises:
        BadArtifact: naming ``name``, the key and the rule.
    """
    try:
        return ReleaseState.model_validate(document)
    except ValidationError as error:
        raise refusal(name, error) from error


def refusal(name: str, error: ValidationError) -> BadArtifact:
    """The first problem that pydantic found, as our error."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    rule = re.sub(r"^Value error, ", "", first["msg"])
    if not key and first["type"] == "value_error":  # of ``contradiction``: "key: rule"
        key, _, rule = rule.partition(": ")
    plain = isinstance(first["input"], str | int | float | None) and first["type"] != "json_invalid"
    shown = f", got {first['input']!r}"[:80] if plain else ""
    thing = f"{name}: {key}" if key else name
    return BadArtifact(thing, rule + shown, "restore the file from its last commit; only Sluice writes it")
