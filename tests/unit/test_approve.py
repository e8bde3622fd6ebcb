"""A person lets a paused rollout go on: one commit, on the numbers of the pause, and on nothing else."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Decision
from sluice.errors import BadArtifact, BadInput, Refused
from sluice.gitops.writer import CommittedDecision, GitOps, Snapshot
from sluice.ledger.trail import Step
from sluice.operations.approve import approve, approve_merged
from sluice.operations.ledger import verify
from sluice.operations.operator import add_hold, roll_back
from sluice.operations.status import describe, status_of
from sluice.rollout.advance import forward
from sluice.rollout.drain import HOUSEKEEPING
from tests.support.approval import (
    POLICY,
    RUN,
    approval_text,
    january,
    look_on,
    merge_approval,
    merge_files,
    write_waiting_rollout,
)
from tests.support.command import sluice
from tests.support.release import B, C, failing, unclear


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rollout that waits for a person; not to be changed."""
    return write_waiting_rollout(tmp_path_factory.mktemp("waiting"))


@pytest.fixture
def gitops(waiting: Path, tmp_path: Path) -> GitOps:
    """A copy of it."""
    shutil.copytree(waiting, tmp_path / "home/gitops.git")
    return GitOps(tmp_path / "home/gitops.git", "dev")


def test_it_takes_the_step_that_the_pause_held_back(gitops: GitOps) -> None:
    paused = gitops.snapshot().state
    assert (paused.stage, paused.step, paused.paused, paused.since) == ("canary", 0, True, january(3))
    made = approve(gitops, "looks right", "kim", january(5))
    state = gitops.snapshot().state
    assert (state.stage, state.step, state.candidate_weight, state.paused) == ("canary", 1, 50, False)
    assert state == forward(paused, gitops.snapshot().policy, january(5))[1]
    pause = gitops.decisions()[-2]
    assert (made.action, made.evidence["pause"], made.run) == ("approve", pause.id, RUN)
    assert made.reasons[0].text == "kim: looks right"
    assert gitops.decisions()[-1] == made
    verify(gitops, None).require_intact()


def test_every_stage_that_asks_waits_again_and_the_last_one_ends_in_stable(gitops: GitOps) -> None:
    for day in itertools.count(5):
        if not gitops.snapshot().state.rollout:
            break
        if gitops.snapshot().state.paused:
            approve(gitops, f"day {day}", "kim", january(day))
        else:
            look_on(gitops, day)
    assert gitops.snapshot().state.stable == B
    actions = [made.action for made in gitops.decisions() if made.action != HOUSEKEEPING][2:]
    assert actions == ["set-weight", "pause", "approve", "pause", "approve", "pause", "approve"]
    last = str(gitops.trail(gitops.snapshot().commit).commit_of(gitops.decisions()[-1].id))
    subject = subprocess.run(
        ["git", f"--git-dir={gitops.remote}", "log", "-1", "--format=%s", last],
        capture_output=True,
        text=True,
        check=True,
    )
    assert subject.stdout == f"flights dev: {B[7:19]} approved in confirm, confirmed as stable  PASS\n"


def test_nothing_that_waits_is_refused(gitops: GitOps) -> None:
    approve(gitops, "looks right", "kim", january(5))
    count = len(gitops.decisions())
    with pytest.raises(Refused, match="waits for no approval") as refused:
        approve(gitops, "once more", "kim", january(5))
    assert refused.value.exit_code == 3
    roll_back(gitops, "audit", "kim", january(6))
    with pytest.raises(Refused, match=r"rollout \(none\) in dev"):
        approve(gitops, "once more", "kim", january(6))
    assert len(gitops.decisions()) == count + 1


def test_in_a_freeze_nobody_is_let_on_and_the_wait_goes_on_after_it(gitops: GitOps, tmp_path: Path) -> None:
    """B waits since 4 January and would have until the 7th; two frozen days make it the 9th."""
    frozen = POLICY + "freeze: [{first: 2020-01-05, last: 2020-01-06, reason: stocktaking}]\n"
    merge_files(gitops, {"gate-policy.yaml": frozen}, tmp_path)
    with pytest.raises(Refused, match=r"until 2020-01-07T00:00:00Z \(stocktaking\)"):
        approve(gitops, "looks right", "kim", january(5))
    assert status_of(gitops)["waits"]["until"] == january(9)
    assert any("from 2020-01-05 to 2020-01-06  (stocktaking)" in line for line in describe(status_of(gitops)))
    assert approve(gitops, "looks right", "kim", january(8)).after["step"] == 1


def test_a_fail_while_it_waits_takes_the_chance_away(gitops: GitOps) -> None:
    assert look_on(gitops, 5, unclear) is None
    assert look_on(gitops, 5) is None
    assert look_on(gitops, 6, failing)
    with pytest.raises(Refused, match="waits for no approval"):
        approve(gitops, "looks right", "kim", january(6))
    assert gitops.snapshot().state.held(B)


