"""How long a block of event time is where the policy names no length: as the history of the pair has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sluice.documents.loss_history import LossHistory
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Decision, Reason, Verdict
from sluice.errors import BadArtifact
from sluice.evaluation.histories import loss_histories
from sluice.evaluation.intervals import ScoredModel
from sluice.gates.block_length import block_hours_of, chosen_length
from sluice.gates.policy import GatePolicy
from sluice.release.file import parse_release, render_release
from sluice.release.snapshot import Snapshot
from sluice.rollout.advance import back, forward, propose
from sluice.targets.yardstick import Yardstick
from tests.support.loss_blocks import history
from tests.support.release import A, B, C
from tests.support.rules import policy_with

_PAIRS = Path(__file__).parents[1] / "replay_pairs"
_NOW = "2020-03-01T00:00:00Z"
_GUARDRAIL = "metric: log_loss, role: guardrail, margin: 0.05"
_PASSED = (Reason.plain("auc", Verdict.PASS, "better"),)


def unnamed(rule: str = _GUARDRAIL, **online: Any) -> GatePolicy:
    """A policy that names no length."""
    policy = policy_with("shadow", rule)
    keys = {"block_hours": None, "design_effect": None} | online
    return policy.model_copy(update={"online": policy.online.model_copy(update=keys)})


def evaluation(histories: tuple[LossHistory, ...], shortest: float | None) -> dict[str, Any]:
    return {"histories": [one.model_dump(mode="json") for one in histories], "block_hours": shortest}


def proposed(recorded: dict[str, Any], policy: GatePolicy, stable: str | None = A) -> Decision:
    empty = ReleaseState.empty(policy.task, policy.environment)
    state = empty.settled(stable, _NOW, ()) if stable else empty
    snapshot = Snapshot("1" * 40, state, policy, "sha256:" + "0" * 64)
    return propose(snapshot, B, _PASSED, recorded, {}, _NOW)


def length_in(decision: Decision) -> float | None:
    return decision.after.get("block_hours")


def said(decision: Decision) -> str:
    return " ".join(reason.text for reason in decision.reasons if reason.rule == "block_hours")


def of_pairs(labels: Any, hours: Any, candidate: Any, stable: Any) -> dict[str, Any]:
    ours, theirs = (ScoredModel.of("m", scores, 0.5) for scores in (candidate, stable))
    return evaluation(*loss_histories(Yardstick(), labels, hours, ours, theirs, A))


# -- what is chosen -------------------------------------------------------------------------------------------------


def test_flights_history_says_six_hours_and_the_record_says_why() -> None:
    pairs = pl.read_parquet(_PAIRS / "flights.parquet")
    hours = pairs["event_time"].dt.epoch("us").to_numpy() / 3.6e9
    columns = [pairs[name].to_numpy() for name in ("candidate_score", "stable_score")]
    decision = proposed(of_pairs(pairs["label"].to_numpy(), hours - hours.min(), *columns), unnamed())
    assert length_in(decision) == 6
    assert said(decision) == (
        "losses are compared by blocks of 6 h: "
        "the shortest of 1 to 72 h whose residuals depend little on their neighbours in history"
    )


def test_a_service_of_a_million_requests_a_day_has_blocks_of_hours() -> None:
    rng, n = np.random.default_rng(4), 1_000_000
    hours = np.sort(rng.uniform(0, 24, n)) + 1e-9
    shock = np.repeat(rng.normal(0, 0.5, 24), 1 + n // 24)[:n]  # what an hour has to itself
    risk = rng.normal(-1, 1, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-risk - shock))).astype(np.int64)
    scores = [1 / (1 + np.exp(-risk - rng.normal(0, 0.2, n))) for _ in range(2)]
    decision = proposed(of_pairs(labels, hours, *scores), unnamed())
    assert length_in(decision) == 1
    assert "by blocks of 1 h" in said(decision)


@pytest.mark.parametrize(
    ("recorded", "hours", "text"),
    [
        ({}, None, "a day, since no history of this pair says how long one must be: state a design_effect, or wait"),
        ({"histories": [{"hours": 3}]}, None, "blocks of 24 h: a day, since no history"),
        (evaluation((history(stable=C),), 12), None, "a day, since no history of this pair"),
        (evaluation((history(), history(hours=24)), None), None, "none of 12 to 24 h leaves neighbours independent"),
        (evaluation((history(hours=6), history()), None), 12, "none of 6 to 12 h leaves neighbours independent"),
        (evaluation((history(hours=6), history()), 3), 12, "none of 6 to 12 h"),
        (evaluation((history(hours=6), history()), 6), 6, "the shortest of 6 to 12 h"),
    ],
)
def test_the_record_says_which_length_and_why(recorded: dict[str, Any], hours: float | None, text: str) -> None:
    decision = proposed(recorded, unnamed())
    assert length_in(decision) == hours
    assert text in said(decision)


@pytest.mark.parametrize(
    ("policy", "stable", "recorded"),
    [
        (unnamed(block_hours=12), A, evaluation((history(hours=6),), 6)),
        (unnamed(design_effect=20.0), A, {}),
        (unnamed(), None, {}),
        (unnamed("metric: error_rate, role: limit, limit: 0.01"), A, {}),
    ],
)
def test_nothing_is_chosen_where_nothing_asks(policy: GatePolicy, stable: str | None, recorded: dict[str, Any]) -> None:
    assert chosen_length(policy.online, recorded, stable) is None


# -- a rollout in flight keeps it -------------------------------------------------------------------------------------


def in_flight() -> tuple[GatePolicy, ReleaseState]:
    policy = unnamed()
    return policy, ReleaseState.model_validate(proposed(evaluation((history(hours=6),), 6), policy).after)


def test_a_length_lasts_as_long_as_the_rollout() -> None:
    policy, state = in_flight()
    _, canary = forward(state, policy, _NOW)
    assert (canary.stage, canary.block_hours) == ("canary", 6)
    assert back(canary, _NOW, None).block_hours is None
    with pytest.raises(ValueError, match="block_hours: is set, stage stable has none"):
        replace_length(back(canary, _NOW, None).drained(_NOW), 6)


def replace_length(state: ReleaseState, hours: float) -> ReleaseState:
    return ReleaseState.model_validate(state.model_dump() | {"block_hours": hours})


def test_the_policy_goes_before_and_a_rollout_of_before_has_days() -> None:
    policy, state = in_flight()
    assert block_hours_of(policy.online, state) == 6
    assert block_hours_of(unnamed(block_hours=12).online, state) == 12
    older = {key: value for key, value in state.model_dump(mode="json").items() if key != "block_hours"}
    assert block_hours_of(policy.online, ReleaseState.model_validate(older)) == 24


@pytest.mark.parametrize("hours", [6.0, 0.5, 1 / 3])
def test_the_release_file_says_it_and_others_stay_as_they_were(hours: float) -> None:
    _, state = in_flight()
    chosen = replace_length(state, hours)
    text = render_release(chosen)
    assert parse_release(text, "release") == chosen
    assert f'"block-hours={hours}"'.encode() in text
    assert b"block-hours" not in render_release(state.model_copy(update={"block_hours": None}))


@pytest.mark.parametrize(
    ("value", "text"),
    [("six", "block-hours: is no number of hours, got 'six'"), ("-6", "block_hours"), ("nan", "block_hours")],
)
def test_a_length_that_was_edited_into_nonsense_is_refused(value: str, text: str) -> None:
    _, state = in_flight()
    broken = render_release(state).replace(b"block-hours=6.0", f"block-hours={value}".encode())
    with pytest.raises(BadArtifact, match=text):
        parse_release(broken, "release")
