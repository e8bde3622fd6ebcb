"""
What is released in one environment, as Git holds it.

    stage       stable  candidate  weights   mirror
    empty       –       –          0 / 0     0       nothing is served
    bootstrap   –       yes        0 / 100   0
    shadow      yes     yes        100 / 0   1–100
    preview     yes     yes        100 / 0   0       blue/green before the switch
    canary      yes     yes        sum 100   0
    confirm     yes     yes        0 / 100   0       the old side stays warm, and may keep up to 20 (holdback)
    drain       yes     –          100 / 0   0       the rollout is over, the candidate's server still runs (leftover)
    stable      yes     –          100 / 0   0

What a stage looks like is said by its file in ``sluice.stages``. Any stage of a rollout but bootstrap may be
``paused``: it passed, and a person must agree to the next step.

``ReleaseState`` cannot be built in any other shape.
"""

from __future__ import annotations

import re
from itertools import combinations
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from sluice.documents.event_time import Moment
from sluice.documents.model import FrozenDocument, first_violation
from sluice.errors import BadArtifact
from sluice.stages.registry import STAGES
from sluice.stages.stage import (
    CANDIDATE_ROLE,
    LEFTOVER_ROLE,
    SIDES,
    STABLE_ROLE,
    Percent,
    RolloutArm,
    Traffic,
    arm_in,
)

_DIGEST = r"^sha256:[0-9a-f]{64}$"
Digest = Annotated[str, Field(pattern=_DIGEST)]
Label = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")]
"""A DNS label: task and environment become parts of Kubernetes names."""


def _known_stage(name: str) -> str:
    if name not in STAGES:
        raise ValueError(f"is no stage; there are {', '.join(STAGES)}")
    return name


StageName = Annotated[
    str,
    AfterValidator(_known_stage),
    WithJsonSchema({"enum": list(STAGES), "title": "Stage", "type": "string"}),
]


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

    @classmethod
    def of(cls, commit: str, state: ReleaseState) -> Applied:
        """All that a state says, as if it were in effect."""
        return cls(commit=commit, **{key: getattr(state, key) for key in _SIDE_KEYS})

    @property
    def arms(self) -> Traffic:
        """The same as arms."""
        return _arms_of({key: getattr(self, key) for key in _SIDE_KEYS})


class _Sides(FrozenDocument):
    """How documents write the arms of a rollout that has two."""

    model_config = ConfigDict(strict=True)

    stable: Digest | None = None
    candidate: Digest | None = None
    stable_weight: Percent = 0
    candidate_weight: Percent = 0
    mirror_percent: Percent = 0


_SIDE_KEYS = tuple(_Sides.model_fields)


def _arms_of(sides: dict[str, Any]) -> Traffic:
    """The arms in a document's keys for two sides; one that serves nothing is none."""
    mirror = {CANDIDATE_ROLE: sides["mirror_percent"]}
    every = (
        RolloutArm.model_construct(
            role=role, digest=sides[role], weight=sides[f"{role}_weight"], mirror=mirror.get(role, 0)
        )
        for role in SIDES
    )
    return tuple(arm for arm in every if arm.digest or arm.weight or arm.mirror)


_OVER: dict[str, Any] = {"paused": False, "block_hours": None}
"""What a rollout leaves behind where it ends."""


