"""Where arms answer different requests: the adjusted difference holds its level, narrows, or is left out by name."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sluice.documents.event_time import iso, moment_of
from sluice.documents.evidence import Evidence, Moments
from sluice.documents.loss_history import ArmVariances, LossAdjustment, LossHistory
from sluice.documents.verdict import Reason, Verdict
from sluice.gates.adjustment import narrowing
from sluice.gates.online import judge_look
from tests.support.loss_blocks import HOURS, history, in_blocks
from tests.support.release import evidence_of, state_in
from tests.support.rules import policy_with
from tests.support.split_days import coverage, split_days

_PAIRS = Path(__file__).parents[1] / "replay_pairs"
_NOW = "2020-02-10T00:00:00Z"
_PRODUCTS = {"loss*residual": -0.002, "residual*residual": 0.004}
_ARMS = ArmVariances(candidate=0.2, stable=0.2, adjusted=0.15)


def adjusted_history(**changed: Any) -> LossHistory:
    """Slope ½ on stable's residual; the adjustment leaves a quarter of the variance, and knows what arms add."""
    document = history(0.004)
    adjustment = document.adjustment
    assert adjustment is not None
    keys = {"adjustment": adjustment.model_copy(update={"arms": _ARMS})} | changed
    return document.model_copy(update=keys)


def look(stage: str, worse: float = 0.0, surprise: float = 0.0, **changed: Any) -> Evidence:
    keys: dict[str, Any] = {"history": adjusted_history()} | changed
    evidence = in_blocks(evidence_of(state_in(stage), now=_NOW), worse, blocks=20, **keys)
    if stage == "shadow":
        return evidence
    evidence = shared_out(evidence, 1000, 3000)
    told = {"covariates": {"residual": surprise * evidence.blocks[0].weight}, "products": _PRODUCTS}
    return evidence.model_copy(update={"blocks": tuple(one.model_copy(update=told) for one in evidence.blocks)})


def said(evidence: Evidence, role: str = "guardrail", margin: float = 0.05, more: str = "") -> Reason:
    policy = policy_with(evidence.stage, f"metric: log_loss, role: {role}, margin: {margin}{more}")
    keys = {"block_hours": HOURS, "design_effect": None, "label_maturity_hours": 0}
    policy = policy.model_copy(update={"online": policy.online.model_copy(update=keys)})
    state = state_in(evidence.stage, since=evidence.since)
    reasons = judge_look(evidence, policy.online.stages[evidence.stage], policy, state)
    (reason,) = (one for one in reasons if one.rule.startswith("log_loss"))
    return reason


def width(reason: Reason) -> float:
    assert reason.low is not None
    assert reason.high is not None
    return reason.high - reason.low


# -- on days that happened --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "margin", "narrower"), [("flights", 0.1, 0.99), ("two-hours-late", 0.2, 0.85)])
def test_split_requests_of_real_days_hold_their_level_and_narrow(name: str, margin: float, narrower: float) -> None:
    found = coverage(split_days(_PAIRS / f"{name}.parquet", 0.5, splits=4), margin, 0.05, 60)
    assert found.missed <= 0.05
    assert found.width < narrower


# -- what is decided --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["canary", "confirm"])
@pytest.mark.parametrize("role", ["guardrail", "success", "deterioration"])
def test_what_stable_did_not_expect_is_taken_off_in_every_role(stage: str, role: str) -> None:
    plain, moved = said(look(stage, 0.05), role), said(look(stage, 0.05, surprise=0.1), role)
    assert plain.observed is not None
    assert moved.observed == pytest.approx(plain.observed - 0.5 * 0.1, abs=0.01)
    assert "adjusted by history for stable's residual" in moved.text


@pytest.mark.parametrize(
    ("role", "worse", "verdict"),
    [
        ("guardrail", 0.0, Verdict.PASS),
        ("guardrail", 0.4, Verdict.FAIL),
        ("success", -0.4, Verdict.PASS),
        ("success", 0.4, Verdict.FAIL),
        ("deterioration", 0.0, Verdict.PASS),
        ("deterioration", 0.4, Verdict.FAIL),
    ],
)
def test_each_role_decides_by_the_adjusted_difference(role: str, worse: float, verdict: Verdict) -> None:
    assert said(look("canary", worse), role, margin=0.1).verdict is verdict


