"""What a person does: against the state of the moment, with a name, a reason and where the model came from."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from sluice.errors import BadInput, Refused
from sluice.gitops.writer import GitOps
from sluice.ledger.trail import Trail
from sluice.operations.operator import add_hold, break_the_glass, release_hold, roll_back
from sluice.operations.status import describe, status_of
from sluice.release.snapshot import paths_of
from sluice.rollout.advance import look, propose
from tests.support.copies import copy_of
from tests.support.leftover import take_leftover_away
from tests.support.release import GOOD, A, B, C, failing, passing, sample_checkout

ROOT = Path(__file__).parents[2]
NOW = "2026-01-01T00:00:00Z"


@pytest.fixture
def gitops(tmp_path: Path) -> GitOps:
    """A is stable."""
    return GitOps(copy_of(_promoted, tmp_path) / "gitops.git", "dev")


def _promoted(folder: Path) -> None:
    made = GitOps(folder / "gitops.git", "dev")
    made.seed(sample_checkout())
    _promote(made, A, 1)


def _promote(gitops: GitOps, digest: str, day: int) -> None:
    """Propose a digest and let every look pass until it is stable."""
    run = {"id": f"run-{day}", "data": "sha256:" + "d" * 64}
    take_leftover_away(gitops, _day(day))
    gitops.commit(lambda snapshot: propose(snapshot, digest, GOOD, {"auc": 0.8}, run, _day(day)))
    for now in map(_day, itertools.count(day + 1)):
        if not gitops.snapshot().state.rollout:
            return
        gitops.commit(lambda snapshot, now=now: look(snapshot, passing(snapshot.state, now), now, run))  # type: ignore[misc]


def _day(number: int) -> str:
    return f"2020-01-{number:02d}T00:00:00Z"


def test_a_second_rollback_goes_back_another_model(gitops: GitOps) -> None:
    _promote(gitops, B, 5)
    _promote(gitops, C, 11)
    assert roll_back(gitops, "worse", "kim", NOW).stable == B
    assert roll_back(gitops, "worse too", "kim", NOW).stable == A
    with pytest.raises(Refused, match="no earlier model"):
        roll_back(gitops, "all of them", "kim", NOW)


def test_lifting_a_hold_makes_no_model_good_again(gitops: GitOps) -> None:
    _promote(gitops, B, 5)
    roll_back(gitops, "worse", "kim", NOW)
    release_hold(gitops, B, "to be tried again", "kim", NOW)
    with pytest.raises(Refused, match="was not rolled back since"):
        roll_back(gitops, "worse too", "kim", NOW)
    assert gitops.snapshot().state.stable == A


def test_a_rollback_passes_over_what_a_rollback_left(gitops: GitOps) -> None:
    _promote(gitops, B, 5)
    _promote(gitops, C, 11)
    roll_back(gitops, "worse", "kim", NOW)
    release_hold(gitops, C, "to be tried again", "kim", NOW)
    assert roll_back(gitops, "worse too", "kim", NOW).stable == A


def test_a_model_that_is_confirmed_again_is_good_again(gitops: GitOps) -> None:
    _promote(gitops, B, 5)
    roll_back(gitops, "worse", "kim", _day(9))
    release_hold(gitops, B, "the store was down", "kim", _day(10))
    _promote(gitops, B, 11)
    _promote(gitops, C, 16)
    assert roll_back(gitops, "worse", "kim", NOW).stable == B


@pytest.mark.parametrize("by_gate", [True, False])
def test_a_model_that_came_again_and_was_rolled_back_is_not_good(gitops: GitOps, by_gate: bool) -> None:
    _promote(gitops, B, 5)
    take_leftover_away(gitops, _day(11))
    gitops.commit(lambda snapshot: propose(snapshot, A, GOOD, {}, {}, _day(11)))
    if by_gate:
        gitops.commit(lambda snapshot: look(snapshot, failing(snapshot.state, _day(12)), _day(12), {}))
    else:
        roll_back(gitops, "worse", "kim", _day(12))
    assert gitops.snapshot().state.candidate is None
    release_hold(gitops, A, "to be tried again", "kim", _day(13))
    with pytest.raises(Refused, match="was not rolled back since"):
        roll_back(gitops, "worse too", "kim", NOW)


def test_a_model_that_was_left_by_hand_is_not_good(gitops: GitOps) -> None:
    take_leftover_away(gitops, _day(4))
    before = _release_of(gitops)
    _promote(gitops, B, 5)
    _write_by_hand(gitops, before)
    _promote(gitops, C, 11)
    assert roll_back(gitops, "worse", "kim", NOW).stable == A
    with pytest.raises(Refused, match="was not rolled back since"):
        roll_back(gitops, "worse too", "kim", NOW)


def test_glass_is_broken_for_a_good_model_only(gitops: GitOps) -> None:
    _promote(gitops, B, 5)
    _promote(gitops, C, 11)
    roll_back(gitops, "worse", "kim", NOW)
    release_hold(gitops, C, "to be tried again", "kim", NOW)
    assert break_the_glass(gitops, "worse too", "kim", NOW).earlier == (A,)


def _release_of(gitops: GitOps) -> bytes:
    return gitops.file(paths_of("dev")[0]) or b""


def _write_by_hand(gitops: GitOps, release: bytes) -> None:
    """As `git revert` of the release file does: a commit without a decision."""
    with gitops.clone.lock():
        tip = gitops.clone.fetch()
        files = {paths_of("dev")[0]: release}
        assert gitops.clone.push(gitops.clone.commit(tip, files, "by hand\n", _day(10)))


def test_a_rollback_reads_the_history_again_after_a_lost_race(gitops: GitOps, tmp_path: Path) -> None:
    _promote(gitops, B, 5)
    racing = GitOps(Path(gitops.remote), "dev", clone=tmp_path / "other")
    first = True

    class Loses(GitOps):
        def trail(self, commit: str | None = None) -> Trail:
            nonlocal first
            if first:  # somebody promotes C between our reading and our writing
                first = False
                _promote(racing, C, 11)
            return super().trail(commit)

    made = roll_back(Loses(Path(gitops.remote), "dev"), "worse", "kim", NOW)
    assert (made.candidate, made.stable) == (C, B)


def test_a_rollback_says_where_the_model_came_from(gitops: GitOps) -> None:
    _promote(gitops, B, 5)
    assert roll_back(gitops, "worse", "kim", NOW).run["id"] == "run-5"


def test_a_running_candidate_is_rolled_back_not_held(gitops: GitOps) -> None:
    take_leftover_away(gitops, _day(9))
    gitops.commit(lambda snapshot: propose(snapshot, B, GOOD, {}, {"id": "run-9"}, _day(9)))
    with pytest.raises(Refused, match="use `sluice rollback`"):
        add_hold(gitops, B, "audit", "kim", NOW)
    made = roll_back(gitops, "audit", "kim", NOW)
    assert (made.candidate, made.stable, made.run["id"]) == (B, A, "run-9")
    assert [hold.digest for hold in gitops.snapshot().state.holds] == [B]


def test_a_hold_during_a_rollout_leaves_the_rollout_alone(gitops: GitOps) -> None:
    take_leftover_away(gitops, _day(9))
    gitops.commit(lambda snapshot: propose(snapshot, B, GOOD, {}, {"id": "run-9"}, _day(9)))
    before = gitops.snapshot().state
    add_hold(gitops, C, "audit", "kim", NOW)
    after = gitops.snapshot().state
    assert after.model_copy(update={"holds": ()}) == before
    release_hold(gitops, C, "found nothing", "kim", NOW)
    assert gitops.snapshot().state == before


@pytest.mark.parametrize("field", ["reason", "by"])
@pytest.mark.parametrize("text", ["", " ", "two\nlines", "\x1b[31m", "x" * 501])
def test_names_and_reasons_are_one_plain_line(gitops: GitOps, text: str, field: str) -> None:
    texts = {"reason": "audit", "by": "kim"} | {field: text}
    with pytest.raises(BadInput, match="the text of"):
        add_hold(gitops, C, texts["reason"], texts["by"], NOW)


def test_status_tells_the_last_decision_of_each_stage(gitops: GitOps) -> None:
    _promote(gitops, B, 5)
    add_hold(gitops, C, "[/b] audit", "kim", NOW)
    found = status_of(gitops)
    assert (found["stable"], found["candidate"], found["held"]) == (B, None, [C])
    assert (found["stage"], found["stable_weight"], found["commit"]) == ("drain", 100, gitops.snapshot().commit)
    last = {stage: made["action"] for stage, made in found["decisions"].items()}
    assert last["offline"] == "start-shadow"
    assert (last["shadow"], last["canary"], last["confirm"]) == ("set-weight", "promote", "confirm")
    assert last["hold"] == "hold"
    lines = describe(found)
    assert any(B in line for line in lines)
    assert any(r"\[/b] audit" in line for line in lines)
