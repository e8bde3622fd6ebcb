"""Failures and latency by minute: what an outage proves, who is blamed for it, and what harm needs no proof."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from sluice.arrays import Floats
from sluice.documents.evidence import SIDES, Evidence, Histogram, Timings
from sluice.documents.minutes import Minutes
from sluice.documents.verdict import Reason, Verdict
from sluice.errors import BadInput
from sluice.evidence.collect import collect_evidence
from sluice.evidence.minutes import millisecond_sums, minute_columns, minutes_of
from sluice.gates.online import judge_look
from sluice.gates.policy import GatePolicy
from sluice.predictions.log import WINDOW_SCHEMA
from sluice.rollout.advance import advance
from tests.support.release import A, B, applied_of, arm, evidence_of, state_in
from tests.support.rules import bins, policy_with

LIMIT = "metric: error_rate, role: limit, limit: 0.01, stop_at: 10"
EACH = 140
"""Requests a minute of each side: 200,000 a day."""


def by_minute(*rules: str, **online: Any) -> GatePolicy:
    """Rules of a canary whose policy states no design effect."""
    policy = policy_with("canary", *rules)
    return policy.model_copy(update={"online": policy.online.model_copy(update={"design_effect": None, **online})})


class Hours:
    """Six hours of a service, minute by minute, (2, 360): candidate and stable."""

    def __init__(self, seed: int = 3, rate: float = 0.001, each: int = EACH, stable: float = 0.001) -> None:
        random = np.random.default_rng(seed)
        self.n = np.full((2, 360), float(each))
        self.errors = np.stack([random.binomial(each, one, 360) for one in (rate, stable)]).astype(np.float64)
        self.refused = np.zeros((2, 360))
        self.ms: Floats = random.normal(3 * each, 1.5 * np.sqrt(each), (2, 360))

    def fail(self, *sides: str, minutes: slice = slice(100, 101), share: float = 1.0) -> Hours:
        for side in sides:
            row = SIDES.index(side)
            self.errors[row, minutes] = np.round(share * self.n[row, minutes])
        return self

    def refuse(self, *sides: str, minutes: slice = slice(200, 201), share: float = 1.0) -> Hours:
        for side in sides:
            row = SIDES.index(side)
            self.refused[row, minutes] = np.round(share * self.n[row, minutes])
        return self

    def evidence(self, bins: Histogram | None = None, **changed: Any) -> Evidence:
        asked, ten = self.n + self.refused, np.arange(360) // 10
        sums = minute_columns(ten, self.n, self.errors, self.ms, asked, self.refused).sum(axis=1).tolist()
        counts = {"errors": self.errors, "refused": self.refused}
        arms = {
            side: arm(digest, int(asked[row].sum())).model_copy(
                update={name: int(table[row].sum()) for name, table in counts.items()}
            )
            for row, (side, digest) in enumerate(zip(SIDES, (B, A), strict=True))
        }
        means = {
            side: {"n": int(n.sum()), "mean": ms.sum() / n.sum(), "variance": 2.25}
            for side, n, ms in zip(SIDES, self.n, self.ms, strict=True)
        }
        timings = Timings.model_validate(means | millisecond_sums(sums) | {"candidate_bins": bins})
        values: dict[str, Any] = {**arms, "minutes": minutes_of(sums), "timings": timings, "split": (1, 1)} | changed
        return evidence_of(state_in("canary"), **values)


def said(evidence: Evidence, *rules: str, **online: Any) -> Reason:
    policy, state = by_minute(*(rules or (LIMIT,)), **online), state_in("canary")
    reasons = judge_look(evidence, policy.online.stages["canary"], policy, state)
    (reason,) = [one for one in reasons if one.rule not in ("minimum_n", "split")]
    return reason


# -- what is one event ------------------------------------------------------------------------------------------------


def test_an_outage_of_a_minute_is_one_event() -> None:
    alone = said(Hours().fail("candidate").evidence())
    assert alone.verdict is Verdict.INCONCLUSIVE
    assert alone.low is not None
    assert alone.low < 0.002
    assert (alone.high or 0) > 0.01
    assert "of a minute telling as much as one" in alone.text
    spread = Hours(rate=0.02)
    assert said(spread.evidence()).verdict is Verdict.FAIL  # as many again, but all day


def test_what_is_in_no_minute_is_one_of_its_own() -> None:
    evidence = Hours().evidence()
    assert evidence.candidate is not None
    now = evidence.candidate.model_copy(update={"n": evidence.candidate.n + EACH, "errors": 50 + EACH})
    reason = said(evidence.model_copy(update={"candidate": now}))  # an outage that has just begun
    assert reason.verdict is Verdict.INCONCLUSIVE
    assert (reason.high or 0) > 0.01


def test_healthy_minutes_cost_next_to_nothing() -> None:
    evidence = Hours().evidence()
    minute, request = said(evidence), said(evidence, design_effect=1.0)
    assert minute.verdict is request.verdict is Verdict.PASS
    assert (minute.high or 0) < 1.15 * (request.high or 0)


def test_an_outage_of_stable_promotes_nobody() -> None:
    rule = "metric: error_rate, role: guardrail, margin: 0.003"
    evidence = Hours(rate=0.004).fail("stable").evidence()
    assert said(evidence, rule).verdict is Verdict.INCONCLUSIVE
    assert said(evidence, rule, design_effect=1.0).verdict is Verdict.PASS


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("hours", [1, 6])
def test_one_answer_in_five_is_out_at_once(seed: int, hours: int) -> None:
    failing = Hours(seed, 0.2)
    failing.n, failing.errors, failing.ms = (
        np.where(np.arange(360) < 60 * hours, values, 0.0) for values in (failing.n, failing.errors, failing.ms)
    )
    assert said(failing.evidence(), "metric: error_rate, role: limit, limit: 0.01").verdict is Verdict.FAIL


def test_minutes_say_how_far_latencies_depend() -> None:
    rule = "metric: latency, role: limit, limit: 4"
    even, slow = Hours(), Hours()
    slow.ms[0, 40:44] *= 20
    calm, shaken = said(even.evidence(), rule), said(slow.evidence(), rule)
    assert calm.verdict is Verdict.PASS
    assert _width(shaken) > 20 * _width(calm)
    quantile = "metric: latency_p90, role: limit, limit: 50"
    sure, unsure = (said(hours.evidence(bins=bins(3.0, 20.0)), quantile) for hours in (even, slow))
    assert (sure.verdict, unsure.verdict) == (Verdict.PASS, Verdict.INCONCLUSIVE)


def _width(reason: Reason) -> float:
    assert reason.low is not None
    assert reason.high is not None
    return reason.high - reason.low


# -- who is blamed ----------------------------------------------------------------------------------------------------


def test_what_both_sides_share_blames_the_path() -> None:
    hours = slice(60, 120)
    shared, alone = Hours().fail(*SIDES, minutes=hours), Hours().fail("candidate", minutes=hours)
    reason = said(shared.evidence())
    assert reason.verdict is Verdict.PASS
    assert "60 minutes in which both sides failed blame the path" in reason.text
    assert said(alone.evidence()).verdict is Verdict.FAIL


def test_of_a_quiet_service_ten_minutes_are_looked_at() -> None:
    quiet = Hours(rate=0.0, each=1, stable=0.0)
    quiet.n[0, ::2] = 0
    quiet.n[1, 1::2] = 0  # never in the same minute
    quiet.errors[:, 60:120] = quiet.n[:, 60:120]
    minutes = quiet.evidence().minutes
    assert minutes is not None
    assert minutes.both_failing == 60
    assert (minutes.candidate and minutes.candidate.errors, minutes.stable and minutes.stable.errors) == (0, 0)


def test_a_path_that_always_fails_says_nothing() -> None:
    reason = said(Hours().fail(*SIDES, minutes=slice(0, 360)).evidence())
    assert (reason.verdict, reason.text) == (Verdict.INCONCLUSIVE, "no request was the candidate's to answer")


def test_a_stable_side_that_fails_a_little_excuses_no_candidate_that_is_down() -> None:
    reason = said(Hours(stable=0.15).fail("candidate", minutes=slice(0, 30)).evidence())
    assert reason.verdict is Verdict.FAIL
    assert "failed in 30 minutes" in reason.text


# -- harm -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("minutes", "stopped"), [(9, False), (10, True)])
def test_stop_at_counts_minutes(minutes: int, stopped: bool) -> None:
    rule = "metric: error_rate, role: limit, limit: 0.5, stop_at: 10"
    down = Hours().fail("candidate", minutes=slice(0, minutes))
    reason = said(down.evidence(), rule)
    assert (reason.verdict is Verdict.FAIL) is stopped
    state, policy = state_in("canary"), by_minute(rule)
    advice = advance(state, down.evidence(), policy, evidence_of(state).now)
    assert (advice.action == "rollback") is stopped
    assert not stopped or "alone failed in 10 minutes of 360, stop_at is 10" in advice.after.holds[-1].reason


def test_a_fifth_of_each_minutes_answers_is_harm_and_single_ones_are_not() -> None:
    rule = "metric: error_rate, role: limit, limit: 0.5, stop_at: 10"
    assert said(Hours(rate=0.2).evidence(), rule).observed == 360
    assert said(Hours(rate=0.01).evidence(), rule).verdict is Verdict.PASS


# -- evidence ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("metric: error_rate, role: limit, limit: 0.01", "counts requests, not minutes"),
        (LIMIT, "the evidence counts no minutes, and stop_at is 10 of them"),
        ("metric: latency, role: deterioration, relative_margin: 1", "counts requests, not minutes"),
        ("metric: latency_p99, role: deterioration, relative_margin: 1", "counts requests, not minutes"),
    ],
)
def test_evidence_of_before_is_inconclusive_by_name(rule: str, text: str) -> None:
    old = evidence_of(state_in("canary"))
    assert old.minutes is None
    assert "minutes" not in json.loads(old.model_dump_json())
    assert Evidence.model_validate_json(old.model_dump_json()).digest == old.digest
    reason = said(old, rule)
    assert reason.verdict is Verdict.INCONCLUSIVE
    assert text in reason.text
    stated = said(old, rule, design_effect=1.0)
    assert (stated.verdict is Verdict.INCONCLUSIVE) is ("stop_at" in rule)


def test_minutes_that_do_not_add_up_are_named() -> None:
    evidence = Hours().evidence()
    assert evidence.candidate is not None
    fewer = evidence.model_copy(update={"candidate": evidence.candidate.model_copy(update={"n": 400})})
    reason = said(fewer)
    assert reason.verdict is Verdict.INCONCLUSIVE
    assert "the minutes have 50400 requests" in reason.text


def test_rows_are_cut_at_minutes() -> None:
    since, state = datetime(2020, 1, 1, tzinfo=UTC), state_in("canary")
    rows = [
        {
            "request_id": f"{digest[7]}{minute}-{second}",
            "event_time": since + timedelta(minutes=minute, seconds=second),
            "route": route,
            "digest": digest,
            "score": 0.5,
            "status": 500 if minute == 3 or (digest == B and minute == 15) else 200,
            "latency_ms": float(minute),
            "features": "{}",
            "keys": "{}",
            "rollout": state.rollout,
        }
        for digest, route in ((A, "stable"), (B, "candidate"))
        for minute in range(20)
        for second in (0, 30, 59)
    ]
    labels = pl.DataFrame(schema={"example_id": pl.String, "label": pl.Int8, "label_time": pl.Datetime("us", "UTC")})
    frame = pl.DataFrame(rows, schema=dict(WINDOW_SCHEMA))
    now = since + timedelta(hours=1)
    found = collect_evidence(frame, labels, state, applied_of(state), {}, now=now, label_maturity_hours=6)
    minutes: Minutes | None = found.minutes
    assert minutes is not None
    candidate, stable = minutes.candidate, minutes.stable
    assert candidate is not None
    assert stable is not None
    assert (minutes.both_failing, candidate.failing, stable.failing) == (1, 1, 0)
    assert (candidate.minutes, candidate.requests, candidate.errors, candidate.path_errors) == (19, 57, 3, 3)
    assert (candidate.sums.counts, candidate.sums.values, candidate.sums.products) == (19 * 9, 9, 9)
    sums = found.timings.candidate_minutes
    assert sums is not None
    assert (sums.counts, sums.products) == (180, 9 * sum(range(20)))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("metric: log_loss, role: guardrail, margin: 0.1, stop_at: 3", "log_loss as guardrail takes no stop_at"),
        ("metric: error_rate, role: limit, limit: 0.1, stop_at: 0", "greater than or equal to 1"),
        ("metric: error_rate, role: limit, limit: 0.1, per_slice: true, stop_at: 3", "whatever the slice"),
    ],
)
def test_a_stop_that_means_nothing_is_refused(rule: str, text: str) -> None:
    with pytest.raises(BadInput, match=text):
        policy_with("canary", rule)


# -- refusals ---------------------------------------------------------------------------------------------------------

REFUSALS = "metric: refusal_rate, role: deterioration, margin: 0.002"


def test_a_burst_of_refusals_is_one_event() -> None:
    burst = said(Hours().refuse("candidate", minutes=slice(200, 203)).evidence(), REFUSALS)
    assert burst.verdict is Verdict.PASS  # not shown worse: three minutes are three events
    assert "420 of 50820 requests were refused (" in burst.text
    assert "of a minute telling as much as one)" in burst.text
    spread = said(Hours().refuse("candidate", minutes=slice(0, 360), share=0.0083).evidence(), REFUSALS)
    assert spread.verdict is Verdict.FAIL  # 360 of 50,760, all day
    assert "telling" not in spread.text


@pytest.mark.parametrize("sides", [("stable",), ("candidate", "stable")])
def test_a_burst_at_stable_shows_nobody_better(sides: tuple[str, ...]) -> None:
    rule = "metric: refusal_rate, role: guardrail, margin: 0.001"
    hours = Hours().refuse("candidate", minutes=slice(0, 360), share=0.0083).refuse(*sides, minutes=slice(50, 52))
    assert said(hours.evidence(), rule).verdict is Verdict.INCONCLUSIVE


def test_who_refuses_in_every_minute_is_not_excused_by_clients_who_always_err() -> None:
    hours = Hours().refuse("candidate", minutes=slice(0, 360), share=0.06)
    hours.refuse("stable", minutes=slice(0, 360), share=0.03)
    assert said(hours.evidence(), REFUSALS).verdict is Verdict.FAIL


def test_refusals_that_nobody_counted_by_minute_wait() -> None:
    evidence = Hours().refuse("candidate").evidence(minutes=None)
    assert said(evidence, REFUSALS).verdict is Verdict.INCONCLUSIVE
    assert "count" in said(evidence, REFUSALS).text
    assert said(evidence, REFUSALS, design_effect=1.0).verdict is not Verdict.INCONCLUSIVE
    nothing = Hours().evidence(minutes=None)
    assert said(nothing, REFUSALS).verdict is Verdict.PASS


def test_minutes_with_more_refusals_than_there_were_are_refused() -> None:
    evidence = Hours().refuse("candidate").evidence()
    assert evidence.candidate is not None
    fewer = evidence.candidate.model_copy(update={"refused": 3})
    reason = said(evidence.model_copy(update={"candidate": fewer}), REFUSALS)
    assert reason.verdict is Verdict.INCONCLUSIVE
    assert "50540 requests, 140 of them refused" in reason.text
