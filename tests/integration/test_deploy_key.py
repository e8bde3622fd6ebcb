"""The gate asks a real sshd with its deploy key, and believes the hosts that it was told alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.git.command import KEY, environment
from sluice.gitops.writer import GitOps
from tests.support.cluster_documents import Cluster
from tests.support.gate import gate_of, sluice_gate
from tests.support.prometheus_town import POLICY_TEXT as POLICY
from tests.support.release import LATE, SINCE, state_in
from tests.support.release_repository import repository_in
from tests.support.ssh_host import SshHost, new_key, ssh_host_in

NOBODY = 65534


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    with ssh_host_in(tmp_path_factory.mktemp("ssh") / "host") as found:
        yield found


@pytest.fixture
def gitops(tmp_path: Path) -> GitOps:
    return repository_in(tmp_path, state_in("stable", task="tiny"), POLICY)


def test_the_mounted_key_opens_the_repository(host: SshHost, gitops: GitOps, tmp_path: Path) -> None:
    where = {"SLUICE_REPOSITORY": host.url(gitops.remote), "SLUICE_REPOSITORY_KEY": str(host.keys)}
    done = sluice_gate(tmp_path, **where)
    assert done.returncode == 4, done.stderr  # this API server has no Application, and that is an alarm
    assert json.loads(done.stdout)["commit"] == gitops.snapshot().commit
    assert "Accepted publickey" in host.log.read_text()


def test_a_commit_goes_through_the_key_too(host: SshHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_in("canary", task="tiny")
    gitops = repository_in(tmp_path, state, POLICY)
    monkeypatch.setenv(KEY, str(host.keys))
    remote = GitOps(host.url(gitops.remote), "dev", clone=tmp_path / "clone")
    told = gate_of(remote, Cluster(state, SINCE), LATE).look()
    assert told["action"] == "time-out"
    assert gitops.snapshot().commit == told["commit"]


@pytest.fixture
def mounted(host: SshHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The keys in use, as a Secret's volume in a pod with ``fsGroup`` has them: root's, and readable for a group."""
    if os.getuid() != 0:
        pytest.skip("NOT CHECKED: only root may write files for somebody else")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    for name in ("ssh-privatekey", "known_hosts"):
        shutil.copy(host.keys / name, folder)
        os.chown(folder / name, 0, NOBODY)
        (folder / name).chmod(0o440)
    monkeypatch.setenv(KEY, str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(("user", "says"), [(NOBODY, ""), (0, "bad permissions")])
def test_ssh_minds_a_group_that_may_read_the_key_only_where_the_key_is_the_users_own(
    user: int, says: str, host: SshHost, gitops: GitOps, mounted: Path
) -> None:
    command = ["git", "ls-remote", host.url(gitops.remote), "refs/heads/main"]
    done = subprocess.run(
        command,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=mounted,
        user=user,
        group=user,
        extra_groups=[],
    )
    assert says in done.stderr
    found = f"{gitops.snapshot().commit}\trefs/heads/main\n"
    assert (done.returncode, done.stdout) == ((128, "") if says else (0, found)), done.stderr


def test_a_host_with_another_key_is_refused(host: SshHost, gitops: GitOps, tmp_path: Path) -> None:
    kind, other, _ = new_key(tmp_path / "other").split(maxsplit=2)
    done = _with(tmp_path, host, gitops, known_hosts=f"[{host.address.replace(':', ']:')} {kind} {other}\n")
    assert (done[0], done[1]) == (2, "")
    assert "Host key verification failed" in done[2]


def test_a_host_that_nobody_named_is_refused(host: SshHost, gitops: GitOps, tmp_path: Path) -> None:
    done = _with(tmp_path, host, gitops, known_hosts="example.com ssh-ed25519 AAAA\n")
    assert (done[0], done[1]) == (2, "")
    assert "Host key verification failed" in done[2]


def test_another_key_is_refused_and_never_shown(host: SshHost, gitops: GitOps, tmp_path: Path) -> None:
    new_key(tmp_path / "other")
    text = (tmp_path / "other").read_text()
    code, out, said = _with(tmp_path, host, gitops, **{"ssh-privatekey": text})
    assert (code, out) == (2, "")
    assert "Permission denied" in said
    assert not any(line in said for line in text.splitlines()[1:-1])


@pytest.mark.parametrize("name", ["ssh-privatekey", "known_hosts"])
def test_a_secret_that_lacks_a_key_is_named(name: str, host: SshHost, gitops: GitOps, tmp_path: Path) -> None:
    code, _, said = _with(tmp_path, host, gitops, **{name: ""})
    assert code == 2
    assert f"{name}: is empty" in said


def test_a_key_without_its_last_line_break_is_told_as_that(host: SshHost, gitops: GitOps, tmp_path: Path) -> None:
    text = (host.keys / "ssh-privatekey").read_text().rstrip()
    code, _, said = _with(tmp_path, host, gitops, **{"ssh-privatekey": text})
    assert code == 2
    assert "ssh-privatekey: has no line break at its end" in said


def _with(folder: Path, host: SshHost, gitops: GitOps, **files: str) -> tuple[int, str, str]:
    """Exit code and output of the gate with other files in its Secret; one line at most on standard error."""
    keys = folder / "keys"
    keys.mkdir()
    for name in ("ssh-privatekey", "known_hosts"):
        (keys / name).write_text(files.get(name, (host.keys / name).read_text()))
        (keys / name).chmod(0o600)
    where = {"SLUICE_REPOSITORY": host.url(gitops.remote), "SLUICE_REPOSITORY_KEY": str(keys)}
    done = sluice_gate(folder, **where)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.returncode, done.stdout, done.stderr