class ReleaseState(FrozenDocument):
    """The release file and the holds of one environment."""

    task: Label
    environment: Label
    sequence: int = Field(ge=0, lt=2**31)
    """Counts the changes of this file."""
    rollout: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,80}$")
    """Names the rollout that is going on; predictions carry it."""
    stage: StageName
    step: int = Field(default=0, ge=0, le=99)
    """Index of the canary step."""
    since: Moment | None = None
    """Event time at which this stage and step began."""
    arms: Traffic = ()
    """Stable, the candidate and any others. Documents write the first two under keys of their own (``_Sides``)."""
    paused: bool = False
    """The stage passed and waits for a person: ``sluice approve``."""
    holds: tuple[Hold, ...] = ()
    block_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, exclude_if=lambda hours: hours is None
    )
    """Length of the rollout's blocks of event time, as its history had it; ``None`` where the policy names one."""

    @classmethod
    def empty(cls, task: str, environment: str) -> ReleaseState:
        """An environment before its first release."""
        return cls(task=task, environment=environment, sequence=0, stage="empty")

    @model_validator(mode="before")
    @classmethod
    def _with_arms(cls, document: Any) -> Any:
        if not isinstance(document, dict) or not document.keys() & _Sides.model_fields.keys():
            return document
        sides = _Sides.model_validate({key: document[key] for key in _SIDE_KEYS if key in document})
        # JSON's lists are tuples here also where a strict parser reads: it no longer knows that this was JSON
        lists = {key: tuple(value) if isinstance(value, list) else value for key, value in document.items()}
        rest = {"arms": ()} | {key: value for key, value in lists.items() if key not in _SIDE_KEYS}
        others = rest["arms"]
        return rest | {"arms": (*_arms_of(sides.model_dump()), *others)} if isinstance(others, tuple) else rest

    @model_validator(mode="after")
    def _agrees(self) -> ReleaseState:
        if found := contradiction(self):
            raise ValueError(f"{found[0]}: {found[1]}")
        return self

    @model_serializer(mode="wrap")
    def _plain(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without ``paused`` and further arms where there are none: the document that older versions wrote."""
        document: dict[str, Any] = {}
        for key, value in write(self).items():
            if key == "arms":
                document |= {side: getattr(self, side) for side in _SIDE_KEYS}
            if key not in ("arms", "paused") or (key == "paused" and value):
                document[key] = value
        others = [arm.model_dump() for arm in self.arms if arm.role not in SIDES]
        return document | ({"arms": others} if others else {})

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Of the document, so with keys for two sides."""
        schema = handler(core)
        model, sides = handler.resolve_ref_schema(schema), _Sides.model_json_schema()["properties"]
        properties: dict[str, Any] = {}
        for key, value in model["properties"].items():
            properties |= sides if key == "arms" else {key: value}
        model["properties"] = properties
        return schema

    def arm(self, role: str) -> RolloutArm:
        """The arm in a role; where there is none, one that serves nothing."""
        return arm_in(role, self.arms)

    @property
    def stable(self) -> str | None:
        """Digest of the model that the candidate is compared with."""
        return self.arm(STABLE_ROLE).digest

    @property
    def candidate(self) -> str | None:
        """Digest of the model that the rollout is about."""
        return self.arm(CANDIDATE_ROLE).digest

    @property
    def leftover(self) -> str | None:
        """Digest of the candidate's server of a rollout that is over: it goes once the route was read back."""
        return self.arm(LEFTOVER_ROLE).digest

    @property
    def answering(self) -> tuple[str, ...]:
        """The sides whose servers are read back: not a leftover's, which may never have come up."""
        return (STABLE_ROLE,) if self.leftover else SIDES

    @property
    def rivals(self) -> Traffic:
        """The arms without a leftover."""
        return tuple(arm for arm in self.arms if arm.role != LEFTOVER_ROLE)

    @property
    def stable_weight(self) -> int:
        """Percent of the requests that stable answers."""
        return self.arm(STABLE_ROLE).weight

    @property
    def candidate_weight(self) -> int:
        """Percent of the requests that the candidate answers."""
        return self.arm(CANDIDATE_ROLE).weight

    @property
    def mirror_percent(self) -> int:
        """Percent of the requests that the candidate gets a copy of."""
        return self.arm(CANDIDATE_ROLE).mirror

    @property
    def is_mirrored(self) -> bool:
        """Whether the candidate answers copies, so that both sides answer one request."""
        return self.mirror_percent > 0

    @property
    def candidate_share(self) -> int:
        """Percent of the requests that are planned for the candidate, copies or not."""
        return self.mirror_percent or self.candidate_weight

    @property
    def candidate_route(self) -> str:
        """The route on which the candidate's answers are logged and counted."""
        return "shadow" if self.is_mirrored else CANDIDATE_ROLE

    @property
    def joined_route(self) -> str:
        """
        The route that a join gives the candidate's answers: as ``candidate_route``, but ``preview`` where no user's
        request is planned for it, so that no later stage counts what it was asked before.
        """
        return "preview" if self.candidate and not self.candidate_share else self.candidate_route

    def held(self, digest: str) -> Hold | None:
        """The hold on a digest, if there is one."""
        return next((hold for hold in self.holds if hold.digest == digest), None)

    def successor(self, **changes: Any) -> ReleaseState:
        """The state that follows this one, checked as a whole."""
        fields = {name: getattr(self, name) for name in ReleaseState.model_fields}
        return ReleaseState.model_validate(fields | {"sequence": self.sequence + 1} | changes)

    def settled(self, stable: str | None, now: str, holds: tuple[Hold, ...]) -> ReleaseState:
        """The state between rollouts that follows this one: one stable model, or none; a candidate's server stays."""
        left = self.candidate or self.leftover
        leftover = (RolloutArm(role=LEFTOVER_ROLE, digest=left),) if left else ()
        arms = (RolloutArm(role=STABLE_ROLE, digest=stable, weight=100), *leftover) if stable else ()
        stage = ("drain" if left else "stable") if stable else "empty"
        return self.successor(rollout=None, stage=stage, step=0, since=now, arms=arms, **_OVER, holds=holds)

    def drained(self, now: str) -> ReleaseState:
        """The state that follows once nothing is sent to the leftover any more: without it."""
        return self.successor(stage="stable", since=now, arms=(self.arm(STABLE_ROLE),))

    def is_applied(self, applied: Applied) -> bool:
        """Whether what was read back is what this state says: digests, weights and mirror."""
        return self.rivals == self.asked_of(applied).arms

    def asked_of(self, applied: Applied) -> Applied:
        """What was read back of the arms: whether a leftover still serves does not matter, what it is sent does."""
        return applied.model_copy(update={"candidate": None}) if self.leftover else applied


def contradiction(state: ReleaseState) -> tuple[str, str] | None:
    """The first key that disagrees with the stage, and the rule; ``None`` when all agree."""
    stage, arms = STAGES[state.stage], state.arms
    rollout = stage.judge is not None
    pausable = rollout and stage.has_pause
    roles = dict.fromkeys((*SIDES, *stage.roles, *(arm.role for arm in arms)))
    weights = tuple(state.arm(role).weight for role in roles)
    presence = {role: state.arm(role).digest is not None for role in roles}
    extreme = next((arm for arm in reversed(arms) if not 0 < arm.weight < 100), None)
    twin = next((pair for pair in combinations(state.rivals, 2) if pair[0].digest == pair[1].digest), None)
    held_role = next((arm.role for arm in state.rivals if state.held(arm.digest or "")), None)
    malformed = next((arm.role for arm in arms if arm.digest and not re.fullmatch(_DIGEST, arm.digest)), None)
    rules = (
        (sum(weights) == (100 if stage.roles else 0), "weights", f"{weights} do not add up to 100"),
        *((there == (role in stage.roles), role, _presence(stage.name, not there)) for role, there in presence.items()),
        (len({arm.role for arm in arms}) == len(arms), "arms", "have a role twice"),
        (malformed is None, str(malformed), "is no digest"),
        (
            stage.weights in (None, weights) or 0 < weights[0] <= stage.most_holdback,
            "weights",
            f"are {weights}, stage {stage.name} has {stage.weights}{_holdback(stage.most_holdback)}",
        ),
        (
            stage.weights is not None or extreme is None,
            f"{extreme.role}_weight" if extreme else "",
            f"is {extreme.weight}, a {stage.name} has 1 to 99" if extreme else "",
        ),
        (any(arm.mirror for arm in arms) == stage.mirrors, "mirror_percent", _presence(stage.name, stage.mirrors)),
        ((state.rollout is not None) == rollout, "rollout", _presence(stage.name, rollout)),
        (state.block_hours is None or rollout, "block_hours", _presence(stage.name, False)),
        (state.since is not None or not stage.roles, "since", _presence(stage.name, True)),
        (state.step == 0 or stage.weights is None, "step", f"is {state.step}, stage {stage.name} has no steps"),
        (twin is None, twin[1].role if twin else "", f"is the {twin[0].role} digest" if twin else ""),
        (not state.paused or pausable, "paused", f"is set, stage {stage.name} never waits for a person"),
        (held_role is None, str(held_role), "is a digest with a hold"),
    )
    return next(((key, rule) for good, key, rule in rules if not good), None)


def _holdback(most: int) -> str:
    return f", or at most {most} for stable" if most else ""


def _presence(stage: str, needed: bool) -> str:
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
    (key, rule, value), kind = first_violation(error), error.errors()[0]["type"]
    if not key and kind == "value_error":  # of ``contradiction``: "key: rule"
        key, _, rule = rule.partition(": ")
    plain = isinstance(value, str | int | float | None) and kind != "json_invalid"
    shown = f", got {value!r}"[:80] if plain else ""
    thing = f"{name}: {key}" if key else name
    return BadArtifact(thing, rule + shown, "restore the file from its last commit; only Sluice writes it")
