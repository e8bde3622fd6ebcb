"""A policy, states of every stage, and evidence that passes, fails or cannot tell."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sluice.documents.evidence import (
    LATENCY_BOUNDS_MS,
    Arm,
    Cells,
    Evidence,
    Histogram,
    Moments,
    Pairs,
    Share,
    SliceEvidence,
    Stratum,
    Timings,
)
from sluice.documents.state import Applied, Hold, ReleaseState
from sluice.documents.verdict import Reason, Verdict
from sluice.gates.policy import GatePolicy, parse_policy
from sluice.gitops.writer import Snapshot

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
SINCE, NOW, LATE = "2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z", "2020-02-01T00:00:00Z"
HOLD = Hold(digest=C, reason="broke", by="kim", at=SINCE)
GOOD = (Reason(rule="auc", verdict=Verdict.PASS, observed=0.8, bound=0.7, n=900, text="better"),)
BAD = (Reason(rule="auc", verdict=Verdict.FAIL, observed=0.6, bound=0.7, n=900, text="worse"),)
POLICY_TEXT = b"""
apiVersion: sluice.dev/v1
kind: GatePolicy
task: toy
environment: dev
select: {}
offline: [{metric: auc, role: success, against: best-baseline}]
bootstrap: {allowed: true, minimum_n: 100}
online:
  design_effect: 1
  alpha: 0.05
  shadow:
    minimum_n: 500
    maximum_hours: 72
    rules:
      - &split {metric: split, role: quality, alpha: 0.001}
      - &errors {metric: error_rate, role: limit, limit: 0.05}
      - &skew {metric: skew, role: quality, limit: 0.2}
      - &parity {metric: parity, role: quality, limit: 0.01}
      - &loss {metric: log_loss, role: guardrail, margin: 0.1}
      - &latency {metric: latency, role: deterioration, relative_margin: 1}
      - {metric: score_shift, role: limit, limit: 0.2}
  canary:
    {minimum_n: 500, maximum_hours: 72, steps: [10, 50], rules: [*split, *errors, *skew, *parity, *loss, *latency]}
  confirm:
    minimum_n: 500
    maximum_hours: 72
    rules: [*errors, *skew, *parity, *loss, {metric: label_coverage, role: quality, limit: 0.9}]
"""
POLICY: GatePolicy = parse_policy(POLICY_TEXT, "policy")
STAGES = ("bootstrap", "shadow", "canary", "confirm")
_RESTING = ("empty", "drain", "stable")
_ROOT = Path(__file__).parents[2]


@functools.cache
def _checkout() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="sluice-checkout-")


def sample_checkout() -> Path:
    """The manifests with the sample's policy, so that a change of the shipped numbers breaks no test of Git."""
    folder = Path(_checkout().name)
    if not (folder / "manifests").exists():
        shutil.copytree(_ROOT / "manifests", folder / "manifests")
        shutil.copy(_ROOT / "kustomization.yaml", folder)
        policy = POLICY_TEXT.replace(b"task: toy", b"task: flights")
        (folder / "manifests/overlays/dev/gate-policy.yaml").write_bytes(policy)
    return folder


def state_in(stage: str, step: int = 0, **changed: Any) -> ReleaseState:
    """A state of ``stage``; the candidate, or what is left of it, is B, stable is A where there is one."""
    weight = {"canary": (10, 50)[step]}.get(stage, 100 if stage in ("bootstrap", "confirm") else 0)
    served = stage != "empty"
    values = {
        "task": "toy",
        "environment": "dev",
        "sequence": 4,
        "rollout": None if stage in _RESTING else "r0004-b",
        "stage": stage,
        "step": step,
        "since": SINCE if served else None,
        "stable": None if stage in ("empty", "bootstrap") else A,
        "candidate": None if stage in _RESTING else B,
        "stable_weight": 100 - weight if served else 0,
        "candidate_weight": weight,
        "mirror_percent": 100 if stage == "shadow" else 0,
        "arms": ({"role": "leftover", "digest": B},) if stage == "drain" else (),
    }
    return ReleaseState.model_validate(values | changed)


