"""The rollout's rules: a table of every stage and verdict, and what no sequence of looks may ever do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.documents.evidence import Cells, Moments, Pairs, Timings
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Verdict
from sluice.rollout.advance import advance, look, propose
from tests.support.release import (
    BAD,
    GOOD,
    HOLD,
    LATE,
    NOW,
    POLICY,
    SINCE,
    STAGES,
    A,
    B,
    C,
    applied_of,
    arm,
    evidence_of,
    failing,
    passing,
    snapshot_of,
    state_in,
    unclear,
)

_MAKE = {"PASS": passing, "FAIL": failing, "INCONCLUSIVE": unclear}


@pytest.mark.parametrize(
    ("stage", "step", "verdict", "action", "after", "weights", "held"),
    [
        ("bootstrap", 0, "PASS", "confirm", "drain", (100, 0), False),
        ("bootstrap", 0, "FAIL", "rollback", "empty", (0, 0), True),
        ("bootstrap", 0, "INCONCLUSIVE", "wait", "bootstrap", (0, 100), False),
        ("shadow", 0, "PASS", "set-weight", "canary", (90, 10), False),
        ("shadow", 0, "FAIL", "rollback", "drain", (100, 0), True),
        ("shadow", 0, "INCONCLUSIVE", "wait", "shadow", (100, 0), False),
        ("canary", 0, "PASS", "set-weight", "canary", (50, 50), False),
        ("canary", 0, "FAIL", "rollback", "drain", (100, 0), True),
        ("canary", 0, "INCONCLUSIVE", "wait", "canary", (90, 10), False),
        ("canary", 1, "PASS", "promote", "confirm", (0, 100), False),
        ("canary", 1, "FAIL", "rollback", "drain", (100, 0), True),
        ("confirm", 0, "PASS", "confirm", "drain", (100, 0), False),
        ("confirm", 0, "FAIL", "rollback", "drain", (100, 0), True),
        ("confirm", 0, "INCONCLUSIVE", "wait", "confirm", (0, 100), False),
    ],
)
def test_every_stage_and_verdict(  # noqa: PLR0917  one argument a column of the table
    stage: str, step: int, verdict: str, action: str, after: str, weights: tuple[int, int], held: bool
) -> None:
    state = state_in(stage, step)
    advice = advance(state, _MAKE[verdict](state), POLICY, NOW)
    assert (advice.action, advice.verdict, advice.after.stage) == (action, verdict, after)
    assert (advice.after.stable_weight, advice.after.candidate_weight) == weights
    assert (advice.after.held(B) is not None) == held
    assert advice.after.leftover == (B if after == "drain" else None)
    assert (advice.after == state) == (action == "wait")


@pytest.mark.parametrize("stage", STAGES)
def test_time_runs_out_and_nothing_is_held(stage: str) -> None:
    state = state_in(stage)
    advice = advance(state, unclear(state), POLICY, LATE)
    assert (advice.action, advice.verdict) == ("time-out", Verdict.INCONCLUSIVE)
    assert advice.after.stage == ("empty" if stage == "bootstrap" else "drain")
    assert advice.after.holds == ()
    assert advice.reasons[-1].rule == "maximum_hours"
    assert "timed out" in advice.reasons[-1].text


def test_confirmed_candidate_becomes_stable_and_the_failed_one_never_does() -> None:
    state = state_in("confirm")
    assert advance(state, passing(state), POLICY, NOW).after.stable == B
    assert advance(state, failing(state), POLICY, NOW).after.stable == A


@pytest.mark.parametrize(
    "wrong",
    [
        {"candidate_weight": 0},
        {"mirror_percent": 3},
        {"stable": None, "candidate": C},
        {"stable": C, "stable_weight": 5},
    ],
)
@pytest.mark.parametrize("make", [passing, failing])
def test_nothing_is_read_before_the_state_is_applied(wrong: dict[str, Any], make: Any) -> None:
    state = state_in("canary")
    evidence = make(state).model_copy(update={"applied": applied_of(state, **wrong)})
    advice = advance(state, evidence, POLICY, NOW)
    assert (advice.action, [reason.rule for reason in advice.reasons]) == ("wait", ["applied"])
    assert advance(state, evidence, POLICY, LATE).action == "time-out"


@pytest.mark.parametrize(
    "other",
    [state_in("canary", 1), state_in("shadow"), state_in("canary", rollout="r0009-b"), state_in("canary", candidate=C)],
)
def test_evidence_of_another_stage_moves_nothing(other: ReleaseState) -> None:
    advice = advance(state_in("canary"), failing(other), POLICY, NOW)
    assert (advice.action, advice.verdict) == ("wait", Verdict.INCONCLUSIVE)


@pytest.mark.parametrize("stage", ["empty", "stable"])
def test_between_rollouts_there_is_nothing_to_do(stage: str) -> None:
    state = state_in(stage)
    assert advance(state, evidence_of(state), POLICY, LATE).action == "wait"


@pytest.mark.parametrize(
    ("stage", "changed", "rule", "verdict", "held"),
    [
        ("canary", {"split": (9000, 2000)}, "split", "FAIL", False),
        ("shadow", {"split": (500, 3500)}, "split", "FAIL", False),
        ("shadow", {"skew_n": 250, "skew": {"speed": 0.7, "colour": 0.1}}, "skew[speed]", "FAIL", True),
        ("shadow", {"skew_n": 150, "skew": {"speed": 0.7}}, "skew[speed]", "INCONCLUSIVE", False),
        ("canary", {"cells": Cells(compared=900, different=90, worst="speed")}, "parity", "FAIL", True),
        ("canary", {"cells": None}, "parity", "INCONCLUSIVE", False),
        ("canary", {"candidate": arm(B, 499)}, "minimum_n", "INCONCLUSIVE", False),
        ("canary", {"foreign": 3}, "digest", "INCONCLUSIVE", False),
        ("canary", {"strata": ()}, "log_loss", "INCONCLUSIVE", False),
        (
            "shadow",
            {"pairs": Pairs(shift=Moments(n=900, mean=0.5, variance=0.01), loss=None)},
            "score_shift",
            "FAIL",
            True,
        ),
        (
            "confirm",
            {"candidate": arm(B, 4000).model_copy(update={"labelled": 3000})},
            "label_coverage",
            "INCONCLUSIVE",
            False,
        ),
        ("bootstrap", {"candidate": arm(B, 4000, errors=1)}, "errors", "FAIL", True),
    ],
)
def test_each_rule_speaks_for_itself(stage: str, changed: dict[str, Any], rule: str, verdict: str, held: bool) -> None:
    state = state_in(stage)
    advice = advance(state, evidence_of(state, **changed), POLICY, NOW)
    spoken = {reason.rule: reason.verdict for reason in advice.reasons}
    assert spoken[rule] == verdict
    assert advice.verdict == verdict
    assert (advice.after.held(B) is not None) == held


@pytest.mark.parametrize("stage", ["shadow", "canary"])
def test_log_loss_beyond_the_margin_fails_and_within_it_passes(stage: str) -> None:
    state = state_in(stage)
    assert advance(state, evidence_of(state, worse=0.2), POLICY, NOW).action == "rollback"
    assert advance(state, evidence_of(state, worse=0.02), POLICY, NOW).verdict is Verdict.PASS


def test_a_broken_split_is_asked_first_and_alone() -> None:
    state = state_in("canary")
    advice = advance(state, failing(state).model_copy(update={"split": (100, 4000)}), POLICY, NOW)
    assert [reason.rule for reason in advice.reasons] == ["split"]


def test_latency_fails_only_what_is_surely_slower() -> None:
    state = state_in("canary")
    stable = Moments(n=4000, mean=2.0, variance=1.0)
    slow = Timings(candidate=Moments(n=4000, mean=5.0, variance=1.0), stable=stable)
    noisy = Timings(candidate=Moments(n=40, mean=4.4, variance=90.0), stable=stable)
    assert advance(state, evidence_of(state, timings=slow), POLICY, NOW).action == "rollback"
    assert advance(state, evidence_of(state, timings=noisy), POLICY, NOW).verdict is Verdict.PASS


def test_timings_and_commits_leave_the_id_alone() -> None:
    state = state_in("canary")
    other = Timings(candidate=Moments(n=9, mean=7.0, variance=1.0), stable=Moments(n=9, mean=7.0, variance=1.0))
    first = look(snapshot_of(state), evidence_of(state, timings=other, candidate=arm(B, 4000, 400)), NOW, {})
    second = look(
        snapshot_of(state),
        failing(state).model_copy(update={"applied": applied_of(state, commit="2" * 40)}),
        NOW,
        {},
    )
    assert first is not None
    assert second is not None
    assert first.id == second.id


@pytest.mark.parametrize(
    ("state", "candidate", "reasons", "action", "stage", "rule"),
    [
        (state_in("empty"), B, GOOD, "bootstrap", "bootstrap", "auc"),
        (state_in("stable"), B, GOOD, "start-shadow", "shadow", "auc"),
        (state_in("stable"), B, BAD, "refuse", "stable", "auc"),
        (state_in("stable"), B, (), "refuse", "stable", None),
        (state_in("stable", holds=(HOLD,)), C, GOOD, "refuse", "stable", "hold"),
        (state_in("shadow"), C, GOOD, "refuse", "shadow", "one-rollout"),
        (state_in("stable"), A, GOOD, "refuse", "stable", "already-stable"),
    ],
)
def test_proposals(  # noqa: PLR0917  one argument a column of the table
    state: ReleaseState, candidate: str, reasons: Any, action: str, stage: str, rule: str | None
) -> None:
    decision = propose(snapshot_of(state), candidate, reasons, {"auc": 0.8}, {"id": "run-1"}, NOW)
    after = ReleaseState.model_validate(decision.after)
    assert (decision.action, after.stage) == (action, stage)
    assert (decision.before == decision.after) == (action == "refuse")
    assert [reason.rule for reason in decision.reasons] == ([rule] if rule else [])
    assert decision.run == {"id": "run-1"}


def test_no_first_model_where_the_policy_allows_none() -> None:
    strict = POLICY.model_copy(update={"bootstrap": POLICY.bootstrap.model_copy(update={"allowed": False})})
    decision = propose(snapshot_of(state_in("empty"), strict), B, GOOD, {}, {}, NOW)
    assert (decision.action, decision.reasons[0].rule) == ("refuse", "bootstrap")


def test_the_same_proposal_has_one_id_however_it_ends() -> None:
    ids = {
        propose(snapshot_of(state), B, GOOD, {"auc": 0.8}, {}, NOW).id
        for state in (state_in("stable"), state_in("shadow"), state_in("stable", stable=B))
    }
    assert len(ids) == 1


_STEP = st.tuples(
    st.sampled_from(["PASS", "FAIL", "INCONCLUSIVE", "propose", "late", "unapplied"]), st.sampled_from([A, B, C])
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["empty", "stable"]), st.lists(_STEP, min_size=1, max_size=25))
def test_no_sequence_breaks_the_promises(start: str, steps: list[tuple[str, str]]) -> None:
    state = state_in(start, holds=(HOLD,))
    broken = []
    for kind, digest in steps:
        following = _following(state, kind, digest)
        broken += [(kind, promise) for promise, kept in _promises(state, kind, following).items() if not kept]
        state = following
    assert broken == []


def _promises(before: ReleaseState, kind: str, after: ReleaseState) -> dict[str, bool]:
    learned = kind not in ("INCONCLUSIVE", "late", "unapplied")
    return {
        "all traffic goes somewhere": after.stable_weight + after.candidate_weight == 100 * (after.stage != "empty"),
        "nothing held serves": not any(after.held(served or "") for served in (after.stable, after.candidate)),
        "holds stay": set(before.holds) <= set(after.holds),
        "no more traffic without evidence": learned or after.candidate_weight <= before.candidate_weight,
        "no other stable model without evidence": learned or after.stable == before.stable,
    }


def _following(state: ReleaseState, kind: str, digest: str) -> ReleaseState:
    if kind == "propose":
        after = propose(snapshot_of(state), digest, GOOD, {}, {}, SINCE).after
        return ReleaseState.model_validate(after)
    evidence = _MAKE.get(kind, unclear)(state)
    if kind == "unapplied":
        evidence = passing(state).model_copy(update={"applied": applied_of(state, candidate_weight=77)})
    return advance(state, evidence, POLICY, LATE if kind == "late" else NOW).after
