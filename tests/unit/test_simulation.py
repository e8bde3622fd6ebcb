"""The simulator plays the real rules on evidence that the real collector would have made."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sluice.errors import BadInput
from sluice.gates.policy import GatePolicy, read_policy
from sluice.gates.simulation.counting import Road
from sluice.gates.simulation.evidence import Stretch, Watch, clock, evidence_of
from sluice.gates.simulation.play import Outcome, begun, play
from sluice.gates.simulation.population import population
from sluice.gates.simulation.run import Rival, simulate
from sluice.gates.simulation.summary import summary_of, wilson
from sluice.gates.simulation.traffic import Traffic
from sluice.gates.simulation.worlds import WORLDS, Scale, World, scale_of, worlds_named
from sluice.monitoring.collect import collect_evidence
from sluice.monitoring.evidence import Evidence
from sluice.release.rollout import Advice, advance
from sluice.release.state import ReleaseState, moment_of
from tests.unit.simulated_rows import CARRIED, SLICES, THRESHOLDS, rows_of

ROOT = Path(__file__).parents[2]
POLICY, DIGEST = read_policy(ROOT / "manifests/overlays/dev/gate-policy.yaml")
SCALE = scale_of(POLICY, 900)


def outcomes(name: str, n: int, decide: Any = advance, scale: Scale = SCALE) -> list[Outcome]:
    (world,) = worlds_named([name])
    return [play(Traffic(world, scale, 3, number), POLICY, decide) for number in range(n)]


def share(found: list[Outcome], end: str) -> float:
    return sum(one.end == end for one in found) / len(found)


# -- the evidence is what the collector would say -------------------------------------------------------------------


STAGES = {
    "shadow": [Stretch(0, 3, Road(True, 1.0))],
    "canary": [Stretch(5, 9, Road(False, 0.5))],
    "confirm": [Stretch(3, 6, Road(False, 0.2)), Stretch(6, 12, Road(False, 0.5)), Stretch(12, 15, Road(False, 1.0))],
}
EVERYWHERE = replace(SCALE, sliced=frozenset(STAGES), asked=SCALE.asked | {"latency"})


def watched(world: World, stage: str) -> tuple[Evidence, Evidence]:
    """The simulator's document and the collector's of one look."""
    traffic = Traffic(world, EVERYWHERE, 3, 0)
    maturity, share = POLICY.online.label_maturity_hours, world.road
    stretches = [one._replace(road=one.road._replace(share=one.road.share * share)) for one in STAGES[stage]]
    *earlier, live = stretches
    look, weight = live.end, {"shadow": 0, "canary": 50, "confirm": 100}[stage]
    changed = {"stage": stage, "since": clock(live.first * SCALE.look_hours), "candidate_weight": weight}
    changed |= {"stable_weight": 100 - weight, "mirror_percent": 100 if stage == "shadow" else 0}
    state = ReleaseState.model_validate(begun(POLICY).model_dump() | changed)
    made = evidence_of(state, Watch(traffic, maturity), live, earlier, look)
    rows, labels = rows_of(traffic, stretches)
    real = collect_evidence(
        rows,
        labels,
        state,
        made.applied,
        {},
        now=moment_of(made.now),
        label_maturity_hours=maturity,
        slices=SLICES,
        carried=CARRIED,
        thresholds=THRESHOLDS,
    )
    return made, real


@pytest.mark.parametrize("name", ["equal", "late-labels", "errors", "slow-tail", "stale", "turns-worse", "split"])
@pytest.mark.parametrize("stage", list(STAGES))
def test_evidence_is_what_the_collector_says_of_the_same_rows(name: str, stage: str) -> None:
    (world,) = worlds_named([name])
    made, real = watched(world, stage)
    unlike = {"skew", "cells"}
    if stage == "shadow":  # no rule reads strata there, and the simulator does not make them
        unlike |= {"strata"}
        real = real.model_copy(
            update={"slices": {k: one.model_copy(update={"strata": ()}) for k, one in real.slices.items()}}
        )
    mine, theirs = made.model_dump(exclude=unlike), real.model_dump(exclude=unlike)
    for document in (mine, theirs):  # the simulator does not keep the times of single requests
        for arm in ("candidate", "stable"):
            document[arm] |= {"first": None, "last": None}
    assert len(mine["slices"]) == 20
    assert close(mine, theirs)


def close(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, dict):
        return mine.keys() == theirs.keys() and all(close(value, theirs[key]) for key, value in mine.items())
    if isinstance(mine, list | tuple):
        return len(mine) == len(theirs) and all(close(a, b) for a, b in zip(mine, theirs, strict=True))
    return math.isclose(mine, theirs, rel_tol=1e-6, abs_tol=1e-9) if isinstance(mine, float) else bool(mine == theirs)


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
    assert seen[-1] in {"confirm", "rollback"}


# -- what comes out ---------------------------------------------------------------------------------------------------


def test_bad_candidates_are_hardly_ever_promoted_and_equal_ones_hardly_ever_rolled_back() -> None:
    assert share(outcomes("worse", 60), "promoted") == 0
    assert share(outcomes("errors", 60), "promoted") == 0
    assert share(outcomes("split", 20), "promoted") == 0
    equal = outcomes("equal", 60)
    assert share(equal, "promoted") > 0.9
    assert share(equal, "rolled back") == 0


@pytest.mark.parametrize(("rule", "world"), [("log_loss", "worse"), ("error_rate", "errors"), ("split", "split")])
def test_a_broken_rule_shows(rule: str, world: str) -> None:
    """Without one rule, the world that it is there for is promoted: the test above would be red."""

    def broken(state: ReleaseState, evidence: Evidence, policy: GatePolicy, now: str) -> Advice:
        online = policy.online
        keys = {"log_loss": "log_loss_margin", "error_rate": "maximum_error_rate", "split": "split_alpha"}
        stages = {
            name: getattr(online, name).model_copy(update={keys[rule]: None})
            for name in ("shadow", "canary", "confirm")
        }
        return advance(state, evidence, policy.model_copy(update={"online": online.model_copy(update=stages)}), now)

    assert share(outcomes(world, 12, broken), "promoted") > 0.9


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
    bursty, even, drifting, late = (
        Traffic(world, SCALE, 1, 0) for world in worlds_named(("bursty", "equal", "drifting", "late-labels"))
    )
    counts = [np.std([traffic.window(day).n for day in range(20)]) for traffic in (bursty, even)]
    assert counts[0] > 3 * counts[1]
    assert np.mean([even.window(day).n for day in range(20)]) == pytest.approx(900, rel=0.03)
    losses = drifting.population.stable_losses
    assert losses[drifting.window(15).row].mean() > losses[drifting.window(0).row].mean() + 0.05
    delays = late.window(0).label_at - late.window(0).at
    assert np.median(delays) == pytest.approx(13, abs=2)
    assert np.isinf(delays).mean() == pytest.approx(0.04, abs=0.02)


def test_a_slow_candidate_is_slow_and_a_policy_that_asks_stops_it() -> None:
    online = POLICY.online
    shadow = online.shadow.model_copy(update={"latency_ratio": 2.0})
    policy = POLICY.model_copy(update={"online": online.model_copy(update={"shadow": shadow})})
    scale = scale_of(policy, 900)
    (slow,) = worlds_named(["slow"])
    ends = [play(Traffic(slow, scale, 1, number), policy, advance).end for number in range(10)]
    assert set(ends) == {"rolled back"}
    equal = replace(slow, latency=1.0)
    assert play(Traffic(equal, scale, 1, 0), policy, advance).end == "promoted"


def test_an_unknown_world_is_named() -> None:
    with pytest.raises(BadInput, match="paradise"):
        worlds_named(["paradise"])


# -- the same again ---------------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_figures_on_any_number_of_cores() -> None:
    worlds = worlds_named(("equal", "worse"))
    tables = [
        simulate(POLICY, advance, worlds, SCALE, rollouts=60, seed=seed, cores=cores)
        for seed, cores in ((5, 1), (5, 2), (6, 1))
    ]
    assert tables[0] == tables[1]
    assert tables[0] != tables[2]
    assert [one.rollouts for one in tables[0][Rival("sluice")]] == [60, 60]


def test_the_order_of_asking_changes_no_request() -> None:
    (world,) = worlds_named(["bursty"])
    first, second = Traffic(world, SCALE, 1, 4), Traffic(world, SCALE, 1, 4)
    later = first.window(3)
    for index in range(4):
        again = second.window(index)
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(later, again, strict=True))


# -- the figures ------------------------------------------------------------------------------------------------------


def test_wilson_agrees_with_published_values() -> None:
    """Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3: 81/263, 15/148, 0/20, 1/29."""
    table = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (hits, n), ends in table.items():
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