def test_it_decides_again_after_a_lost_race(gitops: GitOps, tmp_path: Path) -> None:
    other = GitOps(Path(gitops.remote), "dev", clone=tmp_path / "other")

    class Loses(GitOps):
        raced = False

        def records_of(self, steps: Sequence[Step]) -> list[tuple[Step, str, Decision]]:
            found = super().records_of(steps)
            if not self.raced:  # a look fails the candidate between our reading and our writing
                self.raced = True
                look_on(other, 5, failing)
            return found

    with pytest.raises(Refused, match="no longer waits"):
        approve(Loses(Path(gitops.remote), "dev"), "looks right", "kim", january(5))
    assert gitops.snapshot().state.stage == "drain"


def test_another_pause_is_not_the_one_that_was_seen(gitops: GitOps, tmp_path: Path) -> None:
    other = GitOps(Path(gitops.remote), "dev", clone=tmp_path / "other")

    class Loses(GitOps):
        raced = False

        def records_of(self, steps: Sequence[Step]) -> list[tuple[Step, str, Decision]]:
            found = super().records_of(steps)
            if not self.raced:  # somebody approves the first step, and the second one passes
                self.raced = True
                approve(other, "first", "lee", january(5))
                look_on(other, 6)
            return found

    with pytest.raises(Refused, match="no longer waits"):
        approve(Loses(Path(gitops.remote), "dev"), "looks right", "kim", january(6))
    state = gitops.snapshot().state
    assert (state.step, state.paused) == (1, True)


def test_a_hold_on_another_digest_meanwhile_does_not_matter(gitops: GitOps) -> None:
    add_hold(gitops, C, "audit", "lee", january(5))
    approve(gitops, "looks right", "kim", january(5))
    assert [hold.digest for hold in gitops.snapshot().state.holds] == [C]


def test_the_same_approval_made_twice_is_one_commit(gitops: GitOps) -> None:
    """As after an acknowledgement that was lost: decided on the same base, written already."""
    before: list[Snapshot] = []

    class Twice(GitOps):
        def commit(self, decide: Any) -> CommittedDecision | None:
            def again(snapshot: Snapshot) -> Decision:
                before.append(snapshot)
                made: Decision = decide(before[0])
                return made

            first = super().commit(again)
            assert first
            assert super().commit(again) == first
            return first

    approve(Twice(Path(gitops.remote), "dev"), "looks right", "kim", january(5))
    assert [made.action for made in gitops.decisions()].count("approve") == 1


@pytest.mark.parametrize(
    ("now", "since"), [(january(1), january(4)), (january(4), january(4)), ("2020-01-06T12:00:00", None)]
)
def test_the_next_stage_never_begins_before_the_pause(gitops: GitOps, now: str, since: str | None) -> None:
    """A clock that is late would else count requests of the old weights in the new stage."""
    made = approve(gitops, "looks right", "kim", now)
    assert made.after["since"] == (since or "2020-01-06T12:00:00Z")


@pytest.mark.parametrize("now", [january(7), "2026-01-01T00:00:00Z"])
def test_too_late_is_refused_and_the_next_look_ends_it(gitops: GitOps, now: str) -> None:
    with pytest.raises(Refused, match=f"waited until {january(7)}"):
        approve(gitops, "looks right", "kim", now)
    assert gitops.snapshot().state.paused
    ended = look_on(gitops, 7)
    assert ended
    assert ended.decision.action == "time-out"


def test_a_stage_that_the_policy_lost_cannot_be_approved(gitops: GitOps, tmp_path: Path) -> None:
    work = tmp_path / "work"
    git = ["git", "-C", str(work), "-c", "user.name=lee", "-c", "user.email=lee@localhost"]
    subprocess.run(["git", "clone", "--quiet", "--branch=main", gitops.remote, work], check=True)
    policy = work / "manifests/overlays/dev/gate-policy.yaml"
    canary = POLICY[POLICY.index("  canary:") : POLICY.index("    rules:")]
    policy.write_text(POLICY.replace(canary, "  shadow:\n    minimum_n: 500\n    maximum_hours: 96\n"))
    subprocess.run([*git, "commit", "--quiet", "-am", "shadow instead of a canary"], check=True)
    subprocess.run([*git, "push", "--quiet", "origin", "HEAD:main"], check=True)
    with pytest.raises(Refused, match="the policy no longer has"):
        approve(gitops, "looks right", "kim", january(5))
    assert "the policy has no such stage" in "\n".join(describe(status_of(gitops)))
    ended = look_on(gitops, 5)
    assert ended
    assert (ended.decision.action, gitops.snapshot().state.stage) == ("time-out", "drain")


