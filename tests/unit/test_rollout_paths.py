"""Every shape of a rollout: which stages follow, how long each lasts, who is asked, what is done with a lost side."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sluice.documents.event_time import iso, moment_of
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Reason, Verdict
from sluice.gates.policy import GatePolicy
from sluice.rollout.advance import Advice, advance, decided, forward, look, propose, start
from sluice.rollout.message import commit_message
from sluice.rollout.terms import Terms, overdue
from sluice.stages.section import OnlineRule
from tests.support.policy import policy_with, seen
from tests.support.release import (
    GOOD,
    LATE,
    NOW,
    POLICY,
    SINCE,
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


def _after(hours: float, since: str = SINCE) -> str:
    return iso(moment_of(since) + timedelta(hours=hours))


def _begun(policy: GatePolicy, stage: str = "stable") -> ReleaseState:
    decision = propose(snapshot_of(state_in(stage), policy), B, GOOD, {}, {}, SINCE)
    return ReleaseState.model_validate(decision.after)


def _rules(advice: Advice) -> dict[str, str]:
    return {reason.rule: reason.verdict.value for reason in advice.reasons}


@pytest.mark.parametrize(
    ("policy", "path"),
    [
        (
            policy_with(shadow={}, canary={}),
            ["start-shadow", "set-weight 10", "set-weight 50", "promote 100", "confirm 0"],
        ),
        (policy_with(canary={}), ["set-weight 10", "set-weight 50", "promote 100", "confirm 0"]),
        (policy_with(canary={"steps": [1]}), ["set-weight 1", "promote 100", "confirm 0"]),
        (
            policy_with(canary={"steps": [5, 20, 40, 60, 90]}),
            [*(f"set-weight {weight}" for weight in (5, 20, 40, 60, 90)), "promote 100", "confirm 0"],
        ),
        (policy_with(blue_green={}), ["start-preview", "promote 100", "confirm 0"]),
        (policy_with(shadow={}, blue_green={}), ["start-shadow", "start-preview 0", "promote 100", "confirm 0"]),
        (policy_with(shadow={}), ["start-shadow", "promote 100", "confirm 0"]),
    ],
    ids=["shadow-canary", "canary", "one-step", "five-steps", "blue-green", "shadow-blue-green", "shadow"],
)
def test_a_rollout_takes_the_stages_of_its_policy(policy: GatePolicy, path: list[str]) -> None:
    decision = propose(snapshot_of(state_in("stable"), policy), B, GOOD, {}, {}, SINCE)
    state = ReleaseState.model_validate(decision.after)
    weight = f" {state.candidate_weight}" if state.candidate_weight else ""
    taken, hours = [decision.action + weight], 0
    while state.rollout:
        hours += 24
        advice = advance(state, seen("PASS", state, _after(hours)), policy, _after(hours))
        state = advice.after
        taken.append(f"{advice.action} {state.candidate_weight}")
    assert taken == path
    assert (state.stable, state.stage) == (B, "drain")


@pytest.mark.parametrize(
    ("stages", "named"),
    [
        ((), "confirm"),
        (("canary", "blue_green"), "canary and blue_green and confirm"),
        (("shadow", "canary", "blue_green"), "shadow and canary and blue_green and confirm"),
    ],
)
def test_a_policy_whose_stages_make_no_strategy_is_refused(stages: tuple[str, ...], named: str) -> None:
    with pytest.raises(ValueError, match=f"has the stages {named}; no rollout takes just these, but: shadow; canary; "):
        policy_with(**{stage: {} for stage in stages})


@pytest.mark.parametrize("canary", [{}, None])
def test_stable_keeps_its_share_in_confirm_until_the_candidate_is_stable(canary: dict[str, Any] | None) -> None:
    policy = policy_with(shadow={}, canary=canary, confirm={"holdback": 5})
    state = start(state_in("stable"), B, policy, SINCE)[1]
    weights = []
    while state.rollout:
        action, state = forward(state, policy, NOW)
        weights.append((action, state.stage, state.stable_weight, state.candidate_weight))
    assert weights[-2:] == [("promote", "confirm", 5, 95), ("confirm", "drain", 100, 0)]
    assert (state.stable, state.candidate) == (B, None)


def test_the_shadow_mirrors_what_the_policy_says() -> None:
    assert _begun(policy_with(shadow={"mirror_percent": 30})).mirror_percent == 30


@pytest.mark.parametrize("policy", [policy_with(canary={}), policy_with(blue_green={}), policy_with(shadow={})])
def test_a_first_model_is_bootstrapped_whatever_the_stages(policy: GatePolicy) -> None:
    state = _begun(policy, "empty")
    assert (state.stage, state.candidate_weight) == ("bootstrap", 100)
    assert advance(state, passing(state), policy, NOW).after.stable == B


def test_a_first_model_neither_soaks_nor_waits_for_a_person() -> None:
    policy = policy_with(canary={}, confirm={"soak_hours": 48, "maximum_hours": 60, "approval": True})
    state = state_in("bootstrap")
    assert advance(state, passing(state), policy, NOW).action == "confirm"
    assert advance(state, unclear(state, _after(59)), policy, _after(59)).action == "wait"
    assert advance(state, unclear(state, _after(60)), policy, _after(60)).action == "time-out"


def test_a_preview_passes_when_its_servers_say_the_digest_and_without_any_request() -> None:
    policy = policy_with(blue_green={"soak_hours": 4})
    state = _begun(policy)
    assert (state.stage, state.stable_weight, state.candidate_weight, state.mirror_percent) == ("preview", 100, 0, 0)
    ready = evidence_of(state, n=0, split=(0, 0), now=_after(4))
    advice = advance(state, ready, policy, _after(4))
    assert (advice.action, advice.after.stage, advice.after.candidate_weight) == ("promote", "confirm", 100)
    assert _rules(advice) == {"soak": "PASS", "applied": "PASS"}
    assert "traffic 0 -> 100 %" in commit_message(decided(state, ready, policy, "sha256:1", _after(4), {}))
    soaking = advance(state, evidence_of(state, n=0, now=_after(3)), policy, _after(3))
    assert (soaking.action, _rules(soaking)["soak"]) == ("wait", "INCONCLUSIVE")


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"applied": applied_of(state_in("preview"), candidate=None)}, "candidate-lost"),
        ({"applied": applied_of(state_in("preview"), candidate=C)}, "applied"),
        ({"applied": applied_of(state_in("preview"), stable=None)}, "stable-lost"),
        ({"applied": applied_of(state_in("preview"), candidate_weight=100, stable_weight=0)}, "applied"),
        ({"stage": "shadow"}, "evidence.stage"),
        ({"rollout": "r0009-c"}, "evidence.rollout"),
        ({"since": NOW}, "evidence.since"),
        ({"now": "2019-12-31T00:00:00Z"}, "evidence.age"),
        ({"now": "2020-03-01T00:00:00Z"}, "evidence.future"),
    ],
)
def test_a_preview_is_not_switched_on_anything_else(changed: dict[str, Any], rule: str) -> None:
    policy, state = policy_with(blue_green={}), state_in("preview")
    evidence = evidence_of(state, n=0, now=_after(1)).model_copy(update=changed)
    advice = advance(state, evidence, policy, _after(1))
    assert (advice.action, advice.verdict) == ("wait", Verdict.INCONCLUSIVE)
    assert _rules(advice)[rule] == "INCONCLUSIVE"
    assert advance(state, evidence, policy, LATE).action == "time-out"


ASKED = policy_with(blue_green={"rules": [{"metric": "error_rate", "role": "limit", "limit": 0.1}]})


@pytest.mark.parametrize(
    ("n", "errors", "last", "action", "rule"),
    [
        (400, 0, NOW, "promote", "error_rate"),
        (400, 400, NOW, "rollback", "error_rate"),
        (29, 0, NOW, "wait", "minimum_n"),
        (0, 0, None, "wait", "minimum_n"),
        (400, 0, _after(1), "wait", "flow"),
    ],
    ids=["answered", "failed", "too few", "nobody asked", "nobody asked lately"],
)
def test_rules_of_a_preview_are_asked_of_the_requests_to_it(
    n: int, errors: int, last: str | None, action: str, rule: str
) -> None:
    state = state_in("preview")
    asked = arm(B, n, errors=errors).model_copy(update={"last": last, "first": None})
    evidence = evidence_of(state, now=NOW, split=(4000, n)).model_copy(update={"candidate": asked})
    advice = advance(state, evidence, ASKED, NOW)
    wanted = {"promote": "PASS", "rollback": "FAIL", "wait": "INCONCLUSIVE"}[action]
    assert (advice.action, _rules(advice).get(rule), _rules(advice).get("applied")) == (action, wanted, "PASS")
    assert bool(advice.after.held(B)) == (action == "rollback")


def test_rules_of_a_preview_read_no_evidence_that_has_a_problem() -> None:
    state = state_in("preview")
    evidence = evidence_of(state, now=NOW).model_copy(update={"problems": ("prometheus: is silent",)})
    advice = advance(state, evidence, ASKED, NOW)
    assert (advice.action, _rules(advice)) == ("wait", {"evidence.problem": "INCONCLUSIVE"})


@pytest.mark.parametrize("hours", [{"soak_hours": 73}, {"maximum_hours": 5}])
@pytest.mark.parametrize("stage", ["shadow", "canary", "blue_green", "confirm"])
def test_a_stage_that_could_only_time_out_is_refused(stage: str, hours: dict[str, float]) -> None:
    other: dict[str, Any] = {"shadow": {}} if stage == "confirm" else {}
    with pytest.raises(ValueError, match=r"could only time out|before the first look"):
        policy_with(**other, **{stage: hours})


@pytest.mark.parametrize("stage", ["shadow", "canary", "confirm"])
def test_a_pass_counts_when_the_stage_has_soaked_and_a_fail_at_once(stage: str) -> None:
    soaking = {stage: {"soak_hours": 24}}
    policy = policy_with(**({"shadow": {}, "canary": {}, "confirm": {}} | soaking))
    state = state_in(stage)
    early = advance(state, passing(state, _after(23.9)), policy, _after(23.9))
    assert (early.action, early.verdict, _rules(early)["soak"]) == ("wait", Verdict.INCONCLUSIVE, "INCONCLUSIVE")
    assert advance(state, passing(state, _after(24)), policy, _after(24)).after.stage != stage or stage == "canary"
    assert advance(state, passing(state, _after(24)), policy, _after(24)).verdict is Verdict.PASS
    assert advance(state, failing(state, _after(1)), policy, _after(1)).action == "rollback"


def test_every_canary_step_soaks_anew() -> None:
    policy = policy_with(canary={"soak_hours": 24})
    first = _begun(policy)
    second = advance(first, passing(first, _after(30)), policy, _after(30)).after
    assert (second.step, second.since) == (1, _after(30))
    assert advance(second, passing(second, _after(53)), policy, _after(53)).action == "wait"
    assert advance(second, passing(second, _after(54)), policy, _after(54)).action == "promote"


APPROVAL = policy_with(
    shadow={"approval": True}, canary={"approval": True, "maximum_hours": 72}, confirm={"approval": True}
)


@pytest.mark.parametrize("stage", ["shadow", "canary", "confirm"])
def test_a_pass_pauses_where_a_person_is_asked(stage: str) -> None:
    state = state_in(stage)
    advice = advance(state, passing(state), APPROVAL, NOW)
    assert (advice.action, advice.verdict) == ("pause", Verdict.PASS)
    assert advice.after == state.model_copy(update={"paused": True, "sequence": state.sequence + 1})
    paused = advice.after
    for make in (passing, unclear):
        waiting = advance(paused, make(paused), APPROVAL, NOW)
        assert (waiting.action, waiting.after) == ("wait", paused)
        assert _rules(waiting)["approval"] == "INCONCLUSIVE"
        assert _after(72) in waiting.reasons[-1].text
    failed = advance(paused, failing(paused), APPROVAL, NOW)
    assert (failed.action, failed.after.paused) == ("rollback", False)
    assert failed.after.held(B)
    over = advance(paused, passing(paused, _after(72)), APPROVAL, _after(72))
    assert (over.action, over.after.stable, over.after.holds) == ("time-out", A, ())
    assert "without an approval" in over.reasons[-1].text


def test_a_blue_green_switch_can_wait_for_a_person() -> None:
    policy = policy_with(blue_green={"approval": True})
    state = state_in("preview")
    paused = advance(state, seen("PASS", state, NOW), policy, NOW).after
    assert (paused.stage, paused.paused, paused.candidate_weight) == ("preview", True, 0)
    assert advance(paused, seen("PASS", paused, NOW), policy, NOW).action == "wait"
    assert forward(paused, policy, NOW)[1].candidate_weight == 100


def test_what_passes_when_its_time_is_over_goes_on_but_is_not_paused_any_more() -> None:
    state = state_in("canary")
    late = _after(80)
    assert advance(state, passing(state, late), POLICY, late).action == "set-weight"
    assert advance(state, passing(state, late), APPROVAL, late).action == "time-out"


def test_a_pause_stays_when_the_policy_no_longer_asks_for_it() -> None:
    paused = state_in("canary", paused=True)
    assert advance(paused, passing(paused), POLICY, NOW).action == "wait"


def test_the_pause_and_what_follows_are_told_apart() -> None:
    state = state_in("canary")
    evidence = passing(state)
    pause = look(snapshot_of(state, APPROVAL), evidence, NOW, {})
    assert pause
    assert "passed canary, waits for approval" in commit_message(pause)
    paused = ReleaseState.model_validate(pause.after)
    assert look(snapshot_of(paused, APPROVAL), evidence, NOW, {}) is None
    ended = decided(paused, evidence, APPROVAL, snapshot_of(paused).policy_digest, NOW, {})
    assert ended.id != pause.id


def test_a_rule_that_cannot_tell_for_longer_than_its_own_wait_ends_the_stage() -> None:
    rules = [rule.model_dump(mode="json") for rule in POLICY.online.confirm.rules]
    for rule in rules:
        rule["maximum_hours"] = 24 if rule["metric"] == "label_coverage" else None
    policy = policy_with(canary={}, confirm={"rules": rules})
    state = state_in("confirm")

    def asked(hours: float, labelled: int, **changed: Any) -> Advice:
        evidence = passing(state, _after(hours))
        assert evidence.candidate
        arm = evidence.candidate.model_copy(update={"labelled": labelled})
        return advance(state, evidence.model_copy(update={"candidate": arm} | changed), policy, _after(hours))

    assert asked(23, 3000).action == "wait"
    ended = asked(24, 3000)
    assert (ended.action, ended.after.stable, ended.after.holds) == ("time-out", A, ())
    assert ended.reasons[-1].rule == "maximum_hours[label_coverage]"
    assert asked(24, 4000).action == "confirm"
    assert asked(24, 4000, foreign=3).action == "wait", "another rule has the stage's time"
    paused = state.model_copy(update={"paused": True})
    waiting = advance(paused, unclear(paused, _after(30)), policy, _after(30))
    assert waiting.action == "wait", "a pause has its answer"


@pytest.mark.parametrize(
    ("rule", "verdicts", "ended"),
    [
        ({"metric": "log_loss", "role": "guardrail"}, {"log_loss": "INCONCLUSIVE"}, "maximum_hours[log_loss]"),
        ({"metric": "log_loss", "role": "guardrail"}, {"log_loss[region=north]": "INCONCLUSIVE"}, None),
        (
            {"metric": "log_loss", "role": "guardrail", "per_slice": True},
            {"log_loss": "INCONCLUSIVE", "log_loss[region=north]": "INCONCLUSIVE"},
            "maximum_hours[log_loss[region=north]]",
        ),
        (
            {"metric": "log_loss", "role": "guardrail", "per_slice": True},
            {"log_loss[slices]": "INCONCLUSIVE"},
            "maximum_hours[log_loss[slices]]",
        ),
        ({"metric": "log_loss", "role": "deterioration"}, {"log_loss": "INCONCLUSIVE"}, None),
        ({"metric": "log_loss", "role": "guardrail"}, {"log_loss": "PASS", "latency": "INCONCLUSIVE"}, None),
        ({"metric": "skew", "role": "guardrail"}, {"skew[speed]": "INCONCLUSIVE"}, "maximum_hours[skew[speed]]"),
    ],
)
def test_a_rules_wait_is_that_rules_alone(rule: dict[str, Any], verdicts: dict[str, str], ended: str | None) -> None:
    terms = Terms(0, 72, approval=False, rules=(OnlineRule(**rule, maximum_hours=24),))
    assert _ended(terms, [_said(name, verdict) for name, verdict in verdicts.items()]) == ended


def test_success_in_one_rule_ends_the_wait_of_the_others() -> None:
    rules = tuple(OnlineRule(metric=name, role="success", maximum_hours=24) for name in ("log_loss", "latency"))
    terms = Terms(0, 72, approval=False, rules=rules)
    unsure = _said("log_loss", "INCONCLUSIVE", "success")
    assert _ended(terms, [unsure, _said("latency", "FAIL", "success")]) == "maximum_hours[log_loss]"
    assert _ended(terms, [unsure, _said("latency", "PASS", "success")]) is None


def _said(rule: str, verdict: str, role: str = "guardrail") -> Reason:
    return Reason(rule=rule, verdict=Verdict(verdict), observed=None, bound=None, n=0, text="", role=role)


def _ended(terms: Terms, reasons: list[Reason]) -> str | None:
    late = overdue(state_in("canary"), terms, reasons, _after(24))
    return late.rule if late else None


@pytest.mark.parametrize("stage", ["shadow", "canary", "confirm"])
@pytest.mark.parametrize("stable", [None, C])
def test_with_stable_lost_nothing_is_promoted_and_the_deadline_brings_it_back(stage: str, stable: str | None) -> None:
    state = state_in(stage)
    applied = applied_of(state, stable=stable)

    def asked(make: Any, hours: float) -> Advice:
        return advance(state, make(state, _after(hours)).model_copy(update={"applied": applied}), POLICY, _after(hours))

    for make in (passing, unclear):
        advice = asked(make, 24)
        assert (advice.action, advice.after) == ("wait", state)
        assert _rules(advice)["stable-lost"] == "INCONCLUSIVE"
        over = asked(make, 72)
        assert (over.action, over.after.stage, over.after.stable, over.after.holds) == ("time-out", "drain", A, ())
    failed = asked(failing, 24)
    assert (failed.action, failed.after.stable, failed.after.stable_weight) == ("rollback", A, 100)
    (lost,) = [reason for reason in failed.reasons if reason.rule == "stable-lost"]
    assert "going back starts it again by its digest" in lost.text


@pytest.mark.parametrize("stage", ["bootstrap", "shadow", "canary", "confirm"])
@pytest.mark.parametrize("make", [passing, unclear])
def test_a_lost_candidate_does_not_pass_and_is_timed_out(stage: str, make: Any) -> None:
    state = state_in(stage)
    evidence = make(state).model_copy(update={"applied": applied_of(state, candidate=None)})
    advice = advance(state, evidence, POLICY, NOW)
    assert (advice.action, _rules(advice)["candidate-lost"]) == ("wait", "INCONCLUSIVE")
    assert advance(state, make(state, LATE).model_copy(update={"applied": evidence.applied}), POLICY, LATE).action == (
        "time-out"
    )


@pytest.mark.parametrize("stage", ["bootstrap", "shadow", "canary", "confirm"])
def test_a_lost_candidate_whose_requests_fail_is_rolled_back_without_a_hold(stage: str) -> None:
    state = state_in(stage)
    evidence = failing(state).model_copy(update={"applied": applied_of(state, candidate=None)})
    advice = advance(state, evidence, POLICY, NOW)
    assert (advice.action, advice.verdict, advice.after.holds) == ("rollback", "FAIL", ())
    assert advice.after.stable == state.stable


@pytest.mark.parametrize("stage", ["bootstrap", "shadow", "canary", "confirm"])
@pytest.mark.parametrize("make", [passing, failing, unclear])
def test_with_another_digest_in_its_place_nothing_is_read_until_the_deadline(stage: str, make: Any) -> None:
    state = state_in(stage)
    evidence = make(state).model_copy(update={"applied": applied_of(state, candidate=C)})
    advice = advance(state, evidence, POLICY, NOW)
    assert (advice.action, _rules(advice)) == ("wait", {"applied": "INCONCLUSIVE"})
    assert advance(state, evidence, POLICY, LATE).action == "time-out"


def test_both_sides_lost_is_a_step_that_is_not_applied() -> None:
    state = state_in("canary")
    evidence = failing(state).model_copy(update={"applied": applied_of(state, stable=None, candidate=None)})
    advice = advance(state, evidence, POLICY, NOW)
    assert (advice.action, _rules(advice)) == ("wait", {"applied": "INCONCLUSIVE"})
    assert "stable serves none instead of aaaaaaaaaaaa" in advice.reasons[0].text


@pytest.mark.parametrize(
    ("state", "policy", "name"),
    [
        (state_in("shadow"), policy_with(canary={}), "shadow"),
        (state_in("canary"), policy_with(shadow={}, blue_green={}), "canary"),
        (state_in("preview"), POLICY, "blue_green"),
        (state_in("canary", paused=True), policy_with(shadow={}), "canary"),
    ],
)
def test_a_stage_that_a_new_policy_lost_ends_the_rollout(state: ReleaseState, policy: GatePolicy, name: str) -> None:
    evidence = seen("PASS", state, NOW)
    advice = advance(state, evidence, policy, NOW)
    assert (advice.action, advice.verdict, advice.after.stage) == ("time-out", Verdict.INCONCLUSIVE, "drain")
    assert (advice.after.stable, advice.after.holds, _rules(advice)) == (A, (), {"policy": "INCONCLUSIVE"})
    assert f"the policy has no {name} any more" in advice.reasons[0].text
    made = decided(state, evidence, policy, "sha256:1", NOW, {})
    assert f" ended in {state.stage}, stable is" in commit_message(made).splitlines()[0]


@pytest.mark.parametrize(
    ("steps", "action", "weight", "step"),
    [
        ([5], "promote", 100, 0),
        ([5, 10, 50], "promote", 100, 0),
        ([5, 20, 60, 90], "set-weight", 60, 2),
        ([60], "set-weight", 60, 0),
        ([50, 51], "set-weight", 51, 1),
    ],
)
def test_changed_steps_go_on_with_the_next_greater_weight(
    steps: list[int], action: str, weight: int, step: int
) -> None:
    state = state_in("canary", 1)
    advice = advance(state, passing(state), policy_with(canary={"steps": steps}), NOW)
    assert (advice.action, advice.after.candidate_weight, advice.after.step) == (action, weight, step)


def test_a_step_beyond_the_new_steps_still_ends_by_its_deadline() -> None:
    state = state_in("canary", step=0, candidate_weight=50, stable_weight=50).model_copy(update={"step": 7})
    policy = policy_with(canary={"steps": [5]})
    assert advance(state, unclear(state), policy, NOW).action == "wait"
    assert advance(state, unclear(state, LATE), policy, LATE).action == "time-out"
    assert advance(state, failing(state), policy, NOW).action == "rollback"


def test_the_subject_of_a_time_out_is_not_a_rollback() -> None:
    state = state_in("canary")
    made = look(snapshot_of(state), unclear(state, LATE), LATE, {})
    assert made
    assert (
        commit_message(made).splitlines()[0].startswith(f"toy dev: {B[7:19]} timed out in canary, stable is {A[7:19]}")
    )


def test_reasons_are_plain() -> None:
    state = state_in("canary", paused=True)
    reasons = advance(state, passing(state), APPROVAL, NOW).reasons
    assert reasons
    assert {type(reason) for reason in reasons} == {Reason}
    assert [reason.text for reason in reasons if "\n" in reason.text] == []
