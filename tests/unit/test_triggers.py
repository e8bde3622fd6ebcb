"""When a training is due: each trigger alone, what is not known, and the guards."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sluice.documents.evidence import Moments
from sluice.errors import BadInput
from sluice.retraining.triggers import (
    Drift,
    NewLabels,
    ProductionFacts,
    Retraining,
    Signal,
    TriggerLimits,
    chance,
    decide,
)
from sluice.steps.parameters import parse_limits
from sluice.steps.watch import page


def labels(n: int, learnable: bool = True) -> NewLabels:
    return NewLabels(n=n, since="2026-01-01T00:00:00Z", until="2026-02-01T00:00:00Z", learnable=learnable)


QUIET: dict[str, Any] = {
    "production": "sha256:" + "0" * 64,
    "requests": 5000,
    "drift": {"a": Drift(divergence=0.02, bins=21), "b": Drift(divergence=0.01, bins=5)},
    "loss": Moments(n=5000, mean=0.41, variance=0.2),
    "holdout_loss": 0.4,
    "labels": labels(9_999),
    "hours_since_training": 48.0,
}


def says(made: Retraining) -> dict[str, str]:
    return {trigger.name: trigger.says.value for trigger in made.triggers}


def test_nothing_fires_when_all_is_well() -> None:
    made = decide(ProductionFacts(**QUIET), TriggerLimits())
    assert not made.retrain
    assert made.reason == "no trigger fires"
    assert set(says(made).values()) == {"QUIET"}


@pytest.mark.parametrize(
    ("trigger", "changed"),
    [
        ("drift", {"drift": {"a": Drift(divergence=0.02, bins=21), "b": Drift(divergence=0.2, bins=5)}}),
        ("decay", {"loss": Moments(n=5000, mean=0.5, variance=0.2)}),
        ("volume", {"labels": labels(10_000)}),
        ("schedule", {"hours_since_training": 24 * 30.0}),
        ("empty", {"production": None, "empty": True}),
    ],
)
def test_each_trigger_alone_starts_a_training_and_is_named(trigger: str, changed: dict[str, Any]) -> None:
    made = decide(ProductionFacts(**QUIET | changed), TriggerLimits())
    assert made.retrain
    assert made.reason.startswith(f"{trigger}: ")
    assert [name for name, answer in says(made).items() if answer == "FIRES"] == [trigger]


@pytest.mark.parametrize(
    ("trigger", "changed"),
    [
        ("drift", {"requests": None, "drift": {}}),
        ("drift", {"requests": 499}),
        ("decay", {"loss": None}),
        ("decay", {"holdout_loss": None}),
        ("decay", {"loss": Moments(n=499, mean=9.0, variance=0.1)}),
        ("decay", {"loss": Moments(n=600, mean=0.45, variance=1.0)}),
        ("decay", {"loss": Moments(n=600, mean=0.5, variance=1.0)}),
        ("volume", {"labels": None}),
        ("schedule", {"hours_since_training": None}),
    ],
)
def test_what_is_not_known_starts_nothing_and_is_said(trigger: str, changed: dict[str, Any]) -> None:
    made = decide(ProductionFacts(**QUIET | changed), TriggerLimits())
    assert not made.retrain
    assert says(made)[trigger] == "INCONCLUSIVE"
    assert made.reason == f"no trigger fires; nothing is known of {trigger}"


def test_nothing_known_at_all_is_inconclusive_throughout() -> None:
    made = decide(ProductionFacts(), TriggerLimits())
    assert not made.retrain
    assert set(says(made).values()) == {Signal.INCONCLUSIVE.value}


def test_new_labels_that_no_training_would_read_start_one_and_say_so() -> None:
    made = decide(ProductionFacts(**QUIET | {"labels": labels(10_000, learnable=False)}), TriggerLimits())
    assert made.retrain
    assert "a training reads the same rows until they are moved" in made.reason
    assert "the same rows" not in decide(ProductionFacts(**QUIET | {"labels": labels(10_000)}), TriggerLimits()).reason


def test_few_requests_need_more_divergence_since_chance_alone_gives_some() -> None:
    moved = {"a": Drift(divergence=0.105, bins=21)}
    assert decide(ProductionFacts(**QUIET | {"drift": moved, "requests": 500}), TriggerLimits()).retrain is False
    assert decide(ProductionFacts(**QUIET | {"drift": moved, "requests": 5000}), TriggerLimits()).retrain is True
    assert chance(21, 500) == pytest.approx(0.00721, abs=1e-5)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"rollout": "r0007-abc"}, "rollout r0007-abc is going on"),
        ({"hours_since_training": 23.0}, "trained 23.0 h ago"),
    ],
)
def test_the_guards_hold_a_training_back_and_say_what_would_have_started_it(changed: dict[str, Any], why: str) -> None:
    made = decide(ProductionFacts(**QUIET | {"labels": labels(20_000)} | changed), TriggerLimits())
    assert not made.retrain
    assert made.reason.startswith(why)
    assert "volume: 20000 labels became known from 2026-01-01T00:00:00Z to 2026" in made.reason


@pytest.mark.parametrize("text", ['{"drift": 0}', '{"volume": 0}', '{"drft": 0.1}', '{"decay": "x"}', "[", "7"])
def test_limits_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="parameter limits"):
        parse_limits(text)


def test_limits_are_the_defaults_where_nothing_is_said() -> None:
    assert parse_limits("") == TriggerLimits()
    assert parse_limits('{"drift": 0.5}') == TriggerLimits(drift=0.5)


def test_no_evidence_is_nan() -> None:
    with pytest.raises(ValidationError):
        ProductionFacts(holdout_loss=float("nan"))


def test_the_page_says_everything_and_escapes_it() -> None:
    made = decide(ProductionFacts(**QUIET | {"rollout": "<b>"} | {"labels": labels(20_000)}), TriggerLimits())
    text = page(made)
    assert "&lt;b&gt;" in text
    assert "<b>is" not in text
    assert all(trigger.name in text for trigger in made.triggers)