@pytest.mark.parametrize(("reason", "by"), [("", "kim"), ("two\nlines", "kim"), ("right", ""), ("x" * 501, "kim")])
def test_name_and_reason_are_one_plain_line(gitops: GitOps, reason: str, by: str) -> None:
    with pytest.raises(BadInput, match="the text of"):
        approve(gitops, reason, by, january(5))


def test_a_time_that_is_none_is_refused(gitops: GitOps) -> None:
    with pytest.raises(BadInput, match="is not ISO 8601"):
        approve(gitops, "looks right", "kim", "yesterday")


def test_status_says_who_is_waited_for_and_until_when(gitops: GitOps) -> None:
    found = status_of(gitops)
    assert found["waits"] == {"for": "approval", "until": january(7), "not_before": None, "expected": None}
    assert any("by a person (`sluice approve`), at most until " + january(7) in line for line in describe(found))
    approve(gitops, "looks right", "kim", january(5))
    assert status_of(gitops)["waits"] == {"for": "evidence", "until": january(9), "not_before": None, "expected": None}
    look_on(gitops, 6)
    approve(gitops, "looks right", "kim", january(6))
    found = status_of(gitops)
    assert found["waits"] == {"for": "evidence", "until": january(10), "not_before": january(7), "expected": None}
    assert any(
        f"for evidence, not before {january(7)}, at most until {january(10)}" in line for line in describe(found)
    )
    roll_back(gitops, "audit", "kim", january(7))
    assert status_of(gitops)["waits"]["for"].startswith("the route: ")


def test_the_command_exits_with_0_2_and_3(gitops: GitOps) -> None:
    home = Path(gitops.remote).parent

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"SLUICE_HOME": str(home), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
        return sluice("approve", *arguments, env=environment)

    assert "sluice approve" in run("--help").stdout.split("Example:")[1]
    assert run("--env", "dev").returncode == 2
    late = run("--reason", "looks right")
    assert (late.returncode, late.stdout) == (3, "")
    assert len(late.stderr.strip().splitlines()) == 1
    assert "--now" in late.stderr
    done = run("--reason", "looks right", "--now", january(5), "--json")
    assert done.returncode == 0, done.stderr
    assert ReleaseState.model_validate(json.loads(done.stdout)["after"]) == gitops.snapshot().state
    again = run("--reason", "looks right", "--now", january(5))
    assert (again.returncode, "waits for no approval" in again.stderr) == (3, True)


@pytest.mark.parametrize("how", ["merge", "squash", "fast-forward"])
def test_a_merged_pull_request_approves_once(gitops: GitOps, tmp_path: Path, how: str) -> None:
    assert approve_merged(gitops, january(5)) is None
    merge_approval(gitops, approval_text(gitops), tmp_path, how)
    made = approve_merged(gitops, january(5))
    assert made is not None
    assert made.action == "approve"
    assert made.reasons[0].text.startswith("lee: looks right (approval.yaml at ")
    assert gitops.snapshot().state.step == 1
    assert approve_merged(gitops, january(5)) is None
    assert look_on(gitops, 6)
    assert gitops.snapshot().state.paused
    assert approve_merged(gitops, january(6)) is None, "it spoke of the pause before"
    verify(gitops, None).require_intact()


def test_a_fail_voids_the_merged_approval(gitops: GitOps, tmp_path: Path) -> None:
    merge_approval(gitops, approval_text(gitops), tmp_path)
    look_on(gitops, 5, failing)
    assert approve_merged(gitops, january(5)) is None
    assert gitops.snapshot().state.held(B)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pause: [", "not YAML"),
        ("pause: x\nby: lee\n", "Field required"),
        ("pause: x\nby: a\nreason: b\nk: 1", "Extra"),
    ],
)
def test_an_approval_that_is_none_is_named(gitops: GitOps, tmp_path: Path, text: str, says: str) -> None:
    merge_approval(gitops, text, tmp_path)
    with pytest.raises(BadArtifact, match=rf"approval\.yaml.*{says}"):
        approve_merged(gitops, january(5))
    look_on(gitops, 5, failing)
    assert approve_merged(gitops, january(5)) is None


def test_a_newer_pause_is_not_the_one_that_was_meant(gitops: GitOps) -> None:
    with pytest.raises(Refused, match="pause canary-0 in dev: is over"):
        approve(gitops, "looks right", "kim", january(5), "canary-0")


def test_the_command_acts_on_a_merged_approval(gitops: GitOps, tmp_path: Path) -> None:
    home = {"SLUICE_HOME": str(Path(gitops.remote).parent), "PATH": "/usr/bin:/bin"}

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return sluice("approve", "--now", january(5), *more, env=home)

    assert "no merged approval" in run("--merged").stdout
    merge_approval(gitops, approval_text(gitops), tmp_path)
    assert "goes on" in run("--merged").stdout
    assert [run().returncode, run("--merged", "--reason", "x").returncode] == [2, 2]
