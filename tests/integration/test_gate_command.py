"""`sluice gate` as a command: its settings, its one line, and the repository at a URL that people read too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.release_repository import repository_in
from tests.integration.test_prometheus import _POLICY
from tests.unit.release_sample import B, state_in

POLICY = _POLICY.decode()


def write_kubeconfig(path: Path) -> None:
    named: dict[str, Any] = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "x", **named}))


SETTINGS = {
    "SLUICE_ENVIRONMENT": "dev",
    "SLUICE_NAMESPACE": "sluice-dev",
    "SLUICE_PROMETHEUS_URL": "http://127.0.0.1:9",
}


def sluice_gate(tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    write_kubeconfig(tmp_path / "kubeconfig")
    here = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "kubeconfig")}
    command = [str(Path(sys.executable).with_name("sluice")), "gate"]
    return subprocess.run(
        command, env=here | SETTINGS | settings, capture_output=True, text=True, check=False, timeout=120
    )


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
    gitops = repository_in(tmp_path, state_in("stable", task="tiny"), POLICY)
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    done = sluice_gate(tmp_path, SLUICE_REPOSITORY=f"file://{gitops.remote}", TMPDIR=str(scratch))
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    told = json.loads(line)
    assert (told["stage"], told["candidate"], told["action"]) == ("stable", None, "wait")
    assert told["commit"] == gitops.snapshot().commit
    assert not list(scratch.iterdir())


def test_a_person_reads_and_rolls_back_at_a_url(tmp_path: Path) -> None:
    gitops = repository_in(tmp_path, state_in("canary", task="tiny"), POLICY)
    here = {"PATH": os.environ["PATH"], "SLUICE_HOME": str(tmp_path / "home")}
    here["SLUICE_REPOSITORY"] = f"file://{gitops.remote}"
    sluice = str(Path(sys.executable).with_name("sluice"))
    for command in (["status", "--json"], ["rollback", "--reason", "wrong scores", "--json"]):
        done = subprocess.run([sluice, *command], env=here, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["candidate"] == B
    assert gitops.snapshot().state.held(B)
    here["SLUICE_REPOSITORY"] = f"file://{tmp_path}/nowhere.git"
    done = subprocess.run([sluice, "status"], env=here, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
