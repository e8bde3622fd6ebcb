"""The trail of commits says what the records say, of old commits as of new ones, and is made again when damaged."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from sluice.git.command import git
from sluice.gitops.writer import GitOps
from sluice.operations.operator import roll_back
from sluice.operations.why import why
from sluice.rollout.advance import look, propose
from tests.support.ledger import lengthen, rewritten
from tests.support.release import BAD, GOOD, A, B, C, failing, passing, sample_checkout


def _day(number: int) -> str:
    return f"2020-01-{number:02d}T00:00:00Z"


def _promote(gitops: GitOps, digest: str, day: int) -> None:
    run = {"id": f"run-{day}"}
    gitops.commit(lambda snapshot: propose(snapshot, digest, GOOD, {}, run, _day(day)))
    for now in map(_day, itertools.count(day + 1)):
        if not gitops.snapshot().state.rollout:
            return
        gitops.commit(lambda snapshot, now=now: look(snapshot, passing(snapshot.state, now), now, run))  # type: ignore[misc]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> GitOps:
    """A, then B promoted; C refused, then broken and held; B rolled back by a person."""
    gitops = GitOps(tmp_path_factory.mktemp("trail") / "gitops.git", "dev")
    gitops.seed(sample_checkout())
    _promote(gitops, A, 1)
    _promote(gitops, B, 5)
    gitops.commit(lambda snapshot: propose(snapshot, C, BAD, {}, {"id": "bad"}, _day(12)))
    gitops.commit(lambda snapshot: propose(snapshot, C, GOOD, {}, {"id": "good"}, _day(13)))
    gitops.commit(lambda snapshot: look(snapshot, failing(snapshot.state, _day(14)), _day(14), {}))
    roll_back(gitops, "worse", "kim", _day(15))
    return gitops


def _as_before(played: GitOps, directory: Path) -> GitOps:
    """The same history with the trailers that commits had before there was a trail."""
    added = re.compile(rb"^Sluice-(Environment|Stable-Before|Stable-After): .*\n", re.MULTILINE)
    return rewritten(played, directory, lambda data: added.sub(b"", data) if b"\nSluice-Decision: " in data else data)


def test_the_trail_is_what_the_records_say(played: GitOps) -> None:
    steps = list(played.trail().steps("dev"))[::-1]
    decisions = played.decisions()
    assert [step.decision for step in steps] == [made.id for made in decisions]
    assert [step.candidate for step in steps] == [made.candidate for made in decisions]
    assert [(step.before, step.after) for step in steps] == [
        (made.before["stable"], made.after["stable"]) for made in decisions
    ]
    assert [step.replaced for step in steps if step.replaced] == [A, B]
    assert [made for _, _, made in played.records_of(steps)] == decisions
    assert list(played.trail().steps("prod")) == []


def test_commits_from_before_the_trail_are_explained_as_new_ones_are(played: GitOps, tmp_path: Path) -> None:
    old = _as_before(played, tmp_path / "old.git")
    message = git(Path(old.remote), "log", "-1", "--format=%B", "main").decode()
    assert "Sluice-Stable-After" not in message
    for digest in (A, B, C):
        new, told = why(played, digest), why(old, digest)
        assert [link.decision for link in new.links] == [link.decision for link in told.links]
        assert (new.standing, new.run) == (told.standing, told.run)
    assert [link.decision.action for link in why(old, A).links] == ["bootstrap", "confirm", "confirm"]
    assert [(link.decision.action, link.decision.stage) for link in why(old, B).links][-1] == ("rollback", "rollback")


def test_old_and_new_commits_go_together(played: GitOps, tmp_path: Path) -> None:
    mixed = _as_before(played, tmp_path / "mixed.git")
    _promote(mixed, "sha256:" + "d" * 64, 16)
    made = roll_back(mixed, "worse too", "kim", _day(25))
    assert made.stable == A
    assert made.run == {"id": "run-16"}
    assert len(why(mixed, A).links) == 4  # its own two, and the two that took its place


@pytest.mark.parametrize("text", [b"", b"half a line", b"nonsense\n"])
def test_a_trail_that_was_damaged_is_made_again(played: GitOps, tmp_path: Path, text: bytes) -> None:
    copy = rewritten(played, tmp_path / "copy.git", lambda data: data)
    whole = list(copy.trail().steps("dev"))
    (tmp_path / ".copy.git.clone" / "sluice-trail").write_bytes(text)
    assert list(copy.trail().steps("dev")) == whole


def test_a_step_is_found_by_any_beginning_and_no_other_is(played: GitOps) -> None:
    trail = played.trail()
    identities = [made.id for made in played.decisions()]
    assert len(set(identities)) > 1
    for identity in identities:
        assert [step.decision for step in trail.matching("dev", identity)] == [identity]
        assert trail.commit_of(identity) is not None
        assert trail.commit_of(identity[:-1]) is None
    assert trail.commit_of("offline-000000000000") is None


def test_only_new_commits_are_read(played: GitOps, tmp_path: Path) -> None:
    copy = rewritten(played, tmp_path / "copy.git", lambda data: data)
    copy.trail()
    path = tmp_path / ".copy.git.clone" / "sluice-trail"
    first = path.read_bytes()
    _promote(copy, "sha256:" + "d" * 64, 16)
    copy.trail()
    assert path.read_bytes().startswith(first)
    assert len(path.read_bytes().splitlines()) == len(first.splitlines()) + 5


def test_a_long_ledger_is_explained_from_few_records(tmp_path: Path) -> None:
    gitops = GitOps(tmp_path / "gitops.git", "dev")
    gitops.seed(sample_checkout())
    _promote(gitops, A, 1)
    gitops.commit(lambda snapshot: propose(snapshot, B, GOOD, {}, {"id": "run-b"}, _day(3)))
    gitops.commit(lambda snapshot: look(snapshot, passing(snapshot.state, _day(4)), _day(4), {}))
    lengthen(gitops, 300)
    asked: list[int] = []

    class Counted(GitOps):
        def records_of(self, steps):  # type: ignore[no-untyped-def]
            asked.append(len(steps))
            return super().records_of(steps)

    counted = Counted(Path(gitops.remote), "dev")
    assert len(why(counted, A).links) == 2
    assert asked == [2]
    asked.clear()
    many = why(counted, B)
    assert (len(many.links), many.left_out, asked) == (100, 198, [100])
    whole = why(counted, B, whole=True)
    assert (len(whole.links), whole.left_out) == (298, 0)
    assert many.links == (*whole.links[:10], *whole.links[208:])
    assert many.document()["left_out"] == 198
    assert any("198 more decisions on it" in line for line in many.lines())
    decision = next(gitops.trail().steps("dev")).decision
    asked.clear()
    assert why(counted, decision).run == {"id": "run-b"}
    assert sum(asked) <= 1 + 2 * 16
