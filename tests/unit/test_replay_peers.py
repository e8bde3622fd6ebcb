"""``sluice simulate --replay --compare``: other tools' rules on the days that a replay drew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sluice.commands import app
from sluice.gates.policy import read_policy
from sluice.installation import MANIFESTS
from sluice.simulation.pairs import read_pairs
from sluice.simulation.peers import PEERS
from sluice.simulation.replay import TRUTHS, day_table, resampled_draws
from sluice.simulation.replay_command import ReplayOptions, replay_pairs, shadow_terms
from sluice.simulation.replay_peers import ReplayedTraffic, peers_on_replay, population_of
from sluice.simulation.worlds import World, scale_of

_POLICY = MANIFESTS / "overlays" / "dev" / "gate-policy.yaml"
_PAIRS = Path(__file__).parents[1] / "replay_pairs" / "flights.parquet"


def test_a_peer_meets_the_requests_of_the_days_that_were_drawn() -> None:
    policy, _ = read_policy(_POLICY)
    pairs, days = read_pairs(_PAIRS), np.array([7, 3, 3, 20])
    rows = [np.flatnonzero(pairs.day == day) for day in range(pairs.days)]
    people, world = population_of(pairs), World("replay", "good", "")
    same: dict[str, Any] = {"pairs": pairs, "people": people, "rows": rows}
    traffic = ReplayedTraffic(world, scale_of(policy, 900), 0, 0, **same, days=days, worse=1.0)
    met = traffic.span(0, 20)  # five days: the fifth is the first again
    assert sorted(met.row) == sorted(np.concatenate([rows[day] for day in (7, 3, 3, 20, 7)]))
    first = met.of(met.at < 24)
    assert sorted(first.row) == sorted(rows[7])
    assert np.allclose(first.label_at, pairs.label_hours[first.row])
    assert np.array_equal(first.window, (first.at // 6).astype(int))
    shift = traffic.shift(met.window)
    gap = people.candidate_losses[met.row] + shift - people.stable_losses[met.row]
    assert np.allclose(gap, pairs.difference[met.row] + 1.0)
    assert 0.2 < (met.draw < 0.25).mean() < 0.3


def test_peers_are_wrong_where_days_depend() -> None:
    policy, _ = read_policy(_POLICY)
    terms, pairs = shadow_terms(policy, ReplayOptions(6, 0)), read_pairs(_PAIRS)
    table, draws = day_table(pairs, terms), resampled_draws(pairs.days, terms, 6, 0)
    found = {(one.truth, one.rule): one for one in peers_on_replay(pairs, table, policy, terms, draws, 0)}
    assert found.keys() == {(truth, peer.name) for truth in TRUTHS for peer in PEERS}
    assert found["at the margin", "kayenta"].wrong.share > 0.3  # promoted
    assert found["equal", "fixed-n"].promoted.share > found["twice the margin", "fixed-n"].promoted.share
    assert all(one.exposed > 0 and one.miscoverage is None for one in found.values())


def test_the_command_shows_them_beside_ours_and_writes_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- replay-flights-compare:begin -->\n<!-- replay-flights-compare:end -->\n")
    arguments = ["simulate", str(_POLICY), "--replay", str(_PAIRS), "--compare", "--rollouts", "2"]
    ran = CliRunner().invoke(app, [*arguments, "--write", str(page), "--json"])
    assert ran.exit_code == 0, ran.output
    document = json.loads(ran.stdout)
    assert {one["rule"] for one in document["peers"]} == {peer.name for peer in PEERS}
    heading, _, *rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    assert "sluice, shadow | argo | flagger | kayenta | fixed-n" in heading
    assert [row.split("|")[1].strip() for row in rows] == list(TRUTHS)
    assert "peers" not in replay_pairs(_POLICY, _PAIRS, ReplayOptions(2, 0)).document()


@pytest.mark.parametrize("more", [["--contiguous", "--compare"], ["--world", "equal"]])
def test_what_does_not_go_together_is_refused(more: list[str]) -> None:
    ran = CliRunner().invoke(app, ["simulate", str(_POLICY), "--replay", str(_PAIRS), *more])
    assert ran.exit_code != 0
    assert "leave out" in str(ran.exception) + ran.output
