"""What a simulation says of the worlds that a policy asks nothing of is true of that policy."""

from __future__ import annotations

import pytest

from sluice.simulation.report import Simulated
from sluice.simulation.run import OURS, Rival
from sluice.simulation.worlds import scale_of
from tests.support.rules import policy_with

ERRORS = "metric: error_rate, role: limit, limit: 0.01"
SHADOW = "the shadow's error_rate counts what such a model alone refuses, and no later stage does"


@pytest.mark.parametrize(
    ("stage", "rule", "said"),
    [
        ("shadow", ERRORS, SHADOW),
        ("canary", ERRORS, "such a model is promoted"),
        ("shadow", "metric: skew, role: quality, limit: 0.1", "such a model is promoted"),
        ("canary", "metric: refusal_rate, role: deterioration, margin: 0.01", None),
    ],
)
def test_a_model_that_refuses_is_promoted_only_where_no_rule_sees_it(stage: str, rule: str, said: str | None) -> None:
    policy = policy_with(stage, rule)
    others = {
        name: one.model_copy(update={"rules": ()}) for name, one in policy.online.sections.items() if name != stage
    }
    policy = policy.model_copy(update={"online": policy.online.model_copy(update=others)})
    played = Simulated(policy, "sha256:0", (), scale_of(policy, 900), 1, 0, {Rival(OURS): ()})
    notes = [note for note in played.notes() if note.startswith("refuses: ")]
    expected = f"refuses: not played, since the policy asks nothing of refusal_rate; {said}"
    assert notes == ([expected] if said else [])
