"""A store or a repository that does not answer: repeated inside the step, then a fault, and found before a training."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sluice.errors import BadArtifact, BadInput, SluiceError, Unavailable
from sluice.git.command import GitFailed
from sluice.git.repository import SilentRemoteError, UnreachableError
from sluice.models.bundle import load_bundle
from sluice.models.store import store_bundle
from sluice.object_store import NoSuchObject
from sluice.steps import patience
from sluice.steps.error_boundary import exit_on_error
from sluice.steps.patience import patiently
from sluice.steps.repository import open_repository
from sluice.steps.settlement import PROBE
from sluice_steps.check import check
from sluice_steps.promote import promote
from tests.support.release import C, state_in
from tests.support.release_repository import repository_in
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.tiny_run import ROOT

TASK = "tests.support.tiny_task:TASK"
GIVEN = {
    **dict.fromkeys(("recipe", "policy", "gitops", "bundles", "now", "run", "source", "checkpoints"), ""),
    "task": TASK,
    "environment": "dev",
    "production": "stable",
    "distribution": "single",
    "checkpoint_every": 200,
    "feature_repo": str(ROOT / "feature_repo"),
    "overlays": str(ROOT / "tests/support/tiny_checkout/manifests/overlays"),
    "job_name": "by-hand",
    "job_id": "1",
}
DEAF = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No pause, no credentials of whoever runs this, a clone of the test's own."""
    monkeypatch.setattr(patience, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv("AWS_ENDPOINT_URL", DEAF)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()


def fails(*errors: SluiceError | None) -> Any:
    """An action that raises these, one a call; ``None`` is an answer."""
    left = list(errors)

    def action() -> int:
        error = left.pop(0)
        if error:
            raise error
        return len(left)

    return action


AWAY = Unavailable("s3://b/t", "cannot be written (time-out)", "check the store")


def test_what_does_not_answer_is_asked_again_and_then_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert patiently(fails(AWAY, AWAY, None)) == 0
    assert capsys.readouterr().err.splitlines()[0] == f"try 1 of 3: {AWAY}; again in 0 s"
    with pytest.raises(SystemExit) as ended, exit_on_error():
        patiently(fails(AWAY, AWAY, AWAY, None))
    assert ended.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"sluice: Unavailable: {AWAY}"


@pytest.mark.parametrize("error", [BadInput("a", "b", "c"), BadArtifact("a", "b", "c"), NoSuchObject("a", "b", "c")])
def test_what_would_be_answered_the_same_is_not_asked_again(error: SluiceError) -> None:
    with pytest.raises(type(error)):
        patiently(fails(error, None))


@pytest.mark.parametrize(
    "words",
    [
        "ssh: connect to host git.example port 22: Connection timed out\nfatal: Could not read from remote repository.",
        "ssh: Could not resolve hostname git.example: Temporary failure in name resolution",
        "kex_exchange_identification: Connection closed by remote host",
        "fatal: unable to access 'https://h/r.git/': Failed to connect to h port 443",
        "fatal: unable to access 'https://h/r.git/': The requested URL returned error: 503",
        "fatal: the remote end hung up unexpectedly",
        "no answer within 60 s",
    ],
)
def test_a_networks_fault_is_told_from_a_wrong_address(words: str, tmp_path: Path) -> None:
    failed = GitFailed(tmp_path, ["fetch"], words)
    error = open_repository(str(tmp_path / "r.git"), "dev").unreachable("read", failed)
    assert isinstance(error, SilentRemoteError)
    assert error.exit_code == 1


@pytest.mark.parametrize(
    "words",
    [
        "fatal: '/r.git' does not appear to be a git repository",
        "git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.",
        "Host key verification failed.\nfatal: Could not read from remote repository.",
        "fatal: unable to access 'https://h/r.git/': The requested URL returned error: 404",
        "ERROR: The key you are authenticating with has been marked as read only.",
    ],
)
def test_a_wrong_address_or_key_is_wrong_input(words: str, tmp_path: Path) -> None:
    failed = GitFailed(tmp_path, ["fetch"], words)
    error = open_repository(str(tmp_path / "r.git"), "dev").unreachable("read", failed)
    assert isinstance(error, UnreachableError)
    assert not isinstance(error, Unavailable)
    assert error.exit_code == 2


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """A port that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def checked(capsys: pytest.CaptureFixture[str], **changed: Any) -> tuple[int, str]:
    """Exit status and last line of the first step."""
    with pytest.raises(SystemExit) as ended:
        check.function(**GIVEN | changed)
    return int(str(ended.value.code)), capsys.readouterr().err.splitlines()[-1]


def test_the_first_step_asks_the_store_and_the_repository(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, line = checked(capsys, bundles="s3://models/tiny")
    assert (code, line[:53]) == (1, "sluice: Unavailable: s3://models/tiny/.sluice-check: ")
    code, line = checked(capsys, checkpoints="s3://models/kept")
    assert (code, "kept/.sluice-check: cannot be written" in line) == (1, True)
    bundles = f"file://{tmp_path}/bundles"
    (tmp_path / "bundles").mkdir()
    with refusing_port() as port:
        code, line = checked(capsys, bundles=bundles, gitops=f"https://127.0.0.1:{port}/r.git")
    assert (code, line.startswith("sluice: Unavailable: https://127.0.0.1:")) == (1, True)
    code, line = checked(capsys, bundles=bundles, gitops=f"file://{tmp_path}/none.git")
    assert (code, line.startswith("sluice: UnreachableError: file://")) == (2, True)
    (tmp_path / "file").touch()
    assert checked(capsys, bundles=f"{tmp_path}/file/b")[1].startswith("sluice: BadInput: parameter bundles: folder")


def test_the_first_step_asks_whether_it_may_write_and_for_the_model_in_production(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    policy = (ROOT / "tests/support/tiny_checkout/manifests/overlays/dev/gate-policy.yaml").read_text()
    gitops = repository_in(tmp_path, state_in("stable", task="tiny", stable=C, sequence=1), policy)
    places = {"gitops": str(gitops.remote), "bundles": f"file://{tmp_path}/bundles"}
    (tmp_path / "bundles").mkdir()
    code, line = checked(capsys, **places)
    assert (code, f"{C.replace(':', '-')}/bundle.json: is not in the store" in line) == (2, True)
    assert (tmp_path / "bundles" / PROBE).exists()
    digest = write_tiny_bundle(tmp_path / "made", 0.5)
    bundle = load_bundle(tmp_path / "made" / digest.replace(":", "-"), digest)
    store_bundle(bundle, places["bundles"], os.environ)
    before = gitops.snapshot().commit
    assert check.function(**GIVEN | places | {"production": digest}).production == digest
    assert gitops.snapshot().commit == before


def test_a_promotion_whose_store_is_away_is_a_fault(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    summary = SimpleNamespace(path=str(tmp_path / "summary"))
    places = {"gitops": "/r.git", "bundles": "s3://models/tiny", "environment": "dev", "now": ""}
    with pytest.raises(SystemExit) as ended:
        promote.function(digest=C, summary=summary, job_name="", job_id="7", **places)
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert [line.split(":")[0] for line in lines] == ["try 1 of 3", "try 2 of 3", "sluice"]
