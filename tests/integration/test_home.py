"""The home directory: one run at a time, nothing outside it, nothing of others touched; and what a person may do."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from sluice.gitops.writer import GitOps
from sluice.steps.release import propose_again
from sluice.workspace import Workspace
from sluice_local.home import end_leftovers, forget_home, held_lock, prepare_home
from tests.support.patience import code_of, wait_until, work_of
from tests.support.tiny_run import RUN, Ended, contents, processes_of, sluice, start, variables_of_processes
from tests.support.tiny_task import TASK

_ONE_LINE = re.compile(r"sluice: [^\n]+\n")


@pytest.fixture
def copy(ended: Ended, tmp_path: Path) -> Path:
    """The release history of the finished home, to be changed."""
    home = tmp_path / "home"
    prepare_home(home)
    shutil.copytree(ended.workspace.gitops, home / "gitops.git")
    return home


def test_the_second_run_says_who_holds_the_home_and_the_first_writes_nowhere_else(tmp_path: Path) -> None:
    """The first is not forked: what libraries write while they are imported would show in the folder of its person."""
    home, person = tmp_path / "home", tmp_path / "person"
    person.mkdir()
    first = start(home, tmp_path / "first.log", HOME=str(person))
    try:
        wait_until("the home is held", (home / "lock.holder").exists)
        second = sluice(home, *RUN)
        assert first.poll() is None
        assert second.returncode == 2
        assert _ONE_LINE.fullmatch(second.stderr), second.stderr
        assert f"process {first.pid} since " in second.stderr
        assert second.stdout == ""
        wait_until(
            "a step runs",
            lambda: any("executor" in process for process in processes_of(home)),
            progress=lambda: work_of(first.pid),
        )
        places = [variables["KERAS_HOME"] for variables in variables_of_processes(home).values()]
        assert set(places) == {str(home / "keras")}, "Keras writes there, when a step imports it"
        first.send_signal(signal.SIGINT)
        assert code_of(first) == 130
        assert processes_of(home) == []
    finally:
        first.kill()
        first.wait()
        end_leftovers(Workspace(home))
    assert "Traceback" not in (tmp_path / "first.log").read_text()
    assert contents(person) == {}


@pytest.mark.parametrize("fresh", [False, True])
def test_a_held_home_is_left_as_it_is(ended: Ended, copy: Path, fresh: bool) -> None:
    with held_lock(Workspace(copy)):
        before = contents(copy)
        done = sluice(copy, *RUN, *(["--fresh"] if fresh else []))
        assert (done.returncode, contents(copy)) == (2, before)
        assert f"process {os.getpid()} since" in done.stderr


def test_forgetting_a_home_keeps_its_lock_and_its_mark(copy: Path) -> None:
    with held_lock(Workspace(copy)):
        forget_home(copy)
        assert sorted(path.name for path in copy.iterdir()) == ["lock", "lock.holder", "sluice-home"]
        assert sluice(copy, *RUN).returncode == 2


@pytest.mark.parametrize("arguments", [RUN, (*RUN, "--fresh")])
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    home = tmp_path / "thesis"
    home.mkdir()
    (home / "chapter-1.txt").write_text("years of work")
    done = sluice(home, *arguments)
    assert done.returncode == 2
    assert _ONE_LINE.fullmatch(done.stderr), done.stderr
    assert str(home) in done.stderr
    assert contents(home) == {"chapter-1.txt": b"years of work"}


def test_nothing_is_written_outside_the_home(ended: Ended) -> None:
    assert contents(ended.person) == {}
    assert contents(ended.cwd) == {}
    assert ended.checkout_after <= ended.checkout_before


def test_a_report_is_of_the_story_that_was_played_here(ended: Ended) -> None:
    page = next(ended.workspace.reports.glob("*.html"))
    before = page.read_bytes()
    done = sluice(ended.home, "report")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == page
    assert TASK.title in page.read_text()
    assert page.read_bytes() == before
    named = sluice(ended.home, "report", "--story", "no.such:STORY")
    assert (named.returncode, page.read_bytes()) == (2, before)


def test_rollback_goes_to_the_stable_model_before_and_holds_the_one_left(ended: Ended, copy: Path) -> None:
    gitops = GitOps(copy / "gitops.git", "dev")
    promoted = gitops.snapshot().state.stable
    first = next(made.candidate for made in gitops.decisions() if made.stage == "bootstrap")
    done = sluice(copy, "rollback", "--env", "dev", "--reason", "complaints")
    assert done.returncode == 0, done.stderr
    status = json.loads(sluice(copy, "status", "--json").stdout)
    assert (status["stable"], status["held"], status["stage"]) == (first, [promoted], "stable")
    assert "complaints" in sluice(copy, "hold", "list").stdout
    assert "complaints" in sluice(copy, "why", str(promoted)).stdout


def test_a_held_digest_cannot_be_proposed_until_its_hold_is_lifted(ended: Ended, copy: Path) -> None:
    gitops = GitOps(copy / "gitops.git", "dev")
    promoted = str(gitops.snapshot().state.stable)
    assert sluice(copy, "rollback", "--reason", "complaints").returncode == 0
    refused = propose_again(gitops, promoted, "retry", "2030-01-01T00:00:00Z")
    assert (refused.action, refused.reasons[0].rule) == ("refuse", "hold")
    assert sluice(copy, "hold", "release", promoted, "--reason", "mended").returncode == 0
    assert json.loads(sluice(copy, "hold", "list", "--json").stdout) == []
    accepted = propose_again(gitops, promoted, "once-more", "2030-01-02T00:00:00Z")
    assert (accepted.action, accepted.after["candidate"]) == ("start-shadow", promoted)


def test_hold_add_refuses_what_is_served_and_what_is_held(ended: Ended, copy: Path) -> None:
    promoted = str(GitOps(copy / "gitops.git", "dev").snapshot().state.stable)
    other = "sha256:" + "a" * 64
    assert sluice(copy, "hold", "add", other, "--reason", "audit").returncode == 0
    again = sluice(copy, "hold", "add", other, "--reason", "audit")
    served = sluice(copy, "hold", "add", promoted, "--reason", "audit")
    for done, rule in ((again, "is held already"), (served, "is being served")):
        assert done.returncode == 3
        assert _ONE_LINE.fullmatch(done.stderr), done.stderr
        assert rule in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("hold", "add", "sha256:12", "--reason", "x"), 2, "sha256:12"),
        (("hold", "add", "nonsense", "--reason", "x"), 2, "nonsense"),
        (("hold", "release", "sha256:" + "b" * 64, "--reason", "x"), 3, "is not held"),
        (("status", "--env", "moon"), 2, "moon"),
        (("rollback", "--env", "moon", "--reason", "x"), 2, "moon"),
        (("rollback", "--env", "../dev", "--reason", "x"), 2, "../dev"),
        (("rollback",), 2, "--reason"),
        (("hold", "add", "sha256:" + "b" * 64), 2, "--reason"),
        (("rollback", "--reason", ""), 2, "reason"),
        (("rollback", "--reason", "   "), 2, "reason"),
    ],
)
def test_a_wrong_command_is_one_error_and_changes_nothing(
    ended: Ended, copy: Path, arguments: tuple[str, ...], code: int, named: str
) -> None:
    gitops = GitOps(copy / "gitops.git", "dev")
    before = gitops.snapshot().commit
    done = sluice(copy, *arguments)
    assert (done.returncode, gitops.snapshot().commit) == (code, before), done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_a_home_without_history_and_an_unknown_story_are_named(tmp_path: Path) -> None:
    for arguments, named in ((("status",), "gitops.git"), (("run", "--story", "no.such:STORY"), "no.such")):
        done = sluice(tmp_path / "empty", *arguments)
        assert done.returncode == 2
        assert _ONE_LINE.fullmatch(done.stderr), done.stderr
        assert named in done.stderr
    assert not (tmp_path / "empty").exists()
