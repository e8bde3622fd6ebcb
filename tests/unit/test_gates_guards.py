"""Guards over all that evidence can hold: each number and each moment, found by walking it, is spoilt in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from sluice.documents.evidence import (
    LABEL_DELAY_BOUNDS_S,
    LATENCY_BOUNDS_MS,
    Arm,
    Cells,
    Evidence,
    Histogram,
    Imputed,
    LabelDelays,
    LossBlock,
    Moments,
    Pairs,
    Share,
    SliceEvidence,
    Source,
    Stratum,
    Timings,
)
from sluice.documents.loss_history import ArmVariances, LossHistory
from sluice.documents.minutes import MinuteCounts, Minutes, MinuteSums, RefusalCounts
from sluice.documents.verdict import Verdict
from sluice.gates.guards import refusals
from sluice.rollout.advance import advance
from tests.support.loss_blocks import HOURS, history
from tests.support.release import LATE, NOW, POLICY, SINCE, A, B, arm, evidence_of, failing, passing, state_in

STATE = state_in("canary")
_M = Moments(n=500, mean=0.4, variance=0.1)
_BINS = Histogram(counts=(0,) * 20 + (500,) + (0,) * (len(LATENCY_BOUNDS_MS) - 20))
_IMPUTED = Imputed(every=_M, rectifier=_M)
_STRATUM = Stratum(window=SINCE, candidate=_M, stable=_M, candidate_imputed=_IMPUTED, stable_imputed=_IMPUTED)

_BLOCK = LossBlock(
    start=SINCE,
    requests=500,
    labelled=400,
    weight=400,
    difference=3.0,
    sampling=0.1,
    covariates={"residual": 0.2},
    shift=20.0,
    same=480,
)


_SUMS = MinuteSums(counts=1250.0, values=3.0, products=6.0)
_REFUSALS = RefusalCounts(minutes=200, requests=493, refused=3, sums=_SUMS)
_MINUTES = MinuteCounts(
    minutes=200, requests=490, errors=3, sums=_SUMS, failing=1, path_requests=10, path_errors=9, refusals=_REFUSALS
)


def _history() -> LossHistory:
    known = history()
    assert known.adjustment is not None
    arms = ArmVariances(candidate=0.2, stable=0.2, adjusted=0.1)
    adjustment = known.adjustment.model_copy(update={"arms": arms})
    times = {"first": "2019-06-01T00:00:00Z", "last": "2019-08-01T00:00:00Z"}
    return known.model_copy(update={"adjustment": adjustment, **times})


def _full() -> Evidence:
    """Evidence in which nothing is left out."""
    delays = LabelDelays(counts=(0,) * len(LABEL_DELAY_BOUNDS_S) + (500,), seconds=2e9)
    counted = {"restarts": 1, "hours": 24.0, "delays": delays}
    return evidence_of(
        STATE,
        candidate=arm(B, 4000).model_copy(update=counted),
        stable=arm(A, 36_000).model_copy(update=counted),
        recent=(900, 100),
        strata=(_STRATUM,),
        pairs=Pairs(shift=_M, loss=_M, agreement=Share(n=500, hits=490)),
        cells=Cells(compared=900, different=1, worst="speed"),
        timings=Timings(
            candidate=_M,
            stable=_M,
            difference=_M,
            candidate_bins=_BINS,
            stable_bins=_BINS,
            candidate_minutes=_SUMS,
            stable_minutes=_SUMS,
        ),
        slices={
            "colour=red": SliceEvidence(
                candidate=Share(n=90, hits=1), stable=Share(n=90, hits=1), strata=(_STRATUM,), pairs=_M
            )
        },
        sources=(Source(name="prometheus", query="up", first=SINCE, last=NOW, taken=NOW, n=12),),
        block_hours=HOURS,
        blocks=(_BLOCK,),
        history=_history(),
        minutes=Minutes(candidate=_MINUTES, stable=_MINUTES, both_failing=1),
    )


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every leaf of a document, by the attributes, keys and indices that lead to it."""
    if isinstance(value, BaseModel):
        parts: Any = [(name, getattr(value, name)) for name in type(value).model_fields]
    elif isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, tuple):
        parts = enumerate(value)
    else:
        yield at, value
        return
    for key, part in parts:
        yield from _places(part, (*at, key))


