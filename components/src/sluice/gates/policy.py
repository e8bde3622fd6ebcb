"""
The gate policy: one strict file per task and environment that speaks to every gate.

What the roles of its rules ask is said in ``sluice.gates.roles``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, ValidationError, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from sluice.content import digest_of_bytes
from sluice.errors import BadInput
from sluice.gates.contradictions import policy_contradictions
from sluice.gates.freeze import Freeze
from sluice.gates.online_policy import Online
from sluice.gates.roles import OfflineRole
from sluice.stages.registry import STAGES
from sluice.stages.section import CONTRADICTION, PolicyModel
from sluice.strict_yaml import line_of, read_yaml
from sluice.targets.metric import LOSS, MetricList
from sluice.targets.registry import LOSS_NAMES, METRIC_SCHEMA, is_share, known_metric

MetricName = Annotated[str, AfterValidator(known_metric), WithJsonSchema(METRIC_SCHEMA)]
Margin = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _require_narrow(metric: str, margin: float) -> None:
    if margin > 1 and is_share(metric):
        raise PydanticCustomError(
            CONTRADICTION, "{rule}", {"at": ("margin",), "rule": f"{margin:g} is above 1, and {metric} is a share"}
        )


class OfflineRule(PolicyModel):
    """
    One rule over the evaluation on the untouched holdout.

    ``success`` (shown better than the peer by more than the margin), ``guardrail`` (shown not worse than the peer by
    more than the margin) and ``deterioration`` (not shown worse by more than the margin) compare; ``limit`` bounds the
    metric itself. An interval that ends exactly on the bound keeps it: PASS as guardrail and limit, not yet success.
    """

    metric: MetricName
    role: OfflineRole
    against: Literal["production", "best-baseline", "teacher"] | None = None
    """The peer; ``None`` only for ``limit``. A rule against production passes while production is empty."""
    margin: Margin = 0.0
    limit: float | None = None
    """For ``limit``: the worst value allowed for the end of the interval in the bad direction."""
    per_slice: bool = False
    """Ask this of every slice that has ``minimum_n`` rows, instead of all rows."""
    minimum_n: int = Field(default=500, ge=30)
    """Rows below which a slice is not judged, and all rows together are INCONCLUSIVE."""
    when_missing: Literal["inconclusive", "skip"] = "inconclusive"
    """What a slice of enough rows says when its metric is not defined there (one class only, too few days)."""

    @model_validator(mode="after")
    def _consistent(self) -> OfflineRule:
        if (self.role == "limit") != (self.limit is not None):
            raise ValueError("role 'limit' needs 'limit', and no other role takes it")
        if (self.role == "limit") == (self.against is not None):
            raise ValueError("every role but 'limit' needs 'against'")
        _require_narrow(self.metric, self.margin)
        return self


class SelectPolicy(PolicyModel):
    """Which rung of the ladder ships: the smallest file that is not worse than the teacher by more than ``margin``."""

    metric: MetricName = LOSS
    margin: Margin = 0.01
    maximum_latency_p99_us: float = Field(default=5000.0, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> SelectPolicy:
        _require_narrow(self.metric, self.margin)
        return self


class BootstrapPolicy(PolicyModel):
    """What a first model into an empty production needs: there is nobody to compare with."""

    allowed: bool = False
    minimum_n: int = Field(default=200, ge=30)
    """Live requests without a failure before it counts as confirmed."""


def _consistent_stages(online: Online) -> Online:
    for contradiction in policy_contradictions(online):
        raise PydanticCustomError(CONTRADICTION, "{rule}", dict(contradiction._asdict()))
    return online


class GatePolicy(PolicyModel):
    """The whole file."""

    apiVersion: Literal["sluice.dev/v1"]  # noqa: N815  Kubernetes' spelling
    kind: Literal["GatePolicy"]
    task: str
    environment: str
    promote_from: str | None = Field(default=None, min_length=1)
    """The environment whose confirmed models are proposed here; left out, only pipeline runs propose."""
    freeze: tuple[Freeze, ...] = ()
    """Days on which no rollout begins or goes forward here; going back is never frozen."""
    select: SelectPolicy
    offline: tuple[OfflineRule, ...] = Field(min_length=1)
    bootstrap: BootstrapPolicy = BootstrapPolicy()
    online: Annotated[Online, AfterValidator(_consistent_stages)]

    @model_validator(mode="after")
    def _from_elsewhere(self) -> GatePolicy:
        if self.promote_from == self.environment:
            rule = f"{self.environment} cannot get its models from itself"
            context = {"at": ("promote_from",), "rule": rule, "fix": "name another environment, or leave it out"}
            raise PydanticCustomError(CONTRADICTION, "{rule}", context)
        return self


class MetricProblem(NamedTuple):
    """A metric that a target does not have: where a policy names it, and what to name instead."""

    keys: tuple[str | int, ...]
    rule: str
    fix: str

    @property
    def key(self) -> str:
        """For people."""
        return ".".join(map(str, self.keys))


def metric_problem(policy: GatePolicy, metrics: MetricList) -> MetricProblem | None:
    """The first metric of the policy that is none of ``metrics``."""
    places: list[tuple[tuple[str | int, ...], str]] = [(("select", "metric"), policy.select.metric)]
    places += [(("offline", place, "metric"), rule.metric) for place, rule in enumerate(policy.offline)]
    for keys, name in places:
        if metrics.find(name) is None:
            return MetricProblem(keys, f"the task has no metric {name!r}", f"choose from {', '.join(metrics.names)}")
    return next(_online_problems(policy.online, metrics), None)


def _online_problems(online: Online, metrics: MetricList) -> Iterator[MetricProblem]:
    for name, stage in online.stages.items():
        for place, rule in enumerate(stage.rules):
            keys = ("online", str(STAGES[name].section), "rules", place, "metric")
            if rule.metric in LOSS_NAMES and rule.metric not in (LOSS, metrics.loss):
                text = f"the task's loss is {metrics.loss!r}, not {rule.metric!r}"
                yield MetricProblem(keys, text, f"write {LOSS}, and margins in its unit")
            if rule.metric == "agreement" and not metrics.can_agree:
                text = "the task's target does not say when two models agree"
                yield MetricProblem(keys, text, "leave the rule out, or give the target a tolerance")


@functools.lru_cache(maxsize=8)
def parse_policy(text: bytes, name: str, metrics: MetricList | None = None) -> GatePolicy:
    """
    The policy in ``text``; ``name`` is how messages call it, ``metrics`` those of its task where that is known. What
    was parsed before is not parsed again.

    Raises:
        BadInput: not YAML, an unknown key, a missing one, a value out of range, rules that contradict each other or
            could never be kept, or a metric that the task does not have; the first problem is named with its line and
            what to write instead.
    """
    try:
        # By way of JSON, where a list may stand for a tuple, to be strict: `margin: true` is not 1.
        document = json.dumps(read_yaml(text), default=str)
    except (ValueError, TypeError) as error:
        raise BadInput(name, str(error), "mend the file") from error
    try:
        policy = GatePolicy.model_validate_json(document, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        context = first.get("ctx", {}) if first["type"] == CONTRADICTION else {}
        keys = (*first["loc"], *context.get("at", ()))
        key = ".".join(str(part) for part in keys) or "the document"
        rule = first["msg"].removeprefix("Value error, ")
        fix = context.get("fix", "see docs/gates.md for the keys and their ranges")
        raise BadInput(f"{name}, line {line_of(text, keys)}: {key}", rule, fix) from error
    if metrics and (problem := metric_problem(policy, metrics)):
        raise BadInput(f"{name}, line {line_of(text, problem.keys)}: {problem.key}", problem.rule, problem.fix)
    return policy


def read_policy(path: Path) -> tuple[GatePolicy, str]:
    """The policy in a file and the digest of its bytes."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror})", "name an existing policy file") from error
    return parse_policy(text, str(path)), digest_of_bytes(text)
