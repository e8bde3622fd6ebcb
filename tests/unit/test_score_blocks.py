"""Distance of scores and equal decisions by blocks of event time: shocks that requests share widen the interval."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from sluice.arrays import Floats
from sluice.documents.event_time import iso
from sluice.documents.evidence import Evidence, Share
from sluice.documents.loss_history import LossHistory
from sluice.documents.state import Applied
from sluice.documents.verdict import Reason, Verdict
from sluice.evaluation.histories import loss_histories
from sluice.evaluation.intervals import ScoredModel
from sluice.evidence.collect import collect_evidence
from sluice.evidence.measurements.points import PointIndex
from sluice.evidence.measurements.registry import part_of_points, points_of
from sluice.gates.blocks import MINIMUM_HISTORY
from sluice.gates.online import judge_look
from sluice.targets.yardstick import Yardstick
from tests.support.release import A, B, state_in
from tests.support.rules import policy_with

BEGIN = datetime(2021, 3, 1, tzinfo=UTC)
HOURS, A_BLOCK = 12, 60
RULES = {
    "score_shift": "metric: score_shift, role: limit, limit: 0.2",
    "agreement": "metric: agreement, role: limit, limit: 0.5",
}
FIELD = {"score_shift": "shift", "agreement": "same"}


def scores(blocks: int, seed: int) -> tuple[Floats, Floats]:
    """Of ``A_BLOCK`` requests a block; the candidate's distance from stable is the block's own."""
    rng = np.random.default_rng(seed)
    stable = rng.uniform(0.2, 0.6, blocks * A_BLOCK)
    return stable, stable + np.repeat(rng.uniform(0.02, 0.12, blocks), A_BLOCK)


def past() -> LossHistory:
    stable, candidate = scores(40, 1)
    hours = np.arange(stable.size) * HOURS / A_BLOCK
    labels = np.random.default_rng(3).integers(0, 2, stable.size)
    ours, theirs = (ScoredModel.of("m", values, 0.5) for values in (candidate, stable))
    histories, _ = loss_histories(Yardstick(), labels, hours, ours, theirs, A)
    return next(one for one in histories if one.hours == HOURS)


def evidence_of_rows(blocks: int, history: LossHistory | None) -> Evidence:
    stable, candidate = scores(blocks, 2)
    state = state_in("shadow", since=iso(BEGIN))
    frame = pl.DataFrame(
        {
            "request_id": [f"r{number:05d}" for number in range(stable.size)],
            "event_time": [BEGIN + timedelta(hours=HOURS * (number + 0.5) / A_BLOCK) for number in range(stable.size)],
            "status": 200, "latency_ms": 2.0, "features": "{}", "missing": 0, "stale": 0, "keys": "{}",
            "rollout": state.rollout or "",
        }
    )  # fmt: skip
    sides = (("shadow", B, candidate), ("stable", A, stable))
    rows = pl.concat(
        [
            frame.with_columns(route=pl.lit(route), digest=pl.lit(digest), score=pl.Series(values))
            for route, digest, values in sides
        ]
    )
    labels = pl.DataFrame(schema={"example_id": pl.String, "label": pl.Int64, "label_time": pl.Datetime("us", "UTC")})
    collected = collect_evidence(
        rows, labels, state, Applied.of("1" * 40, state), {}, thresholds={A: 0.5, B: 0.5},
        now=BEGIN + timedelta(hours=HOURS * blocks), label_maturity_hours=6, block_hours=HOURS,
    )  # fmt: skip
    return collected.model_copy(update={"history": history})


def said(evidence: Evidence, metric: str, **online: Any) -> Reason:
    policy = policy_with("shadow", RULES[metric])
    keys = {"block_hours": HOURS, "design_effect": None} | online
    policy = policy.model_copy(update={"online": policy.online.model_copy(update=keys)})
    reasons = judge_look(evidence, policy.online.stages["shadow"], policy, state_in("shadow", since=evidence.since))
    (reason,) = (one for one in reasons if one.rule == metric)
    return reason


def width(reason: Reason) -> float:
    assert reason.low is not None
    assert reason.high is not None
    return reason.high - reason.low


@pytest.mark.parametrize("metric", RULES)
def test_blocks_of_rows_decide_with_the_evaluations_history(metric: str) -> None:
    history = past()
    evidence = evidence_of_rows(10, history)
    stable, candidate = scores(10, 2)
    each = np.abs(candidate - stable) if metric == "score_shift" else (candidate >= 0.5) == (stable >= 0.5)
    by_hand = each.reshape(10, A_BLOCK).sum(axis=1)
    assert [getattr(block, FIELD[metric]) for block in evidence.blocks] == pytest.approx(by_hand, rel=1e-9)
    reason = said(evidence, metric)
    assert (reason.verdict, reason.blocks, reason.n) == (Verdict.PASS, 10, 600)
    assert reason.observed == pytest.approx(each.mean())
    assert width(reason) > 1.5 * width(said(evidence_of_rows(10, None), metric, design_effect=1))
    assert width(said(evidence.model_copy(update={"history": past_of_calm(history, metric)}), metric)) < width(reason)


def past_of_calm(history: LossHistory, metric: str) -> LossHistory:
    """The same with a hundredth of its variance: the rollout's own blocks are then what widens."""
    variance = f"{FIELD[metric]}_variance"
    return history.model_copy(update={variance: getattr(history, variance) / 100})


@pytest.mark.parametrize("metric", RULES)
def test_without_a_history_it_waits_for_blocks_enough(metric: str) -> None:
    few, enough = (said(evidence_of_rows(blocks, None), metric) for blocks in (MINIMUM_HISTORY - 1, MINIMUM_HISTORY))
    assert (few.verdict, few.observed) == (Verdict.INCONCLUSIVE, None)
    assert "14 of 15 blocks of 12 h are in" in few.text
    assert (enough.verdict, enough.blocks) == (Verdict.PASS, MINIMUM_HISTORY)


@pytest.mark.parametrize("metric", RULES)
def test_evidence_of_before_has_no_such_sums_and_is_inconclusive_by_name(metric: str) -> None:
    evidence = evidence_of_rows(10, past())
    before = tuple(block.model_copy(update={"shift": None, "same": None}) for block in evidence.blocks)
    reason = said(evidence.model_copy(update={"blocks": before}), metric)
    assert reason.verdict is Verdict.INCONCLUSIVE
    assert "the evidence has no such sums by block" in reason.text


@pytest.mark.parametrize("metric", RULES)
def test_a_stated_design_effect_widens_what_requests_say(metric: str) -> None:
    evidence = evidence_of_rows(10, None)
    alone, dependent = (said(evidence, metric, design_effect=effect) for effect in (1, 16))
    assert alone.observed == pytest.approx(dependent.observed, abs=0.02)
    assert width(dependent) > 3 * width(alone)


def test_where_all_decisions_agree_the_interval_is_that_of_so_many_requests() -> None:
    evidence = evidence_of_rows(10, past())
    alike = tuple(block.model_copy(update={"same": block.requests}) for block in evidence.blocks)
    pairs = evidence.pairs.model_copy(update={"agreement": Share(n=600, hits=600)})
    nothing = past().model_copy(update={"same_variance": 0.0})
    reason = said(evidence.model_copy(update={"blocks": alike, "pairs": pairs, "history": nothing}), "agreement")
    assert reason.observed == 1
    assert 0.005 < width(reason) < 0.05


def test_it_goes_by_way_of_points_and_back() -> None:
    evidence = evidence_of_rows(3, None)
    assert part_of_points(PointIndex(point for _, point in points_of(evidence)))["blocks"] == evidence.blocks
