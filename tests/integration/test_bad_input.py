"""Bad input at the command line and in the GitOps repository: one line, the right exit code, nothing written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sluice.errors import SluiceError
from sluice.git.command import git
from sluice.gitops.writer import GitOps
from sluice.operations.ledger import verify
from sluice.operations.operator import add_hold
from sluice.rollout.advance import look, propose
from tests.support.command import SLUICE, sluice
from tests.support.release import GOOD, NOW, A, B, C, passing

ROOT = Path(__file__).parents[2]
OVERLAY = "manifests/overlays/dev"
RELEASE, HOLDS, POLICY = (
    f"{OVERLAY}/{name}" for name in ("release/kustomization.yaml", "release/holds.yaml", "gate-policy.yaml")
)
BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n".encode()
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
SPOILT = {
    "no date": (RELEASE, b"since: 2013-99-99\n", "month must be in 1..12"),
    "too deep": (RELEASE, b"[" * 5000, "too deep"),
    "a bomb": (RELEASE, BOMB, "more than 20000 values"),
    "twice": (HOLDS, b"holds: []\nholds: []\n", "key 'holds' is there twice"),
    "no list": (HOLDS, b"holds: 3\n", "valid tuple, got 3"),
    "no bytes": (RELEASE, None, "is missing in the GitOps repository"),
    "no policy": (POLICY, b"", "the document"),
    "policy of dates": (POLICY, b"2013-01-01: 1\n", "Field required"),
    "policy of hours": (POLICY, b"kind: 2:00\n", "in line 1, which readers of YAML understand unlike: write 120 or"),
    "holds of yes": (HOLDS, b"holds: yes\n", 'write true or "yes"'),
    "policy bomb": (POLICY, BOMB, "more than 20000 values"),
}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a release history: A is stable, B in shadow."""
    home = tmp_path_factory.mktemp("played")
    gitops = GitOps(home / "gitops.git", "dev")
    gitops.seed(ROOT)
    first, second, third = (f"2020-01-0{day}T00:00:00Z" for day in (1, 2, 3))
    run = {"id": "run-1"}
    gitops.commit(lambda snapshot: propose(snapshot, A, GOOD, {"auc": 0.8}, run, first))
    gitops.commit(lambda snapshot: look(snapshot, passing(snapshot.state, second), second, run))
    gitops.commit(lambda snapshot: propose(snapshot, B, GOOD, {"auc": 0.9}, run, third))
    return home


@pytest.fixture
def home(played: Path, tmp_path: Path) -> Path:
    made = tmp_path / "höme with spaces"
    shutil.copytree(played, made)
    return made


def _sluice(home: Path, *arguments: str | bytes, **environment: str) -> subprocess.CompletedProcess[str]:
    return sluice(*arguments, env={**_environment(home), **environment})


def _environment(home: Path) -> dict[str, str]:
    return {"SLUICE_HOME": str(home), "PATH": "/usr/bin:/bin"}