def test_it_narrows_where_blocks_share_shocks() -> None:
    adjusted, plain = said(look("canary")), said(look("canary", history=adjusted_history(adjustment=None)))
    assert width(adjusted) < 0.9 * width(plain)


def test_sampling_of_stables_surprise_is_counted() -> None:
    quiet, noisy = look("canary"), look("canary")
    many = _PRODUCTS | {"residual*residual": 400.0}
    noisy = noisy.model_copy(
        update={"blocks": tuple(one.model_copy(update={"products": many}) for one in noisy.blocks)}
    )
    assert width(said(noisy)) > 1.02 * width(said(quiet))


# -- when it is left out ----------------------------------------------------------------------------------------------


def without(evidence: Evidence, key: str) -> Evidence:
    return evidence.model_copy(update={"blocks": tuple(one.model_copy(update={key: {}}) for one in evidence.blocks)})


def ended(days_before: float) -> LossHistory:
    """A history of thirty days that ended so long before the stage began."""
    last = moment_of(_NOW) - timedelta(hours=20 * HOURS) - timedelta(days=days_before)
    return adjusted_history(first=iso(last - timedelta(days=30)), last=iso(last))


def shared_out(evidence: Evidence, ours: int, theirs: int) -> Evidence:
    arms = {
        side: getattr(evidence, side).model_copy(update={"loss": Moments(n=n, mean=0.5, variance=0.2)})
        for side, n in (("candidate", ours), ("stable", theirs))
    }
    return evidence.model_copy(update=arms)


_OLD = adjusted_history(adjustment=history(0.004).adjustment)
_VARIES = _ARMS.model_copy(update={"adjusted": 9.0})
_NOISY = adjusted_history(adjustment=_OLD.adjustment.model_copy(update={"arms": _VARIES}))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("evidence", "text"),
    [
        (look("canary", history=adjusted_history(adjustment=None)), "nothing that history knows of stable's surprise"),
        (without(look("canary"), "products"), "the evidence does not say by block how surprised stable was"),
        (without(look("canary"), "covariates"), "the evidence does not say by block how surprised stable was"),
        (without(look("shadow"), "covariates"), "the evidence does not say by block how surprised stable was"),
        (look("canary", history=_OLD), "history does not say what the arms' sampling would add"),
        (look("canary", history=_NOISY), "at a share of 25% that would not narrow"),
        (shared_out(look("canary"), 1, 10**6), "at a share of 0% that would not narrow"),
        (look("canary", history=ended(31)), "history ends on 2019-12-31, longer ago than it lasts"),
        (look("shadow", history=ended(31)), "history ends on 2019-12-31, longer ago than it lasts"),
        (look("canary", history=None), "no history of this pair knows slopes and long-run means"),
    ],
)
def test_what_is_left_out_is_said_and_all_of_alpha_is_the_plain_ones(evidence: Evidence, text: str) -> None:
    reason = said(evidence)
    assert f"not adjusted: {text}" in reason.text
    alone = evidence.history.model_copy(update={"adjustment": None}) if evidence.history else None
    assert width(reason) == width(said(evidence.model_copy(update={"history": alone})))


@pytest.mark.parametrize("stage", ["shadow", "canary"])
def test_a_history_as_long_ago_as_it_lasts_is_not_stale(stage: str) -> None:
    assert "adjusted by history" in said(look(stage, history=ended(30))).text


def test_slices_are_not_adjusted_since_nobody_knows_their_slopes() -> None:
    reason = said(look("canary"), more=", per_slice: true, minimum_n: 100")
    assert "not adjusted" in reason.text


@pytest.mark.parametrize(("share", "narrows"), [(0.05, True), (0.5, True), (0.999, False)])
def test_history_says_beforehand_at_which_share_it_narrows(share: float, narrows: bool) -> None:
    arms = ArmVariances(candidate=0.2, stable=0.2, adjusted=0.25)
    variances: dict[str, Any] = {
        "names": ("residual",),
        "slopes": (0.5,),
        "means": (0.0,),
        "mean_error": 1e-6,
        "variance": 0.001,
    }
    adjustment = LossAdjustment(**variances, arms=arms)
    assert (narrowing(history(0.004), adjustment, share, 0.05) < 1) is narrows
    assert np.isinf(narrowing(history(0.004), adjustment, 1.0, 0.05))
