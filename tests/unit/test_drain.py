"""After a rollout the candidate's server stays until nothing is sent to it; then one more commit takes it away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sluice.documents.state import ReleaseState
from sluice.errors import BadArtifact, Refused
from sluice.operations.operator import add_hold, roll_back, settle
from sluice.operations.status import describe, status_of
from sluice.operations.why import why
from sluice.release.file import parse_release, render_release, renderings
from sluice.rollout.advance import advance, propose
from sluice.rollout.drain import remove_server
from sluice.rollout.effect import judge_effect
from sluice.rollout.message import commit_message
from tests.support.release import GOOD, NOW, POLICY, A, B, C, applied_of, passing, snapshot_of, state_in
from tests.support.release_repository import repository_in

POLICY_FILE = (Path(__file__).parents[1] / "support/tiny_checkout/manifests/overlays/dev/gate-policy.yaml").read_text()


@pytest.mark.parametrize("candidate", [B, C, None], ids=["serving", "another", "gone"])
def test_a_leftover_that_nothing_is_sent_to_is_taken_away_whatever_it_serves(candidate: str | None) -> None:
    state = state_in("drain")
    made = remove_server(snapshot_of(state), applied_of(state, candidate=candidate), NOW)
    assert made is not None
    after = ReleaseState.model_validate(made.after)
    assert (made.action, made.verdict, made.candidate, made.stable) == ("remove-server", "PASS", B, A)
    assert (after.stage, after.stable, after.leftover, after.since) == ("stable", A, None, NOW)
    assert commit_message(made).startswith("toy dev: the candidate's server of bbbbbbbbbbbb taken away  PASS\n")


@pytest.mark.parametrize(
    "read",
    [
        {"stable_weight": 50, "candidate_weight": 50},
        {"stable_weight": 100, "mirror_percent": 100},
        {"stable": None},
        {"stable": C},
        {"stable_weight": 0},
    ],
)
def test_while_the_route_or_stable_is_not_as_decided_it_stays(read: dict[str, Any]) -> None:
    state = state_in("drain")
    applied = applied_of(state, candidate=B, **read)
    assert remove_server(snapshot_of(state), applied, NOW) is None
    assert "candidate serves" not in judge_effect(state, applied).text


@pytest.mark.parametrize("stage", ["empty", "canary", "stable"])
def test_no_other_stage_has_a_server_to_take_away(stage: str) -> None:
    state = state_in(stage)
    assert remove_server(snapshot_of(state), applied_of(state), NOW) is None


def test_a_promotion_leaves_the_server_that_answered_until_the_route_moved() -> None:
    state = state_in("confirm")
    after = advance(state, passing(state), POLICY, NOW).after
    assert (after.stage, after.stable, after.leftover, after.candidate) == ("drain", B, B, None)
    assert not after.is_applied(applied_of(after, stable_weight=0, candidate=B, candidate_weight=100))


def test_the_next_rollout_takes_the_place_of_a_leftover() -> None:
    made = propose(snapshot_of(state_in("drain")), C, GOOD, {}, {}, NOW)
    after = ReleaseState.model_validate(made.after)
    assert (after.stage, after.candidate, after.leftover) == ("shadow", C, None)


def test_a_person_settles_where_no_gate_looks_and_only_what_was_read_back(tmp_path: Path) -> None:
    gitops = repository_in(tmp_path, state_in("drain", task="tiny"), POLICY_FILE)
    state = gitops.snapshot().state
    assert "sluice settle --env dev" in "\n".join(describe(status_of(gitops)))
    sent = applied_of(state, stable_weight=50, candidate_weight=50)
    with pytest.raises(Refused, match="candidate_weight is 50, decided was 0"):
        settle(gitops, sent, "no gate", "kim", NOW)
    assert gitops.snapshot().state == state
    made = settle(gitops, applied_of(state), "no gate", "kim", NOW)
    assert (made.action, made.candidate) == ("remove-server", B)
    assert (gitops.snapshot().state.stage, gitops.snapshot().state.leftover) == ("stable", None)
    assert commit_message(made).startswith("tiny dev: the candidate's server of bbbbbbbbbbbb taken away  PASS\n")
    with pytest.raises(Refused, match="no server of a rollout that is over runs"):
        settle(gitops, applied_of(state), "no gate", "kim", NOW)


def test_the_file_names_the_server_as_the_candidates_for_kustomize() -> None:
    state = state_in("drain")
    text = render_release(state)
    assert b"components: [../../../strategies/drain]" in text
    assert f'"candidate-bundle={B.replace(":", "-")}"'.encode() in text
    assert [parse_release(one, "f") for one in renderings(state)] == [state] * 3
    nameless = text.replace(f"candidate={B}".encode(), b"candidate=")
    with pytest.raises(BadArtifact, match="leftover: is missing, stage drain needs it"):
        parse_release(nameless, "f")


def test_people_are_told_and_may_hold_it_and_a_rollback_is_of_stable(tmp_path: Path) -> None:
    gitops = repository_in(tmp_path, state_in("drain", task="tiny"), POLICY_FILE)
    assert "taken away when the route was read back" in "\n".join(describe(status_of(gitops)))
    held = add_hold(gitops, B, "slow too", "kim", NOW)
    assert held.after["stage"] == "drain"
    assert "held since" in why(gitops, B).standing
    with pytest.raises(Refused, match="no earlier model"):
        roll_back(gitops, "slow", "kim", NOW)
