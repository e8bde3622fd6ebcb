"""
All that the faults are tried on: a small task's policy, its candidates, its traffic, and the evidence made of it.

Whatever else changes about policies or evidence, it is adapted here.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import polars as pl

from sluice.documents.event_time import iso, moment_of
from sluice.documents.evidence import Arm, Cells, Evidence, Pairs, Timings
from sluice.documents.state import Applied, ReleaseState
from sluice.documents.verdict import Reason, Verdict
from sluice.evidence.collect import collect_evidence
from sluice.gates.policy import GatePolicy, parse_policy
from sluice.predictions.log import PredictionRecord
from sluice.predictions.windows import ROW_SCHEMA, list_windows, read_window
from sluice.release.file import render_holds, render_release
from sluice.stages.stage import RolloutArm

TASK, ENVIRONMENT, OVERLAY = "toy", "dev", "manifests/overlays/dev"
BEGIN = datetime(2013, 11, 2, 20, tzinfo=UTC)
"""Ten hours before New York's clocks go back."""
LOOK = timedelta(hours=1)
REQUESTS = 400
"""A window's requests."""
POLICY_TEXT = b"""\
apiVersion: sluice.dev/v1
kind: GatePolicy
task: toy
environment: dev
select: {}
offline: [{metric: auc, role: success, against: best-baseline}]
bootstrap: {allowed: true, minimum_n: 100}
online:
  design_effect: 1
  look_every_hours: 0.1
  label_maturity_hours: 1
  shadow:
    minimum_n: 300
    maximum_hours: 6
    rules:
      - &split {metric: split, role: quality, alpha: 0.001}
      - &few_errors {metric: error_rate, role: limit, limit: 0.05}
      - &parity {metric: parity, role: quality, limit: 0.01}
      - &latency {metric: latency, role: deterioration, relative_margin: 2, minimum_n: 30}
      - {metric: log_loss, role: guardrail, margin: 0.2}
      - {metric: score_shift, role: limit, limit: 0.4}
  canary:
    minimum_n: 60
    maximum_hours: 6
    steps: [20, 50]
    rules:
      - *split
      - {metric: error_rate, role: limit, limit: 0.2, minimum_n: 30}
      - {metric: refusal_rate, role: guardrail, margin: 0.2, minimum_n: 30}
      - *parity
      - *latency
      - &loss {metric: log_loss, role: guardrail, margin: 0.5, minimum_n: 30}
  confirm:
    minimum_n: 300
    maximum_hours: 8
    rules: [*few_errors, *parity, *loss, {metric: label_coverage, role: quality, limit: 0.9}]
"""
PHASES = ("bootstrap", "shadow", "canary 20 %", "canary 50 %", "confirm")
PASSED = (Reason(rule="auc", verdict=Verdict.PASS, observed=0.8, bound=0.7, n=900, text="better"),)
FAILED = (Reason(rule="auc", verdict=Verdict.FAIL, observed=0.6, bound=0.7, n=900, text="worse"),)
LONGEST = timedelta(hours=6 + 2 * 6 + 8)
"""The deadlines of all stages together."""


def digest(name: str) -> str:
    """A digest that begins with a letter a to f."""
    return f"sha256:{name * 64}"


@cache
def policy() -> GatePolicy:
    """The policy that ``POLICY_TEXT`` spells."""
    return parse_policy(POLICY_TEXT, "policy")


@cache
def policy_of_servers() -> GatePolicy:
    """
    The same stages, asked only what servers can count themselves: no labels, no features, no pairs. So the shadow asks
    for the shares that both sides refuse.
    """
    online, metrics = policy().online, ("split", "error_rate", "refusal_rate", "latency")
    refusals = [rule for rule in online.stages["canary"].rules if rule.metric == "refusal_rate"]
    counted = {
        name: stage.model_copy(
            update={
                "rules": (
                    *(rule for rule in stage.rules if rule.metric in metrics),
                    *(refusals if name == "shadow" else ()),
                )
            }
        )
        for name, stage in online.stages.items()
    }
    return policy().model_copy(update={"online": online.model_copy(update=counted)})


def phase_of(state: ReleaseState) -> str:
    """Which of ``PHASES`` a state is in."""
    return f"canary {state.candidate_weight} %" if state.stage == "canary" else state.stage


def write_checkout(directory: Path) -> Path:
    """What ``GitOps.seed`` takes: state and policy, no cluster objects."""
    component = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
    files = {
        "kustomization.yaml": f"{component}resources: [{OVERLAY}]\n".encode(),
        f"{OVERLAY}/kustomization.yaml": f"{component}components: [release]\n".encode(),
        f"{OVERLAY}/gate-policy.yaml": POLICY_TEXT,
        f"{OVERLAY}/release/kustomization.yaml": render_release(ReleaseState.empty(TASK, ENVIRONMENT)),
        f"{OVERLAY}/release/holds.yaml": render_holds(()),
    }
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return directory


@dataclass(frozen=True)
class Behaviour:
    """How a digest truly serves: how often it fails, and whether its scores point the wrong way."""

    errors: float = 0.0
    inverted: bool = False


GOOD, BAD = Behaviour(), Behaviour(errors=0.4, inverted=True)


