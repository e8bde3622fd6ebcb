"""An incident with Git down: acted on at once, told to Git once, whatever was killed or happened meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sluice.documents.verdict import Decision
from sluice.errors import BadInput, Refused, SluiceError
from sluice.git.command import git
from sluice.gitops.writer import GitOps, Snapshot
from sluice.operations.ledger import verify
from sluice.operations.operator import add_hold, break_the_glass, release_hold, roll_back
from sluice.operations.status import describe, status_of
from sluice.rollout.advance import look, propose
from tests.support.command import sluice
from tests.support.copies import copy_of
from tests.support.forked import AS_A_WRITER
from tests.support.release import GOOD, A, B, C, passing, sample_checkout, unclear

ROOT = Path(__file__).parents[2]
NOW = "2020-03-01T00:00:00Z"
GIT = """#!/bin/sh
# the real git, and a SIGKILL for whoever called it at the point that POINT names
case "$* " in *" $VERB "*) echo >> $CALLS; [ $(wc -l < $CALLS) = $NTH ] && hit=1;; esac
[ "$hit$WHEN" = 1before ] && kill -9 $PPID && exit 1
%s "$@"
status=$?
[ "$hit$WHEN" = 1after ] && kill -9 $PPID
exit $status
"""


def _day(number: int) -> str:
    return f"2020-01-{number:02d}T00:00:00Z"


def _propose(candidate: str, day: int) -> Callable[[Snapshot], Decision]:
    return lambda snapshot: propose(snapshot, candidate, GOOD, {"auc": 0.8}, {"id": f"run-{day}"}, _day(day))


def _look(gitops: GitOps, day: int, make: object = passing) -> None:
    gitops.commit(lambda snapshot: look(snapshot, make(snapshot.state, _day(day)), _day(day), {}))  # type: ignore[operator]


@pytest.fixture
def gitops(tmp_path: Path) -> GitOps:
    """A is stable, B in the canary at 10 %."""
    return GitOps(copy_of(_canary, tmp_path / "home") / "gitops.git", "dev")


def _canary(home: Path) -> None:
    made = GitOps(home / "gitops.git", "dev")
    made.seed(sample_checkout())
    made.commit(_propose(A, 1))
    _look(made, 2)
    made.commit(_propose(B, 3))
    _look(made, 4)
    assert made.snapshot().state.stage == "canary"


@pytest.fixture
def elsewhere(gitops: GitOps, tmp_path: Path) -> GitOps:
    """The same repository as another machine sees it."""
    return GitOps(Path(gitops.remote), "dev", clone=tmp_path / "other" / "clone")


def _down(gitops: GitOps) -> Callable[[], None]:
    remote = Path(gitops.remote)
    gone = remote.rename(remote.with_name("gone"))

    def up() -> None:
        gone.rename(remote)

    return up


def _broken(gitops: GitOps) -> None:
    break_the_glass(gitops, "wrong scores", "kim", NOW)


def _rollbacks(gitops: GitOps) -> list[str]:
    log = git(Path(gitops.remote), "log", "--format=%(trailers:key=Sluice-Decision,valueonly,separator=)", "main")
    return [name for name in log.decode().split() if name.startswith("rollback-")]


def _run(home: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    variables = {"SLUICE_HOME": str(home), "PATH": os.environ["PATH"]} | (env or {})
    return sluice(*arguments, env=variables)


def test_with_git_down_the_state_here_is_rolled_back_at_once(gitops: GitOps) -> None:
    up = _down(gitops)
    _broken(gitops)
    state = gitops.serving_snapshot().state
    assert (state.stable, state.candidate, state.stage) == (A, None, "drain")
    found = status_of(gitops)
    assert (found["stable"], found["held"], found["break_glass"]["digest"]) == (A, [B], B)
    assert any("Git does not know it yet" in line for line in describe(found))
    with pytest.raises(Refused, match="stands since"):
        _broken(gitops)
    with pytest.raises(BadInput, match="cannot be read"):
        _look(gitops, 5)
    up()
    record = gitops.glass.pending_record()
    written = gitops.reconcile()
    assert record
    assert written
    assert (written.decision.id, written.decision.run) == (record.id, {"id": "run-3"})
    assert gitops.glass.pending_record() is None
    assert gitops.snapshot().state == state
    assert status_of(gitops)["break_glass"] is None
    assert gitops.reconcile() is None
    assert _rollbacks(gitops) == [record.id]
    assert verify(gitops).is_intact


def test_the_copy_survives_a_remote_that_is_gone_for_good(gitops: GitOps) -> None:
    shutil.rmtree(gitops.remote)
    with pytest.raises(BadInput, match="cannot be read"):
        gitops.snapshot()
    _broken(gitops)
    assert gitops.serving_snapshot().state.stable == A


def test_without_a_copy_nothing_can_be_rolled_back(gitops: GitOps, tmp_path: Path) -> None:
    stranger = GitOps(Path(gitops.remote), "dev", clone=tmp_path / "new" / "clone")
    _down(gitops)
    with pytest.raises(BadInput, match="has no copy of"):
        _broken(stranger)
    assert stranger.glass.pending_record() is None


def test_a_remote_that_refuses_writing_changes_nothing_here(gitops: GitOps) -> None:
    hook = Path(gitops.remote) / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho closed for maintenance\nexit 1\n")
    hook.chmod(0o755)
    _broken(gitops)
    for _ in range(2):
        with pytest.raises(BadInput, match=r"cannot be written .*pre-receive hook declined"):
            _look(gitops, 5)
        assert gitops.serving_snapshot().state.stable == A
        assert gitops.glass.pending_record() is not None
    hook.unlink()
    _look(gitops, 5)
    assert gitops.snapshot().state.stage == "drain"
    assert len(_rollbacks(gitops)) == 1


def test_nothing_advances_while_a_record_stands(gitops: GitOps) -> None:
    _broken(gitops)
    before = gitops.snapshot().commit
    seen: list[str] = []

    def decide(snapshot: Snapshot) -> Decision | None:
        seen.append(snapshot.state.stage)
        return look(snapshot, passing(snapshot.state, _day(5)), _day(5), {})

    assert gitops.commit(decide) is None
    assert seen == ["drain"]
    assert git(Path(gitops.remote), "rev-list", "--count", f"{before}..main").strip() == b"1"


def test_glass_broken_while_a_look_is_being_written_goes_first(gitops: GitOps) -> None:
    stages: list[str] = []

    def decide(snapshot: Snapshot) -> Decision | None:
        stages.append(snapshot.state.stage)
        if len(stages) == 1:
            _broken(gitops)
        return look(snapshot, passing(snapshot.state, _day(5)), _day(5), {})

    assert gitops.commit(decide) is None
    assert stages == ["canary", "drain"]
    assert gitops.snapshot().state.held(B) is not None


def _promote(gitops: GitOps) -> None:
    for day in (5, 6, 7):
        _look(gitops, day)


def _time_out(gitops: GitOps) -> None:
    _look(gitops, 29, unclear)


def _another(gitops: GitOps) -> None:
    _time_out(gitops)
    gitops.commit(_propose(C, 30))


def _again(gitops: GitOps) -> None:
    _time_out(gitops)
    gitops.commit(_propose(B, 30))


def _promoted_then_another(gitops: GitOps) -> None:
    _promote(gitops)
    gitops.commit(_propose(C, 30))


def _held_elsewhere(gitops: GitOps) -> None:
    roll_back(gitops, "seen there too", "lee", _day(6))


def _lifted(gitops: GitOps) -> None:
    _held_elsewhere(gitops)
    release_hold(gitops, B, "mended", "lee", _day(7))


@pytest.mark.parametrize(
    ("meanwhile", "stable", "candidate"),
    [
        (_promote, A, None),
        (_time_out, A, None),
        (_another, A, C),
        (_again, A, None),
        (_promoted_then_another, A, None),
        (_held_elsewhere, A, None),
        (_lifted, A, None),
    ],
)
def test_whatever_git_says_by_then_one_commit_settles_it(
    gitops: GitOps, elsewhere: GitOps, meanwhile: Callable[[GitOps], None], stable: str, candidate: str | None
) -> None:
    up = _down(gitops)
    _broken(gitops)
    up()
    meanwhile(elsewhere)
    count = len(elsewhere.decisions())
    assert gitops.reconcile() is not None
    state = gitops.snapshot().state
    assert (state.stable, state.candidate) == (stable, candidate)
    assert state.held(B) is not None
    assert len(gitops.decisions()) == count + 1
    assert gitops.reconcile() is None
    assert verify(gitops).is_intact


def test_a_model_to_go_back_to_that_was_held_meanwhile_is_passed_over(gitops: GitOps, elsewhere: GitOps) -> None:
    _promote(gitops)
    gitops.commit(_propose(C, 10))
    for day in (11, 12, 13, 14):
        _look(gitops, day)
    assert gitops.snapshot().state.stable == C
    _broken(gitops)
    record = gitops.glass.pending_record()
    assert record
    assert (record.digest, record.earlier) == (C, (B, A))
    add_hold(elsewhere, B, "audit", "lee", _day(20))
    gitops.reconcile()
    assert gitops.snapshot().state.stable == A


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("verb", "nth"), [("fetch", 1), ("fetch", 2), ("fast-import", 1), ("push", 1)])
def test_killed_anywhere_on_the_way_to_git_it_is_written_once(
    gitops: GitOps, tmp_path: Path, verb: str, nth: int, when: str
) -> None:
    real = shutil.which("git")
    wrapper = tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(GIT % real)
    wrapper.chmod(0o755)
    home = Path(gitops.remote).parent
    killing = {"PATH": f"{wrapper.parent}:{os.environ['PATH']}", "VERB": verb, "NTH": str(nth), "WHEN": when}
    killing["CALLS"] = str(tmp_path / "calls")
    done = _run(home, "rollback", "--break-glass", "--reason", "wrong scores", env=killing)
    assert done.returncode == -9, done
    if (verb, nth) == ("fetch", 1):  # nothing was promised yet
        assert gitops.glass.pending_record() is None
        _broken(gitops)
    record = gitops.glass.pending_record()
    assert record
    assert record.digest == B
    assert gitops.serving_snapshot().state.stable == A
    assert _rollbacks(gitops) == ([record.id] if (verb, when) == ("push", "after") else [])
    again = _run(home, "hold", "add", "sha256:" + "e" * 64, "--reason", "audit")
    assert again.returncode == 0, again.stderr
    assert _rollbacks(gitops) == [record.id]
    assert gitops.glass.pending_record() is None
    assert (gitops.snapshot().state.stable, len(gitops.snapshot().state.holds)) == (A, 2)
    assert verify(gitops).is_intact


def test_two_that_reconcile_at_once_write_it_once(gitops: GitOps) -> None:
    _broken(gitops)
    code = AS_A_WRITER + "import sys; from pathlib import Path; from sluice.gitops.writer import GitOps; "
    code += "GitOps(Path(sys.argv[1]), 'dev').reconcile()"
    racers = [subprocess.Popen([sys.executable, "-c", code, gitops.remote]) for _ in range(4)]
    assert [racer.wait() for racer in racers] == [0] * 4
    assert len(_rollbacks(gitops)) == 1
    assert gitops.glass.pending_record() is None


def test_the_command_names_the_option_and_says_what_it_did(gitops: GitOps) -> None:
    home = Path(gitops.remote).parent
    up = _down(gitops)
    plain = _run(home, "rollback", "--reason", "wrong scores")
    assert (plain.returncode, len(plain.stderr.splitlines())) == (2, 1)
    assert "sluice rollback --break-glass" in plain.stderr
    broken = _run(home, "rollback", "--break-glass", "--reason", "wrong scores", "--json")
    said = json.loads(broken.stdout)
    assert (broken.returncode, said["digest"], said["commit"]) == (0, B, None)
    assert "cannot be read" in said["pending"]
    up()
    assert _run(home, "status", "--json").returncode == 0
    assert _run(home, "hold", "add", "sha256:" + "e" * 64, "--reason", "audit").returncode == 0
    assert len(_rollbacks(gitops)) == 1


def test_with_git_up_break_glass_is_a_rollback(gitops: GitOps) -> None:
    done = _run(Path(gitops.remote).parent, "rollback", "--break-glass", "--reason", "now", "--json")
    said = json.loads(done.stdout)
    assert said["pending"] is None
    assert said["commit"] == gitops.snapshot().commit
    assert gitops.snapshot().state.stable == A


def test_a_rewritten_history_does_not_undo_it(gitops: GitOps) -> None:
    git(Path(gitops.remote), "update-ref", "refs/heads/main", "main~1")
    _broken(gitops)
    with pytest.raises(SluiceError, match="history was rewritten"):
        gitops.reconcile()
    assert gitops.serving_snapshot().state.stable == A
    assert gitops.glass.pending_record() is not None


def test_what_was_seen_here_may_be_old_so_git_is_asked_first(gitops: GitOps, elsewhere: GitOps) -> None:
    _another(elsewhere)
    _broken(gitops)
    record = gitops.glass.pending_record()
    assert record
    assert record.digest == C


def test_it_waits_for_nobody(gitops: GitOps) -> None:
    """Another process is stuck in the clone, as with a remote that never answers."""
    lock = Path(gitops.remote).with_name(".gitops.git.lock")
    code = "import fcntl, sys, time; stream = open(sys.argv[1], 'w'); fcntl.flock(stream, fcntl.LOCK_EX)\n"
    code += "print('held', flush=True); time.sleep(100)"
    stuck = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE)
    assert stuck.stdout
    stuck.stdout.readline()
    try:
        hasty = GitOps(Path(gitops.remote), "dev", patience_s=0.2)
        _broken(hasty)
        assert gitops.serving_snapshot().state.stable == A
        with pytest.raises(BadInput, match="another process is busy"):
            hasty.reconcile()
    finally:
        stuck.kill()
        stuck.wait()
    assert gitops.reconcile() is not None
