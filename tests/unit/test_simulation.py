"""The simulator plays the real rules on evidence that the real collector would have made."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sluice.documents.event_time import moment_of
from sluice.documents.evidence import Evidence
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Reason, Verdict
from sluice.errors import BadInput
from sluice.evidence.collect import collect_evidence
from sluice.gates.policy import GatePolicy, read_policy
from sluice.gitops.writer import Snapshot
from sluice.rollout.advance import Advice, advance, propose
from sluice.simulation.blocks import LossBlocks, history_for
from sluice.simulation.counting import Road
from sluice.simulation.evidence import clock, evidence_of
from sluice.simulation.play import CANDIDATE, STABLE, Outcome, first_state, play
from sluice.simulation.population import population
from sluice.simulation.run import Rival, simulate
from sluice.simulation.summary import summary_of, wilson
from sluice.simulation.traffic import SimulatedTraffic
from sluice.simulation.watch import Stretch, Watch, glance
from sluice.simulation.worlds import WORLDS, TrafficScale, World, scale_of, worlds_named
from tests.support.simulated_rows import CARRIED, SLICES, THRESHOLDS, rows_of

ROOT = Path(__file__).parents[2]
POLICY, DIGEST = read_policy(ROOT / "manifests/overlays/dev/gate-policy.yaml")
SCALE = scale_of(POLICY, 900)


def outcomes(name: str, n: int, decide: Any = advance, scale: TrafficScale = SCALE) -> list[Outcome]:
    (world,) = worlds_named([name])
    return [play(SimulatedTraffic(world, scale, 3, number), POLICY, decide) for number in range(n)]


def share(found: list[Outcome], end: str) -> float:
    return sum(one.end == end for one in found) / len(found)


def shaped(**stages: object) -> GatePolicy:
    """The shipped policy with these stages in place of its own."""
    document = POLICY.model_dump(mode="json", exclude_none=True)
    document["online"] = {key: value for key, value in (document["online"] | stages).items() if value is not None}
    return GatePolicy.model_validate(document)


# -- the evidence is what the collector would say -------------------------------------------------------------------


STAGES = {
    "shadow": [Stretch(0, 3, Road(True, 1.0))],
    "canary": [Stretch(5, 9, Road(False, 0.5))],
    "confirm": [Stretch(3, 6, Road(False, 0.2)), Stretch(6, 12, Road(False, 0.5)), Stretch(12, 15, Road(False, 1.0))],
}
EVERYWHERE = replace(SCALE, sliced=frozenset(STAGES), asked=SCALE.asked | {"latency", "latency_p99"})


def watched(world: World, stage: str) -> tuple[Evidence, Evidence]:
    """The simulator's document and the collector's of one look."""
    traffic = SimulatedTraffic(world, EVERYWHERE, 3, 0)
    maturity, share = POLICY.online.label_maturity_hours, world.road
    stretches = [one._replace(road=one.road._replace(share=one.road.share * share)) for one in STAGES[stage]]
    *earlier, live = stretches
    look, weight = live.end, {"shadow": 0, "canary": 50, "confirm": 100}[stage]
    changed = {"stage": stage, "since": clock(live.first * SCALE.look_hours), "candidate_weight": weight}
    changed |= {"stable_weight": 100 - weight, "mirror_percent": 100 if stage == "shadow" else 0}
    state = ReleaseState.model_validate(first_state(POLICY).model_dump() | changed)
    watch = Watch(traffic, maturity)
    blocks = LossBlocks.of(traffic, POLICY.online, STABLE)
    made = evidence_of(state, watch, glance(watch, live, earlier, look), look, blocks)
    rows, labels = rows_of(traffic, stretches)
    real = collect_evidence(
        rows,
        labels,
        state,
        made.applied,
        {},
        now=moment_of(made.now),
        label_maturity_hours=maturity,
        block_hours=POLICY.online.block_hours or 24,
        slices=SLICES,
        carried=CARRIED,
        thresholds=THRESHOLDS,
    )
    return made, real


@pytest.mark.parametrize(
    "name",
    [
        "equal",
        "late-labels",
        "errors",
        "refuses",
        "slow-tail",
        "outage",
        "outage-of-both",
        "stale",
        "turns-worse",
        "split",
    ],
)
@pytest.mark.parametrize("stage", list(STAGES))
def test_evidence_is_what_the_collector_says_of_the_same_rows(name: str, stage: str) -> None:
    (world,) = worlds_named([name])
    made, real = watched(world, stage)
    unlike = {"skew", "cells", "history"}
    if stage == "shadow":  # no rule reads strata there, and the simulator does not make them
        unlike |= {"strata"}
        real = real.model_copy(
            update={"slices": {k: one.model_copy(update={"strata": ()}) for k, one in real.slices.items()}}
        )
    mine, theirs = made.model_dump(exclude=unlike), real.model_dump(exclude=unlike)
    for document in (mine, theirs):  # the simulator does not keep the times of single requests and labels
        for arm in ("candidate", "stable"):
            document[arm] |= {"first": None, "last": None, "delays": None}
    assert len(mine["slices"]) == 20
    assert close(mine, theirs)


def close(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, dict):
        return mine.keys() == theirs.keys() and all(close(value, theirs[key]) for key, value in mine.items())
    if isinstance(mine, list | tuple):
        return len(mine) == len(theirs) and all(close(a, b) for a, b in zip(mine, theirs, strict=True))
    return math.isclose(mine, theirs, rel_tol=1e-6, abs_tol=1e-9) if isinstance(mine, float) else bool(mine == theirs)


# -- days that share a shock -----------------------------------------------------------------------------------------


def test_on_stormy_days_requests_promote_at_the_margin_and_blocks_do_not() -> None:
    (world,) = worlds_named(["stormy-at-margin"])
    by_request = POLICY.online.model_copy(update={"design_effect": 1.0})
    shadow = {"confirm": POLICY.online.confirm, "canary": None}
    ends = {}
    for name, online in (("requests", by_request), ("blocks", POLICY.online)):
        policy = POLICY.model_copy(update={"online": online.model_copy(update=shadow)})
        ends[name] = [play(SimulatedTraffic(world, SCALE, 5, number), policy).stage for number in range(40)]
    assert ends["blocks"].count("confirm") == 0
    assert ends["requests"].count("confirm") >= 3  # alpha is 0.02


def test_a_history_is_of_other_days_than_the_rollout() -> None:
    (world,) = worlds_named(["stormy"])
    first, second = (SimulatedTraffic(world, SCALE, 5, number) for number in (0, 1))
    histories = [history_for(traffic, POLICY.online, STABLE) for traffic in (first, second)]
    assert None not in histories
    assert histories[0] != histories[1]
    assert history_for(SimulatedTraffic(world, SCALE, 5, 0), POLICY.online, STABLE) == histories[0]
    for history in histories:
        assert history is not None
        assert 20 < history.design_effect < 80  # 18 by day, long-run and widened


def test_a_policy_without_a_length_is_played_by_the_one_of_its_history() -> None:
    policy = POLICY.model_copy(update={"online": POLICY.online.model_copy(update={"block_hours": None})})
    played: dict[str, list[float]] = {}
    for world in worlds_named(["equal", "stormy"]):
        traffic = [SimulatedTraffic(world, SCALE, 5, number) for number in (1, 2)]
        lengths = [LossBlocks.of(one, policy.online, STABLE).length for one in traffic]
        played[world.name] = [length.hours for length in lengths if length]
        seen: set[float | None] = set()

        def decide(state: ReleaseState, evidence: Evidence, policy: GatePolicy, now: str, seen: Any = seen) -> Advice:
            seen.add(evidence.block_hours)
            return advance(state, evidence, policy, now)

        play(traffic[0], policy, decide)
        assert seen == {played[world.name][0]}
    assert played == {"equal": [6, 6], "stormy": [24, 24]}  # in a storm whole days are one shock


def test_blocks_that_are_no_whole_windows_are_refused() -> None:
    online = POLICY.online.model_copy(update={"block_hours": 7})
    (world,) = worlds_named(["equal"])
    with pytest.raises(BadInput, match="block_hours: is 7, and is played only as a multiple of the 6 hours"):
        play(SimulatedTraffic(world, SCALE, 5, 0), POLICY.model_copy(update={"online": online}))


# -- the decisions are advance's ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [world.name for world in WORLDS])
def test_every_step_is_what_advance_says_of_the_validated_document(name: str) -> None:
    """Evidence is built unvalidated for speed; read back strictly from its JSON it must lead to the same decision."""
    seen: list[str] = []

    def strict(state: ReleaseState, evidence: Evidence, policy: GatePolicy, now: str) -> Advice:
        read = Evidence.model_validate_json(evidence.model_dump_json())
        fast, slow = advance(state, evidence, policy, now), advance(state, read, policy, now)
        assert fast == slow
        assert (evidence.since, evidence.now) == (state.since, now)
        seen.append(slow.action)
        return slow

    assert outcomes(name, 2, strict) == outcomes(name, 2)
    assert seen[-1] in {"confirm", "rollback", "time-out"}


def ends(world: World, policy: GatePolicy, *, every_look: bool) -> tuple[list[Outcome], int]:
    """How two rollouts end, and how often the rules were asked."""
    asked = 0

    def counted(state: ReleaseState, evidence: Evidence, asking: GatePolicy, now: str) -> Advice:
        nonlocal asked
        asked += 1
        return advance(state, evidence, asking, now)

    scale = scale_of(policy, 900)
    return [play(SimulatedTraffic(world, scale, 8, n), policy, counted, every_look=every_look) for n in range(2)], asked


LEFT_OUT = [
    *(pytest.param(world, POLICY, id=world.name) for world in WORLDS),
    *(
        pytest.param(world, shaped(shadow=None), id=f"{world.name}, without a shadow")
        for world in WORLDS
        if world.name in ("equal", "split", "errors", "refuses")
    ),
]


@pytest.mark.parametrize(("world", "policy"), LEFT_OUT)
def test_looks_that_are_left_out_would_have_decided_nothing(world: World, policy: GatePolicy) -> None:
    some, seldom = ends(world, policy, every_look=False)
    every, always = ends(world, policy, every_look=True)
    assert some == every
    assert seldom <= always


# -- what comes out ---------------------------------------------------------------------------------------------------


def test_equal_candidates_are_hardly_ever_stopped() -> None:
    equal = outcomes("equal", 40)
    assert share(equal, "promoted") > 0.9
    assert share(equal, "rolled back") == 0


def without(policy: GatePolicy, metric: str, *, sliced_only: bool = False) -> GatePolicy:
    """The policy with no rule on this metric in any stage, or with none on it that is asked of every slice."""
    stages = {}
    for name, stage in policy.online.stages.items():
        kept = tuple(rule for rule in stage.rules if rule.metric != metric or (sliced_only and not rule.per_slice))
        stages[name] = stage.model_copy(update={"rules": kept})
    return policy.model_copy(update={"online": policy.online.model_copy(update=stages)})


HELD_BY = {
    "worse": without(POLICY, "log_loss"),
    "turns-much-worse": without(POLICY, "log_loss"),
    "slice": without(POLICY, "log_loss", sliced_only=True),
    "errors": without(POLICY, "error_rate"),
    "refuses": without(without(POLICY, "error_rate"), "refusal_rate"),
    "slow": without(without(POLICY, "latency"), "latency_p99"),
    "slow-tail": without(POLICY, "latency_p99"),
    "mismatch": without(POLICY, "parity"),
}


@pytest.mark.parametrize("world", HELD_BY)
def test_each_world_is_held_by_its_rule(world: str) -> None:
    """Without that rule it is promoted: no world is held by accident."""
    (found,) = worlds_named([world])

    def promoted(policy: GatePolicy) -> int:
        ends = [play(SimulatedTraffic(found, SCALE, 4, number), policy, advance).end for number in range(10)]
        return ends.count("promoted")

    assert promoted(POLICY) == 0
    assert promoted(HELD_BY[world]) >= 5


def test_where_there_is_no_shadow_the_canary_sees_who_refuses() -> None:
    (found,) = worlds_named(["refuses"])
    policy = shaped(shadow=None)
    for asked, end in ((policy, ("rolled back", "canary")), (without(policy, "refusal_rate"), ("promoted", "confirm"))):
        ends = [play(SimulatedTraffic(found, SCALE, 4, number), asked, advance) for number in range(5)]
        assert {(one.end, one.stage) for one in ends} == {end}


def test_a_broken_split_passes_no_policy_that_does_not_ask_for_it() -> None:
    (found,) = worlds_named(["split"])
    ends = [play(SimulatedTraffic(found, SCALE, 4, number), without(POLICY, "split"), advance) for number in range(10)]
    assert {one.end for one in ends} == {"timed out"}


def busy(**online: Any) -> GatePolicy:
    """Errors alone, looked at every hour; no effect is above the one that is stated, so no history is asked for."""
    rules = [{"metric": "error_rate", "role": "limit", "limit": 0.01, "stop_at": 30}]
    stage = {"minimum_n": 1500, "soak_hours": 3, "maximum_hours": 6, "rules": rules}
    hourly = {"block_hours": None, "look_every_hours": 1, "evidence_hours": 6, "canary": None}
    return shaped(shadow=stage, confirm=stage, **hourly, **online)


def test_an_outage_of_a_busy_service_neither_promotes_nor_holds() -> None:
    (outage,) = worlds_named(["outage"])
    ends = {}
    for effect in (1.0, 1000.0):
        policy = busy(design_effect=effect)
        ends[effect] = play(SimulatedTraffic(outage, scale_of(policy, 100_000), 3, 27), policy)
    assert (ends[1.0].end, ends[1.0].held, ends[1.0].hours) == ("rolled back", True, 1.0)  # by request
    assert (ends[1000.0].end, ends[1000.0].held, ends[1000.0].stage) == ("timed out", False, "shadow")


def test_a_failing_model_is_out_of_a_busy_service_within_three_looks() -> None:
    (failing,), policy = worlds_named(["failing"]), busy(design_effect=1000.0)
    found = [play(SimulatedTraffic(failing, scale_of(policy, 100_000), 3, number), policy) for number in range(3)]
    assert all((one.end, one.held) == ("rolled back", True) and one.hours <= 3 for one in found)


def test_looking_every_hour_promotes_no_bad_one() -> None:
    often = scale_of(POLICY, 900, look_hours=1)
    assert share(outcomes("worse", 6, scale=often), "promoted") == 0
    assert share(outcomes("equal", 3, scale=often), "rolled back") == 0


def test_a_broken_road_blames_nobody_and_a_bad_candidate_is_held() -> None:
    assert not any(one.held for one in outcomes("split", 10))
    assert all(one.held for one in outcomes("much-worse", 10))


def test_users_meet_a_bad_model_only_after_the_shadow() -> None:
    assert all(one.exposed == 0 for one in outcomes("much-worse", 10))
    assert all(one.exposed > 1000 for one in outcomes("equal", 5))


# -- worlds are what they say -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [-0.02, 0.0, 0.05, 0.2])
def test_a_population_has_the_gap_that_was_asked_for(gap: float) -> None:
    found = population(gap)
    assert float((found.candidate_losses - found.stable_losses).mean()) == pytest.approx(gap, abs=1e-4)
    labels, scores = found.labels, found.stable_scores
    assert found.stable_losses == pytest.approx(-np.log(np.where(labels > 0, scores, 1 - scores)), abs=1e-6)


def test_a_slice_carries_the_whole_gap() -> None:
    found = population(0.025, 0.05)
    touched = found.candidate_losses != population(0.05, 0.05).candidate_losses
    assert touched.mean() == pytest.approx(0.05, abs=0.005)
    assert (found.candidate_losses - found.stable_losses)[touched].mean() == pytest.approx(0.5, abs=0.06)


def test_traffic_is_what_the_world_says() -> None:
    daily = replace(SCALE, look_hours=24)
    bursty, even, drifting, late = (
        SimulatedTraffic(world, daily, 1, 0) for world in worlds_named(("bursty", "equal", "drifting", "late-labels"))
    )
    days = [[traffic.span(day, day + 1) for day in range(20)] for traffic in (bursty, even, drifting)]
    counts = [[len(found.at) for found in traffic] for traffic in days]
    assert np.std(counts[0]) > 3 * np.std(counts[1])
    assert np.mean(counts[1]) == pytest.approx(900, rel=0.03)
    assert all(((found.at >= 24 * day) & (found.at <= 24 * day + 24)).all() for day, found in enumerate(days[0]))
    losses = drifting.population(shadow=True).stable_losses
    assert losses[days[2][15].row].mean() > losses[days[2][0].row].mean() + 0.05
    found = late.span(0, 1)
    assert np.median(found.label_at - found.at) == pytest.approx(13, abs=2)
    assert np.isinf(found.label_at).mean() == pytest.approx(0.04, abs=0.02)


def test_a_candidate_may_turn_worse_after_the_shadow() -> None:
    (world,) = worlds_named(["turns-worse"])
    before, after = (SimulatedTraffic(world, SCALE, 1, 0).population(shadow=shadow).gap for shadow in (True, False))
    assert before == pytest.approx(0, abs=1e-4)
    assert after == pytest.approx(2 * SCALE.margin, abs=1e-4)


def test_timings_are_log_normal_with_a_tail() -> None:
    (slow, tail) = (SimulatedTraffic(world, SCALE, 1, 0).span(0, 40) for world in worlds_named(("slow", "slow-tail")))
    assert slow.candidate_ms.mean() == pytest.approx(3 * slow.stable_ms.mean(), rel=0.03)
    assert np.std(np.log(slow.stable_ms)) == pytest.approx(0.5, rel=0.03)
    assert np.median(tail.candidate_ms) == pytest.approx(np.median(tail.stable_ms), rel=0.05)
    assert np.quantile(tail.candidate_ms, 0.99) > 4 * np.quantile(tail.stable_ms, 0.99)


HELD_BACK = POLICY.online.confirm.model_dump(mode="json", exclude_none=True) | {"holdback": 20}


def test_what_stable_keeps_in_confirm_is_compared_on() -> None:
    """Without it n stays what the canary left."""
    (equal,) = worlds_named(["equal"])
    numbers: dict[int, list[int]] = {}

    def decide(state: ReleaseState, evidence: Evidence, policy: GatePolicy, now: str) -> Advice:
        if state.stage == "confirm":
            compared = sum(stratum.candidate.n + stratum.stable.n for stratum in evidence.strata)
            numbers.setdefault(state.stable_weight, []).append(compared)
        return advance(state, evidence, policy, now)

    for policy in (POLICY, shaped(confirm=HELD_BACK)):
        assert play(SimulatedTraffic(equal, SCALE, 4, 1), policy, decide, every_look=True).end == "promoted"
    matured = 3  # looks after which the canary's own labels are in
    assert len(set(numbers[0][matured:])) == 1
    assert len(set(numbers[20][matured:])) > 1
    assert max(numbers[20]) > max(numbers[0])


# -- other policies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "stages"),
    [
        (shaped(shadow=None), {"canary", "confirm"}),
        (
            shaped(canary=None, blue_green={"maximum_hours": 24, "soak_hours": 6}, confirm=HELD_BACK),
            {"shadow", "confirm"},
        ),
        (shaped(confirm=POLICY.online.confirm.model_copy(update={"approval": True})), {"shadow"}),
    ],
    ids=["canary alone", "shadow, then blue/green", "confirm with approval"],
)
def test_any_stages_are_played(policy: GatePolicy, stages: set[str]) -> None:
    (equal, worse) = worlds_named(("equal", "much-worse"))
    (good, bad) = simulate(policy, (equal, worse), scale_of(policy, 900), rollouts=4, seed=1, cores=1)[Rival("sluice")]
    assert good.rolled_back.share == 0
    assert bad.promoted.share == 0
    assert set(bad.ended_in) <= stages


@pytest.mark.parametrize(
    "policy",
    [
        POLICY,
        shaped(shadow=None),
        shaped(shadow=None, canary=None, blue_green={"maximum_hours": 9}, confirm=HELD_BACK),
    ],
)
def test_a_rollout_begins_as_an_accepted_proposal_does(policy: GatePolicy) -> None:
    settled = ReleaseState.empty(policy.task, policy.environment).settled(STABLE, clock(0), ())
    settled = settled.model_copy(update={"sequence": 0})
    snapshot = Snapshot(commit="0" * 40, state=settled, policy=policy, policy_digest=DIGEST)
    passed = Reason(rule="x", verdict=Verdict.PASS, observed=None, bound=None, n=1, text="x")
    proposed = propose(snapshot, CANDIDATE, [passed], {}, {}, clock(0))
    assert first_state(policy).model_dump(exclude={"rollout"}) == {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in proposed.after.items()
        if key != "rollout"
    }


def test_an_unknown_world_is_named() -> None:
    with pytest.raises(BadInput, match="paradise"):
        worlds_named(["paradise"])


# -- the same again ---------------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_figures_on_any_number_of_cores() -> None:
    worlds = worlds_named(("equal", "worse"))
    tables = [
        simulate(POLICY, worlds, SCALE, rollouts=20, seed=seed, cores=cores) for seed, cores in ((5, 1), (5, 2), (6, 1))
    ]
    assert tables[0] == tables[1]
    assert tables[0] != tables[2]
    assert [one.rollouts for one in tables[0][Rival("sluice")]] == [20, 20]


def test_the_order_of_asking_changes_no_request() -> None:
    (world,) = worlds_named(["bursty"])
    first, second = SimulatedTraffic(world, SCALE, 1, 4), SimulatedTraffic(world, SCALE, 1, 4)
    later = first.span(25, 30)
    for index in range(4):
        second.block(index)
    again = second.span(25, 30)
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(later, again, strict=True))


# -- the figures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "n", "ends"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilson_agrees_with_published_values(hits: int, n: int, ends: tuple[float, float]) -> None:
    """Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3: 81/263, 15/148, 0/20, 1/29."""
    assert wilson(hits, n)[1:] == pytest.approx(ends, abs=6e-5)


def test_wrong_means_a_promoted_bad_one_or_a_good_one_that_failed() -> None:
    promoted = Outcome("promoted", "confirm", held=False, requests=9000, hours=200.0, exposed=3000)
    back = Outcome("rolled back", "shadow", held=True, requests=900, hours=24.0, exposed=0)
    late = Outcome("timed out", "shadow", held=False, requests=4500, hours=120.0, exposed=0)
    found = [promoted, promoted, back, late]
    good, bad = (summary_of(World("x", truth, ""), found) for truth in ("good", "bad"))
    assert (good.wrong.share, bad.wrong.share, good.timed_out.share) == (0.25, 0.5, 0.25)
    assert good.promoted_by_10000.share == 0.5
    assert good.ended_in == {"confirm": 2, "shadow": 2}