def requests(state: ReleaseState, start: datetime, seed: int, truth: Mapping[str, Behaviour]) -> list[PredictionRecord]:
    """
    The predictions of one window, as the servers log them.

    A request's number decides its side, its risk and its label, so equal arguments give equal records.

    Args:
        truth: digest → how it serves; one that is not named is good.
    """
    found: list[PredictionRecord] = []
    chance = random.Random(f"{seed} {start.isoformat()}")  # noqa: S311
    for number in range(REQUESTS):
        moment = start + LOOK * (number / REQUESTS)
        name = f"{start:%Y%m%dT%H%M}-{seed}-{number:04d}"
        risk, side, luck = chance.random(), chance.random() * 100, chance.random()
        for route, model in _answering(state, side):
            served = truth.get(model, GOOD)
            fails = luck < served.errors
            score = min(0.95, max(0.05, 1 - risk if served.inverted else risk))
            found.append(
                PredictionRecord(
                    request_id=name,
                    event_time=moment,
                    route=route,
                    rollout=state.rollout or "",
                    digest=model,
                    score=None if fails else score,
                    status=500 if fails else 200,
                    latency_ms=2 + luck,
                    features={"risk": risk},
                    missing=(),
                    stale=(),
                    keys={"number": number},
                )
            )
    return found


def _answering(state: ReleaseState, side: float) -> list[tuple[str, str]]:
    """Route and digest of everyone who answers one request."""
    if state.candidate is None or state.stable is None:
        only = state.candidate or state.stable
        return [("candidate" if state.candidate else "stable", only)] if only else []
    if state.stage == "shadow":
        return [("stable", state.stable), ("shadow", state.candidate)]
    return [("candidate", state.candidate)] if side < state.candidate_weight else [("stable", state.stable)]


def rows_of(windows: Path, state: ReleaseState, until: datetime) -> pl.DataFrame:
    """All predictions of the rollout in windows that ended by ``until``."""
    frames = [read_window(window) for window in list_windows(windows) if window.end <= until]
    rows = pl.concat([pl.DataFrame(schema=ROW_SCHEMA), *frames])
    return rows.filter(pl.col("rollout") == (state.rollout or "")).sort("event_time", "request_id", "route")


def labels_of(rows: pl.DataFrame) -> pl.DataFrame:
    """The outcome of every request, half an hour later: 1 where its risk was above one half."""
    risk = pl.col("features").str.json_path_match("$.risk").cast(pl.Float64)
    return (
        rows.select(
            example_id="request_id",
            label=(risk > 0.5).cast(pl.Float64),
            label_time=pl.col("event_time") + timedelta(minutes=30),
        )
        .unique("example_id", keep="first", maintain_order=True)
        .drop_nulls("label")
    )


def evidence_from(
    rows: pl.DataFrame, state: ReleaseState, applied: Applied, now: datetime, *, unlabelled: float = 0.0
) -> Evidence:
    """
    What the collector makes of a rollout's rows; every served cell agrees with the training path.

    Args:
        unlabelled: share of the labels that never come.
    """
    answered = rows.filter(pl.col("digest") == (state.candidate or ""), pl.col("status") < 400).height
    return collect_evidence(
        rows,
        labels_of(rows).filter(pl.col("example_id").hash(seed=0) % 100 >= 100 * unlabelled),
        state,
        applied,
        {},
        now=now,
        label_maturity_hours=policy().online.label_maturity_hours,
        recent_hours=policy().online.oldest_hours,
        cells=Cells(compared=answered, different=0) if answered else None,
    )


def nothing_seen(state: ReleaseState, applied: Applied, now: datetime) -> Evidence:
    """What is known when the source of evidence does not answer: nothing."""

    def silent(side: str | None) -> Arm | None:
        return (
            Arm(digest=side, n=0, first=None, last=None, errors=0, due=0, labelled=0, loss=None, stale=0)
            if side
            else None
        )

    return Evidence(
        task=state.task,
        environment=state.environment,
        rollout=state.rollout,
        stage=state.stage,
        step=state.step,
        since=state.since,
        now=iso(now),
        applied=applied,
        candidate=silent(state.candidate),
        stable=silent(state.stable),
        foreign=0,
        split=(0, 0),
        strata=(),
        pairs=Pairs(shift=None, loss=None),
        skew_n=0,
        skew={},
        cells=None,
        timings=Timings(),
    )


def applied_of(state: ReleaseState) -> Applied:
    """What a reconciler that did its work reads back."""
    return Applied.of("1" * 40, state)


def state_in(phase: str, since: datetime) -> ReleaseState:
    """A state in one of ``PHASES`` that began at ``since``: candidate b, stable a where there is one."""
    stage, _, share = phase.partition(" ")
    weight = int(share.rstrip(" %") or (100 if stage in ("bootstrap", "confirm") else 0))
    canary = policy().online.canary
    steps: Sequence[int] = canary.steps if canary else ()
    arms = (
        RolloutArm(role="stable", digest=digest("a"), weight=100 - weight),
        RolloutArm(role="candidate", digest=digest("b"), weight=weight, mirror=100 if stage == "shadow" else 0),
    )
    return ReleaseState(
        task=TASK,
        environment=ENVIRONMENT,
        sequence=4,
        rollout="r0004-b",
        stage=stage,
        step=steps.index(weight) if stage == "canary" else 0,
        since=iso(since),
        arms=arms[1:] if stage == "bootstrap" else arms,
    )


def hours_since(state: ReleaseState, now: datetime) -> float:
    """Event hours in the stage."""
    return (now - moment_of(state.since or iso(now))) / timedelta(hours=1)
