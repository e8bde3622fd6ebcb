"""What no policy and no sequence of looks may ever do."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sluice.documents.event_time import iso, moment_of
from sluice.documents.evidence import Evidence
from sluice.documents.state import Applied, ReleaseState
from sluice.documents.verdict import Verdict
from sluice.gates.policy import GatePolicy
from sluice.rollout.advance import advance, forward, propose
from sluice.rollout.terms import terms_of
from tests.support.policy import policy_with, seen
from tests.support.release import GOOD, HOLD, SINCE, A, B, C, applied_of, snapshot_of, state_in

_FORWARDS = {"start-preview", "set-weight", "promote", "confirm"}
_ACTIONS = _FORWARDS | {"pause", "rollback", "time-out", "wait"}
_LOOKS = (
    "PASS",
    "FAIL",
    "INCONCLUSIVE",
    "unapplied",
    "stable-lost",
    "candidate-lost",
    "replaced",
    "foreign",
    "approve",
)
_MOSTLY = st.sampled_from(_LOOKS + ("PASS", "approve") * 5)
"""Most looks pass, so that many rollouts get far."""
_MANY = settings(max_examples=120, deadline=None)


@st.composite
def _stage(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "maximum_hours": draw(st.sampled_from([30, 72, 100])),
        "soak_hours": draw(st.sampled_from([0, 5, 12, 29])),
        "approval": draw(st.booleans()),
    }


@st.composite
def _policies(draw: st.DrawFn) -> GatePolicy:
    """Any stages; looks at whole or broken shares of the deadlines."""
    shadow = draw(st.none() | _stage())
    road = draw(st.sampled_from(["canary", "blue_green", None] if shadow else ["canary", "blue_green"]))
    stages: dict[str, Any] = {road: draw(_stage())} if road else {}
    if road == "canary":
        stages["canary"]["steps"] = sorted(draw(st.sets(st.integers(1, 90), min_size=1, max_size=4)))
    return policy_with(
        shadow=shadow, **stages, confirm=draw(_stage()), look_every_hours=draw(st.sampled_from([6, 7, 12, 24]))
    )


def _evidence(kind: str, state: ReleaseState, now: str) -> Evidence:
    wrong: dict[str, dict[str, Any]] = {
        "stable-lost": {"stable": None if state.stable else C},
        "candidate-lost": {"candidate": None},
        "replaced": {"candidate": C},
        "unapplied": {"mirror_percent": state.mirror_percent + 1},
    }
    if kind in wrong:
        lost = applied_of(state, **wrong[kind])
        return seen("PASS", state, now).model_copy(update={"applied": lost})
    if kind == "foreign":
        return seen("PASS", state, now).model_copy(update={"rollout": "r0009-other"})
    return seen("PASS" if kind == "approve" else kind, state, now)


@dataclass
class _Walk:
    """A rollout, one look after the other, and what was seen of it."""

    policy: GatePolicy
    state: ReleaseState
    hours: float = 0
    passed: list[str] = field(default_factory=list)
    """Stages (and steps) that were left forwards, each with a PASS."""

    @property
    def now(self) -> str:
        return iso(moment_of(SINCE) + timedelta(hours=self.hours))

    def look(self, kind: str) -> None:
        """One look; checks all that must hold of any."""
        self.hours += self.policy.online.look_every_hours
        before, terms = self.state, terms_of(self.state, self.policy)
        assert terms
        spent = (moment_of(self.now) - moment_of(before.since or "")).total_seconds() / 3600
        if kind == "approve" and before.paused and spent < terms.maximum_hours:
            _, self.state = forward(before, self.policy, self.now)
            self.passed.append(f"{before.stage}{before.step}")
            return
        evidence = _evidence(kind, before, self.now)
        advice = advance(before, evidence, self.policy, self.now)
        assert advice == advance(before, evidence, self.policy, self.now), "it is a function"
        if advice.action in _FORWARDS | {"pause"}:
            assert advice.verdict is Verdict.PASS
            assert kind in ("PASS", "approve") or (before.stage == "preview" and kind in ("FAIL", "INCONCLUSIVE"))
            assert spent >= terms.soak_hours
            assert not before.paused, "only a person ends a pause forwards"
        assert advice.action in _ACTIONS
        assert (advice.action == "wait") == (advice.after == before)
        assert advice.after.rollout is None or spent < terms.maximum_hours or advice.action in _FORWARDS
        if advice.action in _FORWARDS:
            self.passed.append(f"{before.stage}{before.step}")
        self.state = advice.after


def _begun(policy: GatePolicy, stage: str = "stable") -> _Walk:
    decision = propose(snapshot_of(state_in(stage, holds=(HOLD,)), policy), B, GOOD, {}, {}, SINCE)
    return _Walk(policy, ReleaseState.model_validate(decision.after))


def _stages(policy: GatePolicy, *, bootstrap: bool) -> dict[str, float]:
    """Deadline in hours of each stage (each step) that a rollout passes."""
    online, found = policy.online, {}
    if bootstrap:
        return {"bootstrap0": online.confirm.maximum_hours}
    if online.shadow:
        found["shadow0"] = online.shadow.maximum_hours
    if online.blue_green:
        found["preview0"] = online.blue_green.maximum_hours
    for step, _ in enumerate(online.canary.steps if online.canary else ()):
        found[f"canary{step}"] = online.canary.maximum_hours if online.canary else 0
    return found | {"confirm0": online.confirm.maximum_hours}


@_MANY
@given(_policies(), st.sampled_from(["stable", "stable", "stable", "empty"]), st.lists(_MOSTLY, min_size=1))
def test_every_rollout_ends_in_time_and_promotes_only_what_passed_every_stage(
    policy: GatePolicy, start: str, kinds: list[str]
) -> None:
    walk = _begun(policy, start)
    stages = _stages(policy, bootstrap=start == "empty")
    allowed = {0, 100, *(policy.online.canary.steps if policy.online.canary else ())}
    turn = 0
    while walk.state.rollout:
        assert walk.state.candidate_weight in allowed
        assert walk.state.stable_weight + walk.state.candidate_weight == 100
        walk.look(kinds[turn % len(kinds)])
        turn += 1
        assert HOLD in walk.state.holds
    assert turn > 0
    looks = walk.policy.online.look_every_hours
    assert walk.hours < sum(stages.values()) + looks * len(stages) + 1e-6
    if walk.state.stable == B:
        assert walk.passed == list(stages)
    else:
        assert walk.state.stable == (A if start == "stable" else None)


@_MANY
@given(_policies(), st.sampled_from(["stable", "stable", "stable", "empty"]))
def test_what_passes_every_look_and_is_approved_is_promoted(policy: GatePolicy, start: str) -> None:
    soaks = [stage for stage in (*policy.online.stages.values(), policy.online.blue_green) if stage]
    look = policy.online.look_every_hours
    assume(all(stage.soak_hours + 2 * look < stage.maximum_hours for stage in soaks))
    walk = _begun(policy, start)
    while walk.state.rollout:
        walk.look("approve")
    assert walk.state.stable == B


@_MANY
@given(_policies(), st.lists(_MOSTLY.filter(lambda kind: kind != "approve"), min_size=1))
def test_without_a_person_nothing_leaves_a_stage_that_asks_for_one(policy: GatePolicy, kinds: list[str]) -> None:
    walk, turn = _begun(policy), 0
    left_alone = []
    while walk.state.rollout:
        stage = walk.state.stage
        walk.look(kinds[turn % len(kinds)])
        turn += 1
        terms = terms_of(walk.state.model_copy(update={"stage": stage}), policy)
        assert terms
        went_on = walk.state.stage not in (stage, "drain") or walk.state.stable == B
        left_alone += [stage] if terms.approval and went_on else []
    assert turn > 0
    assert left_alone == []


_MOMENTS = st.datetimes().map(lambda moment: moment.isoformat() + "Z") | st.sampled_from(
    [SINCE, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]
)
_HOURS = st.sampled_from([12.0, 72.0, 1e300])


@st.composite
def _states(draw: st.DrawFn) -> ReleaseState:
    stage = draw(st.sampled_from(["empty", "bootstrap", "shadow", "preview", "canary", "confirm", "drain", "stable"]))
    step = draw(st.integers(0, 1)) if stage == "canary" else 0
    paused = stage not in ("empty", "bootstrap", "drain", "stable") and draw(st.booleans())
    since = None if stage == "empty" else draw(_MOMENTS)
    return state_in(stage, step, paused=paused, since=since, sequence=draw(st.integers(0, 10**6)))


@st.composite
def _any_evidence(draw: st.DrawFn, state: ReleaseState) -> Evidence:
    """Of this state or another, of any size, with anything read back."""
    about = draw(st.just(state) | _states())
    n, now = draw(st.integers(0, 3000)), draw(_MOMENTS)
    found = seen("PASS", about, now).model_copy(update={"now": draw(st.just(now) | _MOMENTS)})
    digest = st.sampled_from([None, A, B, C, "what"])
    applied = Applied(
        commit="", stable=draw(digest), candidate=draw(digest), stable_weight=n, candidate_weight=0, mirror_percent=0
    )
    return found.model_copy(
        update={
            "applied": draw(st.just(found.applied) | st.just(applied)),
            "split": (draw(st.integers(0, 3000)), n),
            "candidate": draw(st.none() | st.just(found.candidate)),
            "foreign": draw(st.integers(0, 1)),
            "strata": (),
        }
    )


@_MANY
@given(
    st.data(),
    _states(),
    st.fixed_dictionaries({}, optional={"evidence_hours": _HOURS}),
    st.sampled_from(["canary", "blue_green", None]),
    _MOMENTS,
)
def test_it_answers_whatever_is_asked(
    data: st.DataObject, state: ReleaseState, online: dict[str, Any], road: str | None, now: str
) -> None:
    hours = {"maximum_hours": data.draw(_HOURS), "soak_hours": data.draw(st.sampled_from([0, 1e-9, 12]))}
    stages: dict[str, Any] = {road: hours} if road else {}
    shadow = hours if road is None or data.draw(st.booleans()) else None
    policy = policy_with(shadow=shadow, **stages, confirm=hours, **online)
    evidence = data.draw(_any_evidence(state))
    advice = advance(state, evidence, policy, now)
    assert advice.action in _ACTIONS
    assert advice.after == state or advice.after.sequence == state.sequence + 1
    assert advice.reasons or state.rollout is None
