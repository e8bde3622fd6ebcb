"""Until when a shadow probably lasts: from the ledger alone, and as the plan counts it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sluice.documents.event_time import iso, moment_of
from sluice.gates.blocks import FIRST_LOOK
from sluice.gates.loss_history import block_history
from sluice.gates.online_policy import Online
from sluice.gates.planning import BETA, blocks_needed
from sluice.gitops.writer import GitOps
from sluice.operations.expectation import expected_end
from sluice.operations.status import describe, status_of
from sluice.rollout.advance import propose
from tests.support.approval import january, look_on
from tests.support.leftover import take_leftover_away
from tests.support.loss_blocks import HOURS, history
from tests.support.release import GOOD, SINCE, A, B, C, sample_checkout, state_in
from tests.support.rules import policy_with

GUARDRAIL = "metric: log_loss, role: guardrail, margin: 0.05"


def online(stage: str = "shadow", *rules: str, **changed: Any) -> Online:
    asked = policy_with(stage, *(rules or (GUARDRAIL,))).online
    return asked.model_copy(update={"block_hours": HOURS, "label_maturity_hours": 6, **changed})


def recorded(**changed: Any) -> dict[str, Any]:
    return {"histories": [history(**changed).model_dump(mode="json")]}


def after(blocks: int) -> str:
    return iso(moment_of(SINCE) + timedelta(hours=blocks * HOURS + 6))


@pytest.mark.parametrize("variance", [1e-6, 0.0004, 0.002])
def test_it_is_what_the_plan_says(variance: float) -> None:
    needed = blocks_needed(block_history(history(variance)), 0.05, 0.05, BETA)
    assert (needed == FIRST_LOOK) is (variance < 0.001)
    assert expected_end(state_in("shadow"), online(), recorded(variance=variance)) == after(needed)


def test_the_slowest_rule_and_the_soak_decide() -> None:
    strict = GUARDRAIL.replace("0.05", "0.02") + ", alpha: 0.01"
    found = expected_end(state_in("shadow"), online("shadow", strict), recorded())
    assert found == after(blocks_needed(block_history(history()), 0.02, 0.01, BETA))
    assert found != after(FIRST_LOOK)
    asked = online()
    assert asked.shadow is not None
    soaking = asked.model_copy(update={"shadow": asked.shadow.model_copy(update={"soak_hours": 240})})
    assert expected_end(state_in("shadow"), soaking, recorded()) == iso(moment_of(SINCE) + timedelta(hours=240))


@pytest.mark.parametrize(
    ("stage", "rule", "evaluation"),
    [
        ("canary", GUARDRAIL, recorded()),
        ("shadow", "metric: log_loss, role: deterioration, margin: 0.1", recorded()),
        ("shadow", GUARDRAIL, {}),
        ("shadow", GUARDRAIL, {"histories": "many"}),
        ("shadow", GUARDRAIL, recorded(hours=24)),
        ("shadow", GUARDRAIL, recorded(stable=C)),
    ],
)
def test_nothing_is_said_where_nothing_is_known(stage: str, rule: str, evaluation: dict[str, Any]) -> None:
    assert expected_end(state_in(stage), online(stage, rule), evaluation) is None


def test_status_says_it_from_the_ledger(tmp_path: Path) -> None:
    gitops = GitOps(tmp_path / "gitops.git", "dev")
    gitops.seed(sample_checkout())
    gitops.commit(lambda snapshot: propose(snapshot, A, GOOD, {}, {}, january(1)))
    assert status_of(gitops)["waits"]["expected"] is None
    look_on(gitops, 2)
    take_leftover_away(gitops, january(3))
    gitops.commit(lambda snapshot: propose(snapshot, B, GOOD, recorded(hours=24), {}, january(3)))
    found = status_of(gitops)
    needed = blocks_needed(block_history(history()), 0.1, 0.05, BETA)
    expected = iso(moment_of(january(3)) + timedelta(hours=24 * needed + 6))
    assert (found["stage"], found["waits"]["expected"]) == ("shadow", expected)
    assert any(f"for evidence, probably until {expected}, at most until" in line for line in describe(found))
