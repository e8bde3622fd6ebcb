"""``sluice plan``: how long a shadow needs on days of one's own, and which margin a week reaches."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from sluice.commands import app
from sluice.errors import BadInput
from sluice.gates.policy import parse_policy
from sluice.simulation.plan import plan_shadow
from sluice.strict_yaml import read_yaml

_ROOT = Path(__file__).parents[2]
_POLICY = _ROOT / "manifests/overlays/dev/gate-policy.yaml"


def _pairs(path: Path, *, days: int = 90, storm: float = 0.0, own: float = 0.1) -> Path:
    """Fifty pairs a day by their losses; a day's shock is shared by all of it."""
    rng = np.random.default_rng(days)
    hours = np.sort(rng.uniform(0, 24 * days, 50 * days))
    shock = rng.normal(0, storm, days)[(hours // 24).astype(int)]
    stable = np.full(hours.size, 5.0)
    times = [datetime(2021, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in hours]
    frame = pl.DataFrame({"event_time": times, "stable_loss": stable})
    candidate = stable + shock + (rng.normal(0, own, hours.size) if own else 0.0)
    label_time = pl.col("event_time") + timedelta(hours=1)
    frame.with_columns(label_time=label_time, candidate_loss=candidate).write_parquet(path)
    return path


def _policy_with(path: Path, margin: float) -> Path:
    path.write_text(
        _POLICY.read_text().replace("role: guardrail, margin: 0.05}", f"role: guardrail, margin: {margin}}}")
    )
    return path


def test_days_that_share_a_shock_need_longer(tmp_path: Path) -> None:
    calm, stormy = (plan_shadow(_POLICY, _pairs(tmp_path / f"{storm}.parquet", storm=storm)) for storm in (0.0, 0.05))
    assert calm.design_effect < 3 < stormy.design_effect
    assert calm.hours < stormy.hours


def test_the_margin_of_a_week_is_reached_in_a_week_and_no_smaller_one(tmp_path: Path) -> None:
    pairs = _pairs(tmp_path / "pairs.parquet", storm=0.05)
    week = plan_shadow(_POLICY, pairs).margin_in_a_week
    assert week is not None
    reached, missed = (plan_shadow(_policy_with(tmp_path / "p.yaml", week * by), pairs) for by in (1.001, 0.9))
    assert reached.hours <= 168 < missed.hours


def test_its_lines_are_a_policys(tmp_path: Path) -> None:
    arguments = ["plan", str(_POLICY), "--replay", str(_pairs(tmp_path / "pairs.parquet", storm=0.05)), "--json"]
    document = json.loads(CliRunner().invoke(app, arguments).stdout)
    lines = read_yaml(document["policy_lines"].encode())
    policy = read_yaml(_POLICY.read_bytes())
    policy["online"]["block_hours"] = lines["online"]["block_hours"]
    policy["online"]["shadow"]["maximum_hours"] = lines["online"]["shadow"]["maximum_hours"]
    shadow = parse_policy(json.dumps(policy).encode(), "policy").online.shadow
    assert shadow is not None
    assert shadow.maximum_hours >= 2 * document["hours"] - 1e-9
    assert lines["online"]["shadow"]["rules"][0] in policy["online"]["shadow"]["rules"]
    text = CliRunner().invoke(app, arguments[:-1]).stdout
    assert f"margin 0.05: in 80% of rollouts an equal candidate has shown it after {document['hours'] / 24:.1f}" in text


def test_days_that_say_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="says nothing of blocks of 1 h: 41 days, variance 0; give more days"):
        plan_shadow(_POLICY, _pairs(tmp_path / "pairs.parquet", days=40, own=0.0))