def _refusal(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """The one line of a command that refused its input: the thing, the rule and the fix."""
    assert done.returncode == code, done.stderr
    assert re.fullmatch(r"sluice: [^\n]+: [^\n]+; [^\n]+\n", done.stderr), done.stderr
    assert len(done.stderr) < 700
    return done.stderr


def _tip(home: Path) -> bytes:
    return git(home / "gitops.git", "rev-parse", "main")


def _edit(home: Path, work: Path, change: Callable[[Path], object]) -> None:
    """A commit by hand, with plain git."""
    subprocess.run(["git", "clone", "--quiet", home / "gitops.git", work], check=True)
    change(work)
    identity = ["git", "-C", str(work), "-c", "user.name=kim", "-c", "user.email=kim@localhost"]
    subprocess.run([*identity, "add", "--all"], check=True)
    subprocess.run([*identity, "commit", "--quiet", "--message", "by hand"], check=True)
    subprocess.run([*identity, "push", "--quiet", "origin", "main"], check=True)


@pytest.mark.parametrize("case", SPOILT)
def test_a_file_that_was_spoilt_by_hand_stops_everything_by_name(home: Path, tmp_path: Path, case: str) -> None:
    path, text, rule = SPOILT[case]
    _edit(
        home,
        tmp_path / "work",
        lambda work: (work / path).write_bytes(text) if text is not None else _gone(work / path),
    )
    tip = _tip(home)
    refused = ["status"], ["approve" if path == POLICY else "rollback", "--reason", "why not"]
    for command in refused:
        done = _sluice(home, *command)
        assert rule in _refusal(done)
        assert path in done.stderr
    assert _tip(home) == tip


@pytest.mark.parametrize("text", [b"kind: 2:00\n", None], ids=["spoilt", "gone"])
@pytest.mark.parametrize("how", [[], ["--break-glass"]], ids=["by commit", "break-glass"])
def test_a_person_goes_back_and_holds_without_a_policy_that_can_be_read(
    home: Path, tmp_path: Path, text: bytes | None, how: list[str]
) -> None:
    gitops = GitOps(home / "gitops.git", "dev")
    gitops.snapshot()
    _edit(
        home,
        tmp_path / "work",
        lambda work: (work / POLICY).write_bytes(text) if text is not None else _gone(work / POLICY),
    )
    with pytest.raises(SluiceError, match=r"gate-policy\.yaml"):
        gitops.commit(lambda snapshot: look(snapshot, passing(snapshot.state, NOW), NOW, {}))
    done = _sluice(home, "rollback", "--reason", "users complain", *how, COLUMNS="500")
    assert done.returncode == 0, done.stderr
    held = add_hold(gitops, C, "slow", "kim", NOW)
    assert [(one.rule, one.verdict) for one in held.reasons] == [("person", "PASS"), ("policy", "INCONCLUSIVE")]
    assert "gate-policy.yaml" in held.reasons[1].text
    assert (held.after["stage"], held.after["stable"], held.before["holds"][0]["digest"]) == ("drain", A, B)
    assert how or "policy: it cannot be read, and a person needs none" in done.stdout
    with pytest.raises(SluiceError, match=r"gate-policy\.yaml"):
        gitops.snapshot()
    verify(gitops).require_intact()


def _gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(("old", "new"), [("margin: 0.01", "margin: true"), ("margin: 0.01", "margin: '0.01'")])
def test_a_policy_takes_no_word_for_a_number(home: Path, tmp_path: Path, old: str, new: str) -> None:
    def change(work: Path) -> None:
        text = (work / POLICY).read_text()
        assert old in text
        (work / POLICY).write_text(text.replace(old, new))

    _edit(home, tmp_path / "work", change)
    assert "valid number" in _refusal(_sluice(home, "status"))


@pytest.mark.parametrize("command", ["status", "why aaaa", "hold list"])
@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"id": "x", "candidate": "' + A + '"}',
        '{"decision": {"id": "x", "candidate": ["' + A + '"]}}',
        '{"decision": {"id": "x", "run": 3, "candidate": "' + A + '"}}',
    ],
)
def test_a_spoilt_decision_record_is_named(home: Path, tmp_path: Path, text: str, command: str) -> None:
    name = "00/0001-offline-bootstrap.json"
    _edit(home, tmp_path / "work", lambda work: (work / OVERLAY / "decisions" / name).write_text(text))
    done = _sluice(home, *command.split())
    if command != "status":
        assert done.returncode == 0  # it reads no record, or each as its own commit brought it
    else:
        assert name in _refusal(done)
    assert "Traceback" not in done.stderr


def test_a_removed_record_is_never_written_over(home: Path, tmp_path: Path) -> None:
    def change(work: Path) -> None:
        (work / OVERLAY / "decisions/00/0001-offline-bootstrap.json").unlink()

    _edit(home, tmp_path / "work", change)
    before = [path for path, _ in GitOps(home / "gitops.git", "dev").records()]
    assert _sluice(home, "rollback", "--reason", "audit").returncode == 0
    after = [path for path, _ in GitOps(home / "gitops.git", "dev").records()]
    assert after == [*before, f"{OVERLAY}/decisions/00/0004-rollback-rollback.json"]


@pytest.mark.parametrize("environment", ["qa", "", "../..", "a b", "a\nb"])
def test_an_environment_that_is_not_there(home: Path, environment: str) -> None:
    rule = "name one of: dev" if environment == "qa" else "is not a name"
    assert rule in _refusal(_sluice(home, "status", "--env", environment))


@pytest.mark.parametrize("reason", ["", "  ", "two\nlines", "\x1b[31mred", b"\xff", "x" * 501])
def test_a_reason_is_one_plain_line(home: Path, reason: str | bytes) -> None:
    tip = _tip(home)
    for command in (["rollback"], ["hold", "add", f"sha256:{'c' * 64}"]):
        assert "the text of 'reason'" in _refusal(_sluice(home, *command, "--reason", reason))
    assert _tip(home) == tip