def snapshot_of(state: ReleaseState, policy: GatePolicy = POLICY) -> Snapshot:
    """The snapshot that reads ``state``."""
    return Snapshot("0" * 40, state, policy, "sha256:" + "9" * 64)


def applied_of(state: ReleaseState, **changed: Any) -> Applied:
    """What a reconciler that did its work reads back."""
    keys = ("stable", "candidate", "stable_weight", "candidate_weight", "mirror_percent")
    return Applied.model_validate({"commit": "1" * 40} | {key: getattr(state, key) for key in keys} | changed)


def arm(digest: str, n: int, errors: int = 0) -> Arm:
    """An arm all of whose labels are in."""
    loss = Moments(n=n, mean=0.4, variance=0.09) if n else None
    return Arm(digest=digest, n=n, first=SINCE, last=NOW, errors=errors, due=n, labelled=n, loss=loss)


def evidence_of(state: ReleaseState, n: int = 4000, worse: float = 0.0, *, now: str = NOW, **changed: Any) -> Evidence:
    """
    Evidence about a state after ``n`` requests of the candidate; ``worse``: its log loss above stable's. Arms are
    dated from the start of the stage to ``now``.
    """
    share = max(state.candidate_weight, 1) / 100
    others = n if state.stage == "shadow" else round(n * (1 - share) / share)
    mean = Moments(n=max(n, 1), mean=0.4 + worse, variance=0.09)
    peer = Moments(n=max(others, 1), mean=0.4, variance=0.09)
    values: dict[str, Any] = {
        "task": state.task,
        "environment": state.environment,
        "rollout": state.rollout,
        "stage": state.stage,
        "step": state.step,
        "since": state.since,
        "now": now,
        "applied": applied_of(state),
        "candidate": arm(state.candidate or B, n),
        "stable": arm(state.stable, others) if state.stable else None,
        "foreign": 0,
        "split": (0, n) if state.stage in ("shadow", "confirm", "bootstrap") else (others, n),
        "strata": (Stratum(window=SINCE, candidate=mean, stable=mean if state.stage == "confirm" else peer),),
        "pairs": Pairs(
            shift=Moments(n=max(n, 1), mean=0.05, variance=0.01), loss=Moments(n=max(n, 1), mean=worse, variance=0.04)
        ),
        "skew_n": n,
        "skew": {"speed": 0.02, "colour": 0.01},
        "cells": Cells(compared=1000, different=0),
        "timings": _timings(n),
        "slices": {"region=north": _slice(n, worse)} if n else {},
    }
    values |= changed
    for side in ("candidate", "stable"):
        if values[side]:
            values[side] = values[side].model_copy(update={"first": state.since or SINCE, "last": now})
    return Evidence.model_validate(values)


def _timings(n: int) -> Timings:
    """2 ms on both sides."""
    if not n:
        return Timings()
    bins = tuple(n if bound == 2.0 else 0 for bound in (*LATENCY_BOUNDS_MS, None))
    both, binned = Moments(n=n, mean=2.0, variance=1.0), Histogram(counts=bins)
    return Timings(candidate=both, stable=both, candidate_bins=binned, stable_bins=binned)


def _slice(n: int, worse: float) -> SliceEvidence:
    """A slice of all requests."""
    mean, peer = (Moments(n=n, mean=0.4 + more, variance=0.09) for more in (worse, 0.0))
    answered = Share(n=n, hits=0)
    return SliceEvidence(
        candidate=answered,
        stable=answered,
        strata=(Stratum(window=SINCE, candidate=mean, stable=peer),),
        pairs=Moments(n=n, mean=worse, variance=0.04),
    )


def passing(state: ReleaseState, now: str = NOW) -> Evidence:
    """Enough, and nothing wrong."""
    return evidence_of(state, now=now)


def failing(state: ReleaseState, now: str = NOW) -> Evidence:
    """A tenth of the answers are errors."""
    return evidence_of(state, candidate=arm(state.candidate or B, 4000, errors=400), now=now)


def unclear(state: ReleaseState, now: str = NOW) -> Evidence:
    """Too little to tell."""
    return evidence_of(state, n=50, now=now)
