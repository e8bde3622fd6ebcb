"""Log loss by blocks of event time: which blocks count, what history says, and what is refused by name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from sluice.arrays import Floats
from sluice.documents.event_time import iso, moment_of
from sluice.documents.evidence import Evidence
from sluice.documents.loss_history import SliceEffect
from sluice.documents.state import Applied
from sluice.documents.verdict import Reason, Verdict
from sluice.evaluation.histories import loss_histories
from sluice.evaluation.intervals import ScoredModel
from sluice.evidence.collect import collect_evidence
from sluice.evidence.history import with_history
from sluice.evidence.measurements.points import PointIndex
from sluice.evidence.measurements.registry import part_of_points, points_of
from sluice.gates.blocks import MINIMUM_HISTORY, BlockSums, block_intervals
from sluice.gates.loss_history import block_history
from sluice.gates.online import judge_look
from sluice.gates.policy import GatePolicy
from sluice.targets.probabilities import calibration_covariates, log_losses
from sluice.targets.yardstick import Yardstick
from tests.support.loss_blocks import HOURS, history, in_blocks
from tests.support.release import A, B, C, evidence_of, state_in
from tests.support.rules import policy_with

GUARDRAIL = "metric: log_loss, role: guardrail, margin: 0.05"
BEGIN = datetime(2021, 3, 1, tzinfo=UTC)
WEEK = "2020-02-10T00:00:00Z"


def by_block(stage: str = "shadow", *rules: str, **online: Any) -> GatePolicy:
    policy = policy_with(stage, *(rules or (GUARDRAIL,)))
    keys = {"block_hours": HOURS, "design_effect": None, "label_maturity_hours": 0} | online
    return policy.model_copy(update={"online": policy.online.model_copy(update=keys)})


def said(evidence: Evidence, policy: GatePolicy | None = None) -> Reason:
    policy = policy or by_block(evidence.stage)
    state = state_in(evidence.stage, since=evidence.since)
    reasons = judge_look(evidence, policy.online.stages[evidence.stage], policy, state)
    (reason,) = (one for one in reasons if one.rule.startswith("log_loss"))
    return reason


def look(stage: str = "shadow", worse: float = 0.0, **changed: Any) -> Evidence:
    return in_blocks(evidence_of(state_in(stage), now=WEEK), worse, **({"history": history()} | changed))


# -- what is decided -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["shadow", "canary"])
@pytest.mark.parametrize(("worse", "verdict"), [(0.0, Verdict.PASS), (0.05, Verdict.INCONCLUSIVE), (0.2, Verdict.FAIL)])
def test_blocks_decide(stage: str, worse: float, verdict: Verdict) -> None:
    reason = said(look(stage, worse))
    assert reason.verdict is verdict
    assert reason.blocks == 10
    assert f"10 blocks of {HOURS} h" in reason.text


def test_requests_alone_would_have_passed_what_blocks_wait_for() -> None:
    """Four thousand pairs, in three blocks of which one is a storm."""
    stormy = look(blocks=3, spread=0.1)
    assert said(stormy, by_block(design_effect=1.0, block_hours=24)).verdict is Verdict.PASS
    assert said(stormy).verdict is Verdict.INCONCLUSIVE


def test_adjustment_takes_out_what_surprised_stable_too() -> None:
    surprised = look(worse=0.04, surprise=0.08, spread=0.001, history=history(0.0016))
    plain = surprised.model_copy(update={"history": history(0.0016, adjustment=None)})
    reason, without = said(surprised), said(plain)
    assert (reason.verdict, without.verdict) == (Verdict.PASS, Verdict.INCONCLUSIVE)
    assert "adjusted by history" in reason.text
    assert reason.observed is not None
    assert reason.observed < without.observed  # type: ignore[operator]


def test_where_both_intervals_do_not_meet_blocks_alone_decide_and_that_is_said() -> None:
    moved = look(surprise=1.0, spread=0.001)
    assert "do not meet" in said(moved).text
    assert said(moved).low == pytest.approx(said(moved).observed, abs=0.06)


def test_arms_that_answered_different_requests_are_less_sure() -> None:
    canary = look("canary", history=history(adjustment=None))
    certain = canary.model_copy(
        update={"blocks": tuple(one.model_copy(update={"sampling": 1e-9}) for one in canary.blocks)}
    )
    assert width(said(canary)) > 1.2 * width(said(certain))


def width(reason: Reason) -> float:
    assert reason.low is not None
    assert reason.high is not None
    return reason.high - reason.low


# -- which blocks count -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("maturity", "blocks"), [(0, 10), (1, 9), (12, 9), (13, 8)])
def test_a_block_counts_when_it_is_over_and_its_labels_are_due(maturity: float, blocks: int) -> None:
    assert said(look(), by_block(label_maturity_hours=maturity)).blocks == blocks


def test_a_part_of_a_block_never_counts() -> None:
    evidence = look()
    later = iso(moment_of(evidence.now) - timedelta(minutes=1))
    assert said(evidence.model_copy(update={"now": later})).blocks == 9
    began = evidence.blocks[2].start  # confirm compares from the canary on, whose first block may be a part
    confirm = look("confirm").model_copy(update={"since": began})
    assert said(confirm, by_block("confirm")).blocks == 9


def test_blocks_without_a_comparison_are_none() -> None:
    evidence = look("canary")
    empty = tuple(one.model_copy(update={"weight": 0.0, "labelled": 0}) for one in evidence.blocks[:4])
    assert said(evidence.model_copy(update={"blocks": (*empty, *evidence.blocks[4:])})).blocks == 6


# -- history ----------------------------------------------------------------------------------------------------------


def test_without_history_blocks_are_their_own_from_fifteen_on() -> None:
    few, enough = (look(history=None, blocks=blocks) for blocks in (MINIMUM_HISTORY - 1, MINIMUM_HISTORY))
    assert said(few).verdict is Verdict.INCONCLUSIVE
    assert f"14 of 15 blocks of {HOURS} h are in: state a design_effect" in said(few).text
    assert said(enough).verdict is Verdict.PASS


def test_before_the_third_block_no_number_is_said() -> None:
    reason = said(look(blocks=2))
    assert reason.verdict is Verdict.INCONCLUSIVE
    assert "2 blocks of 12 h" in reason.text
    assert "no interval yet, at most 0.05 is allowed; an equal candidate shows it by" in reason.text


def test_a_stated_design_effect_counts_requests_for_less() -> None:
    evidence = look(history=None)
    one, many = (said(evidence, by_block(design_effect=effect)) for effect in (1.0, 25.0))
    assert width(many) == pytest.approx(5 * width(one))
    assert "25 requests telling as much as one" in many.text
    assert said(look(), by_block(design_effect=25.0)).blocks == 10  # a history says it better


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"history": history(stable=C)}, "another pair of models"),
        ({"history": history(hours=24)}, "the history has blocks of 24 h, the rollout of 12 h"),
        ({"history": None}, "no history says"),
    ],
)
def test_a_history_of_something_else_is_none(changed: dict[str, Any], text: str) -> None:
    reason = said(look(**changed))
    assert reason.verdict is Verdict.INCONCLUSIVE
    assert text in reason.text


@pytest.mark.parametrize("effect", [None, 1.0])
def test_slices_count_as_their_history_says(effect: float | None) -> None:
    rule = f"{GUARDRAIL}, per_slice: true, minimum_n: 100"
    policy = by_block("shadow", rule, design_effect=effect)
    alone, dependent = (said(look(history=one), policy) for one in (None, history(design_effect=1e6)))
    assert alone.verdict is (Verdict.PASS if effect else Verdict.INCONCLUSIVE)
    assert dependent.verdict is Verdict.INCONCLUSIVE
    if effect is None:
        assert "no history says how far requests of one time depend on each other" in alone.text


def test_a_slice_counts_by_its_own_blocks_where_history_tells_of_it() -> None:
    rule = f"{GUARDRAIL}, per_slice: true, minimum_n: 100"
    (name,) = look().slices
    own = SliceEffect(slice=name, design_effect=2.0)
    of_all, of_it, of_another = (
        said(look(history=history(design_effect=1e6, slices=slices)), by_block("shadow", rule))
        for slices in ((), (own,), (own.model_copy(update={"slice": "region=south"}),))
    )
    assert of_it.verdict is Verdict.PASS
    assert "2 requests telling as much as one" in of_it.text
    assert [one.verdict for one in (of_all, of_another)] == [Verdict.INCONCLUSIVE] * 2


# -- what is refused --------------------------------------------------------------------------------------------------


def _without_blocks(evidence: Evidence) -> Evidence:
    return evidence.model_copy(update={"block_hours": None, "blocks": ()})


def _twice(evidence: Evidence) -> Evidence:
    return evidence.model_copy(update={"blocks": (*evidence.blocks, evidence.blocks[-1])})


def _moved(evidence: Evidence) -> Evidence:
    off = iso(moment_of(evidence.blocks[0].start) + timedelta(hours=1))
    return evidence.model_copy(update={"blocks": (evidence.blocks[0].model_copy(update={"start": off}),)})


def _lost(evidence: Evidence) -> Evidence:
    return evidence.model_copy(update={"blocks": evidence.blocks[1:]})


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (_without_blocks, "the evidence counts requests alone"),
        (lambda one: one.model_copy(update={"block_hours": 24}), "blocks of 24 h, the rollout of 12 h"),
        (_twice, "has a block twice"),
        (_moved, "does not begin where blocks of this stage do"),
        (_lost, "the blocks have 3600 pairs, 3600 with labels; the totals are 4000 and 4000"),
        (lambda one: one.model_copy(update={"blocks": ()}), "the blocks have 0 pairs"),
    ],
)
def test_evidence_that_contradicts_itself_is_inconclusive(broken: Any, text: str) -> None:
    reason = said(broken(look()))
    assert reason.verdict is Verdict.INCONCLUSIVE
    assert text in reason.text


def test_more_labels_in_blocks_than_in_windows_is_inconclusive() -> None:
    evidence = look("canary")
    more = tuple(one.model_copy(update={"requests": 10**6, "labelled": 10**6}) for one in evidence.blocks)
    assert "the blocks have 10000000 labels" in said(evidence.model_copy(update={"blocks": more})).text


# -- from rows --------------------------------------------------------------------------------------------------------


def _world(days: int, seed: int) -> pl.DataFrame:
    """Requests of both models, hour by hour; some days surprise both."""
    rng = np.random.default_rng(seed)
    n = days * 24 * 10
    hours = np.sort(rng.uniform(0, days * 24, n))
    risk = rng.normal(-1, 1, n)
    storm = np.repeat(rng.normal(0, 1, days), 24 * 10)
    label = (rng.random(n) < 1 / (1 + np.exp(-risk - storm))).astype(np.float64)
    stable, candidate = (1 / (1 + np.exp(-risk * scale - rng.normal(0, 0.2, n))) for scale in (1.0, 0.8))
    return pl.DataFrame({"hours": hours, "label": label, "stable": stable, "candidate": candidate})


def _rows(world: pl.DataFrame, *, mirrored: bool, rollout: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    times = [BEGIN + timedelta(hours=hour) for hour in world["hours"]]
    names = pl.Series([f"r{number:06d}" for number in range(world.height)])
    sides, mine = [], pl.Series(np.arange(world.height) % 4 == 0)
    for route, digest, column, here in (
        ("shadow" if mirrored else "candidate", B, "candidate", mine | mirrored),
        ("stable", A, "stable", ~mine | mirrored),
    ):
        frame = pl.DataFrame({"request_id": names, "event_time": times, "score": world[column]}).filter(here)
        sides.append(
            frame.with_columns(
                route=pl.lit(route),
                digest=pl.lit(digest),
                status=pl.lit(200),
                latency_ms=pl.lit(2.0),
                features=pl.lit("{}"),
                missing=pl.lit(0),
                stale=pl.lit(0),
                keys=pl.lit("{}"),
                rollout=pl.lit(rollout),
            )
        )
    known = [time + timedelta(hours=1) for time in times]
    return pl.concat(sides), pl.DataFrame({"example_id": names, "label": world["label"], "label_time": known})


def _collected(world: pl.DataFrame, stage: str, days: int) -> Evidence:
    state = state_in(stage, since=iso(BEGIN))
    rows, labels = _rows(world, mirrored=stage == "shadow", rollout=state.rollout or "")
    applied = Applied.of("1" * 40, state)
    now = BEGIN + timedelta(days=days)
    return collect_evidence(rows, labels, state, applied, {}, now=now, label_maturity_hours=6, block_hours=HOURS)


def _by_day(hours: Floats, values: Floats) -> Floats:
    return np.bincount((hours // 24).astype(np.int64), values).astype(np.float64)


def test_rows_and_an_evaluation_lead_to_the_interval_by_hand() -> None:
    past, world = _world(60, 1), _world(10, 2)
    labels, hours, stable, candidate = (past[name].to_numpy() for name in ("label", "hours", "stable", "candidate"))
    ours, theirs = (ScoredModel.of("m", scores, 0.5) for scores in (candidate, stable))
    histories, shortest = loss_histories(Yardstick(), labels.astype(np.int64), hours, ours, theirs, A)
    assert shortest in {one.hours for one in histories}
    assert {one.hours for one in histories} >= {1, 12, 24}
    loss = {side: log_losses(labels, past[side].to_numpy()) for side in ("stable", "candidate")}
    residual, stretch = calibration_covariates(labels, stable).values()
    each = (np.ones(past.height), loss["candidate"] - loss["stable"], residual, stretch)
    counts, judged, *columns = (_by_day(hours, values) for values in each)
    means = np.stack(columns) / counts
    fit = np.linalg.lstsq(np.c_[np.ones(60), means.T], judged / counts, rcond=None)[0]
    daily = next(one for one in histories if one.hours == 24).adjustment
    assert daily is not None
    assert daily.slopes == pytest.approx(fit[1:], abs=0.05)
    recorded = {"histories": [one.model_dump(mode="json") for one in histories]}
    evidence = with_history(_collected(world, "shadow", 10), recorded)
    (mine,) = (one for one in histories if one.hours == HOURS)
    assert evidence.history == mine
    assert mine.design_effect > 3
    reason = said(evidence, by_block(label_maturity_hours=6))

    whole = world.filter(pl.col("hours") < 228)  # 19 blocks; the last one's labels are not due
    place = (whole["hours"].to_numpy() // HOURS).astype(np.int64)
    loss = {side: log_losses(whole["label"].to_numpy(), whole[side].to_numpy()) for side in ("stable", "candidate")}
    covariates = calibration_covariates(whole["label"].to_numpy(), whole["stable"].to_numpy())
    values = (np.ones(whole.height), loss["candidate"] - loss["stable"], *covariates.values())
    counts, judged, *columns = (np.bincount(place, each).astype(np.float64) for each in values)
    blocks = BlockSums(counts, judged, np.stack(columns, axis=1), tuple(covariates))
    shared = block_intervals(block_history(mine), blocks, 0.05, 0.05).shared
    assert reason.blocks == 19
    assert reason.n == whole.height
    ends = [reason.observed, reason.low, reason.high]
    assert ends == pytest.approx([float(end[-1]) for end in shared], abs=1e-9)


@pytest.mark.parametrize("stage", ["shadow", "canary"])
def test_blocks_go_by_way_of_series(stage: str) -> None:
    evidence = _collected(_world(3, 3), stage, 3)
    assert len(evidence.blocks) == 6
    assert all(one.weight > 0 for one in evidence.blocks)
    read = part_of_points(PointIndex(point for _, point in points_of(evidence)))
    assert (read["block_hours"], read["blocks"]) == (evidence.block_hours, evidence.blocks)


def test_rows_after_a_look_change_nothing_that_it_said() -> None:
    world = _world(6, 4)
    early, late = (_collected(world, "canary", days) for days in (4, 6))
    whole = early.blocks[:-1]  # the last block's labels were still coming
    assert late.blocks[: len(whole)] == whole


@pytest.mark.parametrize("recorded", [{}, {"histories": []}, {"histories": [{"hours": 3}]}, {"histories": "many"}])
def test_a_record_without_a_history_gives_none(recorded: dict[str, Any]) -> None:
    evidence = with_history(look(history=None), recorded)
    assert evidence.history is None
    assert bool(evidence.problems) == (recorded.get("histories") not in (None, []))


def test_a_block_that_the_policy_names_must_fit_into_the_stage() -> None:
    policy = policy_with("shadow", GUARDRAIL).model_dump(mode="json", exclude_unset=True)
    policy["online"] |= {"block_hours": 24, "design_effect": None}  # 72 hours of shadow, labels due after 6
    with pytest.raises(ValueError, match="3 blocks and their labels take 78 hours, shadow ends after 72"):
        GatePolicy.model_validate(policy)
    policy["online"] |= {"block_hours": 20}
    assert GatePolicy.model_validate(policy).online.block_hours == 20


def test_a_slice_of_few_requests_a_block_depends_less_than_the_whole() -> None:
    past = _world(60, 3)
    labels, hours, stable, candidate = (past[name].to_numpy() for name in ("label", "hours", "stable", "candidate"))
    ours, theirs = (ScoredModel.of("m", scores, 0.5) for scores in (candidate, stable))
    every = np.arange(past.height)
    slices = {"size=all": every, "size=tenth": every[::10], "size=none": every[:1]}
    yardstick = Yardstick()
    found, _ = loss_histories(yardstick, labels.astype(np.int64), hours, ours, theirs, A, slices=slices)
    daily = next(one for one in found if one.hours == 24)
    assert [one.slice for one in daily.slices] == ["size=all", "size=tenth"]
    assert daily.effect_of("size=all") == pytest.approx(daily.design_effect)
    assert 1 <= daily.effect_of("size=tenth") < daily.design_effect / 3
    assert daily.effect_of("size=none") == daily.design_effect