@pytest.mark.parametrize("digest", ["", "aaaa", "sha256:12", f"sha256:{'G' * 64}"])
def test_a_hold_needs_a_whole_digest(home: Path, digest: str) -> None:
    assert "64 hexadecimal digits" in _refusal(_sluice(home, "hold", "add", digest, "--reason", "audit"))


@pytest.mark.parametrize("token", ["", "a", "sha", "nonsense", "propose-ffffffffffff", "ab\ncd", '"'])
def test_why_needs_something_that_is_in_the_history(home: Path, token: str) -> None:
    assert _refusal(_sluice(home, "why", token))


def test_markup_in_a_reason_is_text(home: Path) -> None:
    reason, digest = r"[/red] 50% [bold] a\b", f"sha256:{'c' * 64}"
    assert reason in _sluice(home, "hold", "add", digest, "--reason", reason).stdout
    for command in (["hold", "list"], ["status"], ["why", digest]):
        assert reason in _sluice(home, *command).stdout
    assert reason in _sluice(home, "hold", "release", digest, "--reason", reason).stdout


def test_a_terminal_without_arrows_still_gets_its_lines(home: Path) -> None:
    variables = _environment(home) | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "TZ": "America/New_York"}
    done = subprocess.run([SLUICE, "status"], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\\u2192" in done.stdout


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
def test_a_person_without_a_name_is_a_number() -> None:
    code = "import os, pwd; from sluice.terminal import who; os.setgroups([]); os.setuid(54321); print(who())"
    done = subprocess.run([sys.executable, "-c", code], env={}, capture_output=True, text=True, check=True)
    assert done.stdout == "uid 54321\n"


def test_a_lost_repository_is_named_and_the_clone_survives_it(home: Path) -> None:
    assert _sluice(home, "status").returncode == 0
    shutil.rmtree(home / "gitops.git")
    (home / "gitops.git").mkdir()
    done = _sluice(home, "status")
    assert "sluice run --fresh" in _refusal(done)
    assert "fatal: " in done.stderr
    history = git(home / ".gitops.git.clone", "log", "--format=%s", "main").splitlines()
    assert len(history) == 4


def test_a_lost_history_is_not_begun_anew_beside_the_runs_that_rest_on_it(home: Path) -> None:
    (home / "sluice-home").touch()
    start = home / "runs" / "01-first" / "start.json"
    start.parent.mkdir(parents=True)
    start.write_text("{}")
    shutil.rmtree(home / "gitops.git")
    done = _sluice(home, "run")
    assert done.returncode == 2
    assert "cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / "gitops.git").exists()


@pytest.mark.parametrize("story", ["nonsense", "json:dumps", ":x", "sluice_local.flights_story", ".x:y"])
def test_a_story_that_is_none_makes_no_home(tmp_path: Path, story: str) -> None:
    assert f"story '{story}'" in _refusal(_sluice(tmp_path / "home", "run", "--story", story))
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("command", ["run", "status"])
@pytest.mark.parametrize("home", ["/proc/nothing", "/dev/null", "/dev/null/home", "/" + "x" * 300])
def test_a_home_that_cannot_be_is_named(home: str, command: str) -> None:
    assert home[:40] in _refusal(_sluice(Path(home), *command.split()))


def test_a_home_that_may_not_be_written_to_is_named(home: Path) -> None:
    """By root without the right to do all, or by whoever is not root."""
    for path in [home, *home.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    drop = ["setpriv", "--bounding-set=-dac_override,-fowner", "--inh-caps=-all"] if os.getuid() == 0 else []
    for command in (["status"], ["rollback", "--reason", "x"], ["approve", "--reason", "x"]):
        call = [*drop, str(SLUICE), *command]
        done = subprocess.run(call, env=_environment(home), capture_output=True, text=True, check=False)
        assert "let this user write there, or name another directory in SLUICE_HOME" in _refusal(done)
        assert str(home) in done.stderr


@pytest.mark.parametrize("url", ["https://127.0.0.1:1/r.git", "ssh://git@127.0.0.1:1/r.git", "file:///no/such.git"])
def test_a_remote_that_does_not_answer_is_not_to_be_begun_anew(url: str, tmp_path: Path) -> None:
    code = 2 if url.startswith("file:") else 1  # a host that is silent may answer later
    said = _refusal(_sluice(tmp_path, "status", SLUICE_REPOSITORY=url), code)
    assert f"{url}: cannot be read" in said
    assert "--fresh" not in said
    assert "try again when the network and its host answer" in said
