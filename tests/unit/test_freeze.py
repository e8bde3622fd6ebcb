"""A freeze stops what goes forward, and nothing that goes back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from sluice.documents.event_time import iso, moment_of
from sluice.documents.verdict import Verdict
from sluice.errors import BadInput
from sluice.gates.freeze import Freeze, frozen_hours, standing
from sluice.gates.policy import GatePolicy, parse_policy
from sluice.rollout.advance import advance, propose
from sluice.rollout.terms import deadline_of
from tests.support.policy import policy_with, seen
from tests.support.release import GOOD, POLICY, POLICY_TEXT, A, evidence_of, snapshot_of, state_in

XMAS = Freeze(first="12-24", last="12-26", reason="end of the year")
SINCE = "2026-12-23T00:00:00Z"


def _policy(*freezes: Freeze, policy: GatePolicy = POLICY) -> GatePolicy:
    return policy.model_copy(update={"freeze": freezes})


def _moment(text: str) -> datetime:
    return moment_of(text)


@pytest.mark.parametrize(
    ("first", "last", "now", "until"),
    [
        ("12-24", "12-26", "2026-12-23T23:59:59Z", None),
        ("12-24", "12-26", "2026-12-24T00:00:00Z", "2026-12-27T00:00:00Z"),
        ("12-24", "12-26", "2031-12-26T23:59:59Z", "2031-12-27T00:00:00Z"),
        ("12-24", "12-26", "2026-12-27T00:00:00Z", None),
        ("12-30", "01-02", "2026-12-31T12:00:00Z", "2027-01-03T00:00:00Z"),
        ("12-30", "01-02", "2027-01-02T12:00:00Z", "2027-01-03T00:00:00Z"),
        ("12-30", "01-02", "2027-01-03T00:00:00Z", None),
        ("2026-11-27", "2026-11-30", "2026-11-30T23:00:00Z", "2026-12-01T00:00:00Z"),
        ("2026-11-27", "2026-11-30", "2027-11-28T00:00:00Z", None),
        ("2026-11-27", "2026-11-27", "2026-11-27T01:00:00Z", "2026-11-28T00:00:00Z"),
    ],
)
def test_it_stands_from_the_first_day_through_the_last(first: str, last: str, now: str, until: str | None) -> None:
    found = standing((Freeze(first=first, last=last, reason="x"),), _moment(now))
    assert (found and iso(found[1])) == until


def test_of_two_the_one_that_ends_last_is_told() -> None:
    longer = Freeze(first="12-20", last="12-31", reason="a longer one")
    found = standing((XMAS, longer, XMAS), _moment("2026-12-25T00:00:00Z"))
    assert found == (longer, _moment("2027-01-01T00:00:00Z"))


@pytest.mark.parametrize(
    ("freezes", "hours"),
    [((), 0), ((XMAS,), 72), ((XMAS, XMAS), 72), ((XMAS, Freeze(first="12-26", last="12-28", reason="x")), 120)],
)
def test_frozen_hours_count_once(freezes: tuple[Freeze, ...], hours: float) -> None:
    assert frozen_hours(freezes, _moment(SINCE), _moment("2027-02-01T00:00:00Z")) == hours
    assert frozen_hours(freezes, _moment(SINCE), _moment("2026-12-24T06:00:00Z")) == min(hours, 6)


@pytest.mark.parametrize(
    ("first", "last", "says"),
    [
        ("12-24", "2026-12-26", "name the year in both or in neither"),
        ("2026-12-24", "2026-12-23", "before first"),
        ("02-29", "03-01", "02-29 is not a day of every year"),
        ("2026-02-29", "2026-03-01", "2026-02-29 is not a day of the calendar"),
        ("24.12.", "26.12.", "pattern"),
    ],
)
def test_a_freeze_that_is_none_is_refused(first: str, last: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Freeze(first=first, last=last, reason="x")


def test_the_policy_names_it_with_its_line() -> None:
    text = POLICY_TEXT.replace(
        b"select: {}", b"select: {}\nfreeze:\n- {first: 2026-12-24, last: 2026-12-26, reason: x}"
    )
    assert parse_policy(text, "policy").freeze == (Freeze(first="2026-12-24", last="2026-12-26", reason="x"),)
    with pytest.raises(BadInput, match=r"policy, line 8: freeze.0: last is 2025-12-26, before first"):
        parse_policy(text.replace(b"last: 2026", b"last: 2025"), "policy")


STAGES = ("bootstrap", "shadow", "preview", "canary", "confirm")
BLUE = policy_with(shadow={}, blue_green={})


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_goes_forward_in_a_freeze_and_everything_after_it(stage: str) -> None:
    policy = _policy(XMAS, policy=BLUE if stage == "preview" else POLICY)
    state = state_in(stage, since=SINCE)
    for now, action in (("2026-12-24T00:00:00Z", "wait"), ("2026-12-26T18:00:00Z", "wait")):
        advice = advance(state, seen("PASS", state, now), policy, now)
        assert (advice.action, advice.verdict, advice.after) == (action, Verdict.INCONCLUSIVE, state)
        assert [reason.rule for reason in advice.reasons if reason.verdict is not Verdict.PASS] == ["freeze"]
    now = "2026-12-27T00:00:00Z"
    assert advance(state, seen("PASS", state, now), policy, now).verdict is Verdict.PASS


@pytest.mark.parametrize("stage", ["bootstrap", "shadow", "canary", "confirm"])
@pytest.mark.parametrize("paused", [False, True])
def test_what_fails_is_rolled_back_in_a_freeze(stage: str, *, paused: bool) -> None:
    now = "2026-12-25T00:00:00Z"
    state = state_in(stage, since=SINCE, paused=paused and stage != "bootstrap")
    advice = advance(state, seen("FAIL", state, now), _policy(XMAS), now)
    assert (advice.action, advice.after.candidate) == ("rollback", None)


@pytest.mark.parametrize("stage", ["bootstrap", "shadow", "canary", "confirm"])
@pytest.mark.parametrize("paused", [False, True])
def test_the_clock_of_a_stage_stands_still(stage: str, *, paused: bool) -> None:
    """72 hours from the 23rd would end in the freeze; they end 72 hours later."""
    policy = _policy(XMAS)
    state = state_in(stage, since=SINCE, paused=paused and stage != "bootstrap")
    assert deadline_of(state, POLICY) == "2026-12-26T00:00:00Z"
    assert deadline_of(state, policy) == "2026-12-29T00:00:00Z"
    for now, action in (("2026-12-28T23:00:00Z", "wait"), ("2026-12-29T00:00:00Z", "time-out")):
        assert advance(state, seen("INCONCLUSIVE", state, now), policy, now).action == action


def test_a_freeze_without_end_is_a_stage_without_deadline() -> None:
    always = Freeze(first="01-01", last="12-31", reason="x")
    assert deadline_of(state_in("canary", since=SINCE), _policy(always)) is None


def test_nothing_is_proposed_in_a_freeze() -> None:
    snapshot = snapshot_of(state_in("stable"), _policy(XMAS))
    digest = "sha256:" + "d" * 64
    made = propose(snapshot, digest, GOOD, {}, {}, "2026-12-25T00:00:00Z")
    assert (made.action, made.verdict, made.reasons[0].rule) == ("refuse", Verdict.INCONCLUSIVE, "freeze")
    assert "end of the year" in made.reasons[0].text
    assert propose(snapshot, digest, GOOD, {}, {}, "2026-12-27T00:00:00Z").action == "start-shadow"
    held: Any = propose(snapshot, A, GOOD, {}, {}, "2026-12-25T00:00:00Z")
    assert held.reasons[0].rule == "already-stable"


def test_evidence_is_not_needed_to_know_it() -> None:
    """Too little evidence in a freeze is told as such, beside it."""
    now = "2026-12-25T00:00:00Z"
    state = state_in("canary", since=SINCE)
    rules = {reason.rule for reason in advance(state, evidence_of(state, n=50, now=now), _policy(XMAS), now).reasons}
    assert {"freeze", "error_rate"} <= rules