def _spoilt(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    key, *rest = at
    if isinstance(value, BaseModel):
        return value.model_copy(update={key: _spoilt(getattr(value, key), tuple(rest), new)})
    if isinstance(value, dict):
        return value | {key: _spoilt(value[key], tuple(rest), new)}
    return tuple(_spoilt(part, tuple(rest), new) if index == key else part for index, part in enumerate(value))


NUMBERS = [at for at, value in _places(_full()) if isinstance(value, float) or (type(value) is int)]
MOMENTS = [at for at, value in _places(_full()) if value in (SINCE, NOW) and at not in (("now",), ("since",))]


def test_the_sample_leaves_nothing_out_and_passes() -> None:
    full = _full()
    empty = [at for at, value in _places(full) if value is None]
    assert not empty
    assert all(full.__dict__[name] not in ((), {}) for name in ("slices", "sources", "strata", "skew"))
    assert refusals(full, STATE, POLICY, NOW) == ()
    kinds = {
        "slices",
        "timings",
        "minutes",
        "strata",
        "pairs",
        "candidate",
        "skew",
        "sources",
        "cells",
        "split",
        "applied",
    }
    assert kinds <= {at[0] for at in NUMBERS}
    assert {"candidate", "stable", "strata", "slices", "sources"} <= {at[0] for at in MOMENTS}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_no_number_anywhere_may_be_none(number: float) -> None:
    spoilt = {".".join(str(key) for key in at): _spoilt(_full(), at, number) for at in NUMBERS}
    assert len(spoilt) == len(NUMBERS) > 100
    found = {name: refusals(evidence, STATE, POLICY, NOW) for name, evidence in spoilt.items()}
    assert {reason.verdict for reasons in found.values() for reason in reasons} == {Verdict.INCONCLUSIVE}
    texts = {name: [one.text for one in reasons if one.rule == "evidence.finite"] for name, reasons in found.items()}
    assert [name for name in spoilt if f"{name} is {number}" not in texts[name]] == []


@pytest.mark.parametrize("at", MOMENTS, ids=lambda at: ".".join(str(key) for key in at))
@pytest.mark.parametrize("moment", ["2020-01-02T00:00:00.5Z", "2020-01-02T00:00:01Z", "2021-01-01T00:00:00Z"])
def test_no_moment_anywhere_may_lie_ahead(at: tuple[Any, ...], moment: str) -> None:
    found = refusals(_spoilt(_full(), at, moment), STATE, POLICY, NOW)
    assert [reason.rule for reason in found] == ["evidence.future"]
    assert moment in found[0].text


@pytest.mark.parametrize(("key", "what"), [("taken", "was asked is 13"), ("last", "was asked about is 13")])
def test_a_source_that_is_old_is_named(key: str, what: str) -> None:
    old = _spoilt(_full(), ("sources", 0, key), "2020-01-01T11:00:00Z")
    (reason,) = refusals(old, STATE, POLICY, NOW)
    assert reason.rule == "evidence.age"
    assert f"prometheus {what}" in reason.text


def _with_last(evidence: Evidence, **last: str | None) -> Evidence:
    arms = {side: evidence.arms[side].model_copy(update={"last": moment}) for side, moment in last.items()}
    return evidence.model_copy(update=arms)


DAY_BEFORE = "2020-01-01T00:00:00Z"


@pytest.mark.parametrize("stage", ["bootstrap", "shadow", "canary", "confirm"])
def test_a_candidate_that_fell_silent_is_not_passed_on(stage: str) -> None:
    state = state_in(stage)
    evidence = _with_last(passing(state), candidate=DAY_BEFORE)
    if stage == "bootstrap":  # nobody else answers, so nothing is known at all
        assert [reason.rule for reason in refusals(evidence, state, POLICY, NOW)] == ["evidence.age"]
        return
    advice = advance(state, evidence, POLICY, NOW)
    assert (advice.action, advice.verdict) == ("wait", Verdict.INCONCLUSIVE)
    (text,) = [reason.text for reason in advice.reasons if reason.rule == "flow"]
    assert text.startswith("the newest request to candidate is 24 hours old, at most 12 are allowed")


@pytest.mark.parametrize("stage", ["shadow", "canary"])
@pytest.mark.parametrize("last", [DAY_BEFORE, None])
def test_a_silent_stable_is_not_compared_with(stage: str, last: str | None) -> None:
    state = state_in(stage)
    advice = advance(state, _with_last(passing(state), stable=last), POLICY, NOW)
    assert (advice.action, advice.verdict) == ("wait", Verdict.INCONCLUSIVE)
    assert any(reason.rule == "flow" and "stable" in reason.text for reason in advice.reasons)


def test_a_side_without_weight_may_be_silent() -> None:
    state = state_in("confirm")
    assert advance(state, _with_last(passing(state), stable=DAY_BEFORE), POLICY, NOW).action == "confirm"


@pytest.mark.parametrize(
    ("stage", "recent"),
    [("confirm", (300, 3000)), ("confirm", (40, 0)), ("canary", (300, 0)), ("shadow", (200, 100)), ("canary", (0, 60))],
)
def test_requests_since_the_last_look_went_as_decided(stage: str, recent: tuple[int, int]) -> None:
    state = state_in(stage)
    evidence = passing(state)
    assert advance(state, evidence, POLICY, NOW).verdict is Verdict.PASS
    advice = advance(state, evidence.model_copy(update={"recent": recent}), POLICY, NOW)
    assert (advice.action, advice.verdict) == ("wait", Verdict.INCONCLUSIVE)
    (text,) = [reason.text for reason in advice.reasons if reason.rule == "flow"]
    assert f"{recent[1]} of {sum(recent)} requests since the last look" in text


def test_where_nobody_counts_since_the_last_look_all_of_the_stage_counts() -> None:
    """All of 3,000 requests went to stable in a stage that does not ask for the split."""
    state = state_in("confirm")
    advice = advance(state, evidence_of(state, split=(3000, 4000)), POLICY, NOW)
    assert advice.verdict is Verdict.INCONCLUSIVE
    assert any("4000 of 7000 requests of this stage were sent" in reason.text for reason in advice.reasons)


def test_what_a_silent_candidate_answered_may_fail_it() -> None:
    state = state_in("confirm")
    advice = advance(state, _with_last(failing(state), candidate=DAY_BEFORE, stable=NOW), POLICY, NOW)
    assert (advice.action, advice.verdict) == ("rollback", Verdict.FAIL)


@pytest.mark.parametrize("make", [passing, failing])
def test_a_look_with_a_problem_says_nothing_but_that(make: Any) -> None:
    problems = ("prometheus: connection refused", "prometheus: two series for one digest")
    evidence = make(STATE).model_copy(update={"problems": problems})
    advice = advance(STATE, evidence, POLICY, NOW)
    assert (advice.action, advice.verdict) == ("wait", Verdict.INCONCLUSIVE)
    assert [(reason.rule, reason.text) for reason in advice.reasons] == [
        ("evidence.problem", problem) for problem in problems
    ]
    assert advance(STATE, evidence, POLICY, LATE).action == "time-out"


def test_documents_keep_every_number_of_the_sample() -> None:
    full = _full()
    assert Evidence.model_validate_json(full.model_dump_json()) == full
    assert set(Arm.model_fields) <= {at[1] for at, _ in _places(full) if at[0] == "candidate"}
