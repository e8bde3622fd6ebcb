"""`sluice gate` as a command: its settings, its one line, and the repository at a URL that people read too."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sluice.documents.event_time import iso
from sluice.documents.state import ReleaseState
from sluice.git.command import git
from sluice.gitops.writer import GitOps
from sluice.operations.operator import add_hold
from tests.support.command import sluice
from tests.support.gate import sluice_gate, sluice_gate_at
from tests.support.kube_api import kube_api
from tests.support.prometheus_town import POLICY_TEXT as POLICY
from tests.support.release import NOW, B, state_in
from tests.support.release_repository import repository_in

A_DIGEST = f"sha256:{5:064x}"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "SLUICE_REPOSITORY: is not set"),
        ({"SLUICE_REPOSITORY": "git@host:repository.git"}, "SLUICE_REPOSITORY: has scheme ''"),
        ({"SLUICE_REPOSITORY": "https://kim:secret@host/r.git"}, "SLUICE_REPOSITORY: carries credentials"),
        ({"SLUICE_REPOSITORY": "ssh://git@host/r.git"}, "SLUICE_REPOSITORY_KEY: is not set"),
        ({"SLUICE_REPOSITORY": "file:///r.git", "SLUICE_NAMESPACE": ""}, "SLUICE_NAMESPACE: is not set"),
        ({"SLUICE_REPOSITORY": "file:///r.git", "SLUICE_PROMETHEUS_URL": ""}, "SLUICE_PROMETHEUS_URL: is not set"),
        ({"SLUICE_REPOSITORY": "file:///r.git", "SLUICE_PROMETHEUS_MATCHERS": "a b=c"}, "SLUICE_PROMETHEUS_MATCHERS"),
        ({"SLUICE_REPOSITORY": "file:///r.git", "SLUICE_PROMETHEUS_SCRAPE_SECONDS": "0"}, "'0', not 1 to 3600"),
        ({"SLUICE_REPOSITORY": "file:///r.git", "SLUICE_PROMETHEUS_JOINED": "perhaps"}, "write true or false"),
        ({"SLUICE_REPOSITORY": "file:///no/such.git"}, "cannot be read"),
        ({"SLUICE_REPOSITORY": "ssh://git@host/r.git", "SLUICE_REPOSITORY_KEY": "/none"}, "known_hosts"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_2(settings: dict[str, str], says: str, tmp_path: Path) -> None:
    done = sluice_gate(tmp_path, **settings)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert says in line
    assert "secret" not in line


def test_the_command_prints_one_line_of_json_and_leaves_nothing(tmp_path: Path) -> None:
    gitops = repository_in(tmp_path, _settled(hours=0), POLICY)
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    done = sluice_gate(tmp_path, SLUICE_REPOSITORY=f"file://{gitops.remote}", TMPDIR=str(scratch))
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    told = json.loads(line)
    assert (told["stage"], told["candidate"], told["action"]) == ("stable", None, "wait")
    assert told["commit"] == gitops.snapshot().commit
    assert not list(scratch.iterdir())


def test_the_command_fails_where_the_effect_is_not_what_git_says_for_long(tmp_path: Path) -> None:
    gitops = repository_in(tmp_path, _settled(hours=1), POLICY)
    done = sluice_gate(tmp_path, SLUICE_REPOSITORY=f"file://{gitops.remote}")
    assert done.returncode == 4
    assert json.loads(done.stdout)["alarm"]
    (line,) = done.stderr.splitlines()
    assert "environment dev: is not as it should be: the API server: answers 404" in line


def _settled(hours: int) -> ReleaseState:
    return state_in("stable", task="tiny", since=iso(datetime.now(UTC) - timedelta(hours=hours)))


def test_a_person_reads_and_rolls_back_at_a_url(tmp_path: Path) -> None:
    gitops = repository_in(tmp_path, state_in("canary", task="tiny"), POLICY)
    here = {"PATH": os.environ["PATH"], "SLUICE_HOME": str(tmp_path / "home")}
    here["SLUICE_REPOSITORY"] = f"file://{gitops.remote}"
    for command in (["status", "--json"], ["rollback", "--reason", "wrong scores", "--json"]):
        done = sluice(*command, env=here)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["candidate"] == B
    assert gitops.snapshot().state.held(B)
    here["SLUICE_REPOSITORY"] = f"file://{tmp_path}/nowhere.git"
    done = sluice("status", env=here)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def _look(folder: Path, gitops: GitOps, seen: dict[str, str]) -> tuple[int, str]:
    done = sluice_gate(folder, seen, SLUICE_REPOSITORY=f"file://{gitops.remote}")
    assert len((done.stdout + done.stderr).splitlines()) == 1, done.stderr
    return done.returncode, done.stdout + done.stderr


def _accept(folder: Path, gitops: GitOps, *more: str) -> tuple[int, str]:
    here = {"PATH": os.environ["PATH"], "SLUICE_HOME": str(folder / "home")}
    here["SLUICE_REPOSITORY"] = f"file://{gitops.remote}"
    done = sluice("ledger", "accept", "--reason", "an older copy was put back", *more, env=here)
    return done.returncode, done.stderr


def test_a_history_that_was_rewritten_between_two_looks_is_refused_until_a_person_accepts_it(tmp_path: Path) -> None:
    gitops = repository_in(tmp_path, _settled(hours=0), POLICY)
    seen: dict[str, str] = {}
    assert _look(tmp_path, gitops, seen)[0] == 0
    add_hold(gitops, A_DIGEST, "audit", "kim", NOW)
    assert _look(tmp_path, gitops, seen)[0] == 0
    gone = gitops.snapshot().commit
    assert seen == {"commit": gone}

    git(Path(gitops.remote), "update-ref", "refs/heads/main", "main~1")
    for _ in range(2):  # being refused is not being told to forget
        code, said = _look(tmp_path, gitops, seen)
        assert (code, seen) == (2, {"commit": gone})
        assert f"does not descend from {gone}, seen here before; restore that history, or take the new one" in said

    assert "name what another saw: --given-up" in _accept(tmp_path, gitops)[1]
    assert "is no commit's whole id" in _accept(tmp_path, gitops, "--given-up", gone[:12])[1]
    assert _accept(tmp_path, gitops, "--given-up", "0" * 40)[0] == 0
    assert _look(tmp_path, gitops, seen)[0] == 2  # another one was given up
    assert _accept(tmp_path, gitops, "--given-up", gone)[0] == 0
    code, said = _look(tmp_path, gitops, seen)
    assert code == 0, said
    tip = git(Path(gitops.remote), "rev-parse", "main").decode().strip()
    assert seen == {"commit": tip} == {"commit": json.loads(said)["commit"]}
    assert "is in the history" in _accept(tmp_path, gitops, "--given-up", tip)[1]


@pytest.mark.parametrize(
    ("kept", "says"),
    [({"commit": "--all"}, "gate-seen in sluice-dev: holds no commit"), (None, "answers 404")],
)
def test_a_memory_that_cannot_be_read_is_no_leave_to_forget(
    kept: dict[str, str] | None, says: str, tmp_path: Path
) -> None:
    gitops = repository_in(tmp_path, state_in("canary", task="tiny"), POLICY)
    with kube_api(kept) as server:
        done = sluice_gate_at(tmp_path, server, SLUICE_REPOSITORY=f"file://{gitops.remote}")
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
