"""What Git says reaches a Prometheus: of all environments, whatever is wrong with one of them."""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client import generate_latest

from sluice.errors import SluiceError
from sluice.git.command import git
from sluice.gitops.writer import GitOps
from sluice.monitoring.releases import Releases
from sluice.operations.operator import add_hold
from tests.support.fleet import in_flight, make_fleet
from tests.support.ledger import commit_text
from tests.support.release import LATE, C

BROKEN = {"manifests/overlays/model-000/release/kustomization.yaml": b"nonsense"}


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """Three models in the canary."""
    make_fleet(tmp_path / "gitops.git", in_flight(3))
    return tmp_path / "gitops.git"


def samples(releases: Releases) -> dict[str, float]:
    text = generate_latest(releases).decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_one_that_is_nonsense_is_told_and_hides_nobody(remote: Path, tmp_path: Path) -> None:
    releases = Releases(str(remote), tmp_path / "clone.git")
    before = samples(releases)
    git(remote, "fast-import", "--quiet", data=commit_text(b"by hand", BROKEN))
    after = samples(releases)
    assert before['sluice_release_unreadable{environment="model-000"}'] == 0
    assert after['sluice_release_unreadable{environment="model-000"}'] == 1
    lost = {name for name in before if name not in after}
    assert lost
    assert all('environment="model-000"' in name for name in lost)
    assert after['sluice_release_stage{environment="model-001",stage="canary",task="toy"}'] == 1


def test_a_new_commit_is_seen_with_its_decision(remote: Path, tmp_path: Path) -> None:
    releases = Releases(str(remote), tmp_path / "clone.git")
    holds = 'sluice_release_holds{environment="model-001",task="toy"}'
    assert samples(releases)[holds] == 0
    add_hold(GitOps(remote, "model-001"), C, "broke before", "kim", LATE)
    after = samples(releases)
    assert after[holds] == 1
    decided = (
        'sluice_release_decided_seconds{action="hold",environment="model-001",stage="hold",task="toy",verdict="PASS"}'
    )
    assert after[decided] == 1580515200  # LATE


def test_a_repository_that_is_gone_fails_the_scrape_and_not_the_exporter(remote: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sluice.monitoring.releases", "--repository", str(remote)]
    command += ["--clone", str(tmp_path / "clone.git")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            address = urlsplit(child.stdout.readline().split()[1]).netloc
            host, port = address.split(":")
            idle = socket.create_connection((host, int(port)))  # who sends nothing keeps nobody from an answer

            def status(path: str) -> int:
                connection = http.client.HTTPConnection(address, timeout=60)
                connection.request("GET", path)
                return connection.getresponse().status

            assert (status("/metrics"), status("/healthz"), status("/")) == (200, 200, 404)
            shutil.move(remote, tmp_path / "away")
            assert (status("/metrics"), status("/healthz")) == (503, 200)
            shutil.move(tmp_path / "away", remote)
            assert status("/metrics") == 200
            idle.close()
        finally:
            child.kill()
        assert child.stderr is not None
        (line,) = child.stderr.read().splitlines()
        assert line.startswith("exporter: "), "a person reads what is wrong"


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SluiceError):
        samples(Releases(str(tmp_path / "none.git"), tmp_path / "clone.git"))
