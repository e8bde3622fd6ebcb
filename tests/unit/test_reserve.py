"""A reserve of the margin: a PASS by blocks leaves room for weeks that are worse than any that were seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sluice.documents.verdict import Verdict
from sluice.gates.online import judge_look
from sluice.gates.policy import GatePolicy, read_policy
from sluice.installation import MANIFESTS
from sluice.simulation.pairs import read_pairs
from sluice.simulation.replay import SHARED, Draws, contiguous_draws, day_table, influence_spread, replay
from sluice.simulation.replay_command import ReplayOptions, shadow_terms
from tests.support.loss_blocks import HOURS, history, in_blocks
from tests.support.release import evidence_of, state_in
from tests.support.rules import policy_with

_PAIRS = Path(__file__).parents[1] / "replay_pairs" / "two-hours-late.parquet"
_POLICY = MANIFESTS / "overlays" / "dev" / "gate-policy.yaml"


def verdict(reserve: float, worse: float, role: str = "guardrail") -> tuple[Verdict, str]:
    policy = policy_with("shadow", f"metric: log_loss, role: {role}, margin: 0.1")
    keys = {"block_hours": HOURS, "design_effect": None, "label_maturity_hours": 0, "reserve": reserve}
    policy = policy.model_copy(update={"online": policy.online.model_copy(update=keys)})
    state = state_in("shadow")
    evidence = in_blocks(evidence_of(state, now="2020-02-10T00:00:00Z"), worse, history=history(1e-6), spread=1e-5)
    state = state_in("shadow", since=evidence.since)
    reasons = judge_look(evidence, policy.online.stages["shadow"], policy, state)
    (reason,) = (one for one in reasons if one.rule == "log_loss")
    return reason.verdict, reason.text


@pytest.mark.parametrize(
    ("reserve", "worse", "expected"),
    [
        (0.0, 0.095, Verdict.PASS),
        (0.1, 0.095, Verdict.INCONCLUSIVE),
        (0.1, 0.085, Verdict.PASS),
        (0.5, 0.085, Verdict.INCONCLUSIVE),
        (0.5, 0.12, Verdict.FAIL),
    ],
)
def test_a_pass_leaves_the_reserve_free(reserve: float, worse: float, expected: Verdict) -> None:
    found, text = verdict(reserve, worse)
    assert found is expected
    assert ("the reserve of" in text) is (expected is Verdict.INCONCLUSIVE)


@pytest.mark.parametrize(("role", "worse"), [("deterioration", 0.095), ("success", -0.105)])
def test_only_guardrails_keep_one(role: str, worse: float) -> None:
    assert verdict(0.5, worse, role)[0] is Verdict.PASS


def test_a_policy_without_it_is_written_as_before() -> None:
    policy, _ = read_policy(_POLICY)
    plain = policy.model_copy(update={"online": policy.online.model_copy(update={"reserve": 0.0})})
    assert "reserve" not in plain.model_dump()["online"]
    kept = plain.model_dump(mode="json")
    kept["online"]["reserve"] = 0.1
    assert GatePolicy.model_validate(kept).online.margin_to_show(0.05) == pytest.approx(0.045)
    kept["online"]["reserve"] = 1
    with pytest.raises(ValueError, match="less than 1"):
        GatePolicy.model_validate(kept)


def test_where_a_season_begins_fewer_are_promoted_at_the_margin_and_equal_ones_all_the_same() -> None:
    policy, _ = read_policy(_POLICY)
    pairs = read_pairs(_PAIRS)
    terms = replace(shadow_terms(policy, ReplayOptions(1, 0, None, 720)), block_hours=24)
    table = day_table(pairs, terms)
    terms = replace(terms, margin=2 * influence_spread(table))
    draws = Draws(*(part[:60] for part in contiguous_draws(pairs.days, terms)))  # a summer begins
    promoted = {}
    for reserve in (0.0, 0.12):
        rules = replay(table, replace(terms, reserve=reserve), draws)
        promoted[reserve] = {one.truth: one.promoted.share for one in rules if one.rule == SHARED}
    assert promoted[0.0]["at the margin"] > 0.25
    assert promoted[0.12]["at the margin"] <= 0.05
    assert np.isclose(promoted[0.12]["equal"], 1, atol=0.05)
