"""One decision is one commit: told in the log, never lost, never doubled, whoever races and whenever it is killed."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sluice.documents.verdict import Decision
from sluice.errors import BadArtifact, BadInput, Refused
from sluice.git.command import git
from sluice.gitops.writer import GitOps, Snapshot
from sluice.operations.operator import add_hold, release_hold, roll_back
from sluice.operations.why import why
from sluice.rollout.advance import look, propose
from tests.support.copies import copy_of
from tests.support.forked import AS_A_WRITER
from tests.support.leftover import take_leftover_away
from tests.support.release import BAD, GOOD, A, B, C, failing, passing, sample_checkout

ROOT = Path(__file__).parents[2]
RELEASE = "manifests/overlays/dev/release/kustomization.yaml"
WRITER = (
    AS_A_WRITER
    + """
import sys
from pathlib import Path
from sluice.errors import Refused
from sluice.gitops.writer import GitOps
from sluice.operations.operator import add_hold
remote, clone, seed, *digests = sys.argv[1:]
gitops = GitOps(Path(remote), "dev", clone=Path(clone), seed=int(seed))
for digest in digests:
    try:
        add_hold(gitops, digest, "race", f"writer {seed}", "2020-01-01T00:00:00Z")
    except Refused:
        pass
"""
)

MAKER = """
import sys
from pathlib import Path
from sluice.git.command import create_bare
for _ in range(20):
    create_bare(Path(sys.argv[1]))
"""


@pytest.fixture
def gitops(tmp_path: Path) -> GitOps:
    return GitOps(copy_of(_seeded, tmp_path) / "gitops.git", "dev")


def _seeded(folder: Path) -> None:
    GitOps(folder / "gitops.git", "dev").seed(sample_checkout())


def _day(number: int) -> str:
    return f"2020-01-{number:02d}T00:00:00Z"


def _propose(candidate: str, day: int, reasons: object = GOOD) -> Callable[[Snapshot], Decision]:
    run = {"id": f"run-{day}", "data": "sha256:" + "d" * 64}
    return lambda snapshot: propose(snapshot, candidate, reasons, {"auc": 0.8}, run, _day(day))  # type: ignore[arg-type]


def _look(make: object, day: int) -> Callable[[Snapshot], Decision | None]:
    return lambda snapshot: look(snapshot, make(snapshot.state, _day(day)), _day(day), {})  # type: ignore[operator]


def _drain(gitops: GitOps, day: int) -> None:
    take_leftover_away(gitops, _day(day))


def _play(gitops: GitOps) -> None:
    """A first model, a challenger that is promoted, one that is refused offline, one that breaks and is held."""
    gitops.commit(_propose(A, 1))
    gitops.commit(_look(passing, 2))
    _drain(gitops, 2)
    gitops.commit(_propose(B, 3))
    for day in range(4, 8):
        gitops.commit(_look(passing, day))
    _drain(gitops, 7)
    gitops.commit(_propose(C, 8, BAD))
    gitops.commit(_propose(C, 9))
    gitops.commit(_look(failing, 10))
    _drain(gitops, 10)
    gitops.commit(_propose(C, 11))


def _log(gitops: GitOps, form: str = "%s") -> list[str]:
    return git(Path(gitops.remote), "log", "--reverse", f"--format={form}").decode().splitlines()


def test_the_log_reads_like_a_release_history(gitops: GitOps) -> None:
    _play(gitops)
    a, b, c = ("a" * 12, "b" * 12, "c" * 12)
    assert _log(gitops) == [
        "flights dev: manifests and gate policy, nothing released yet",
        f"flights dev: first model {a} answers 100 %  PASS",
        f"flights dev: {a} confirmed as stable  PASS",
        f"flights dev: the candidate's server of {a} taken away  PASS",
        f"flights dev: {b} shadows 100 %  PASS",
        "flights dev: canary 0 -> 10 %  PASS",
        "flights dev: canary 10 -> 50 %  PASS",
        "flights dev: canary 50 -> 100 %, old side warm  PASS",
        f"flights dev: {b} confirmed as stable  PASS",
        f"flights dev: the candidate's server of {b} taken away  PASS",
        f"flights dev: {c} refused  FAIL",
        f"flights dev: {c} shadows 100 %  PASS",
        f"flights dev: {c} rolled back and held in shadow, stable is {b}  FAIL",
        f"flights dev: the candidate's server of {c} taken away  PASS",
        f"flights dev: {c} refused  FAIL",
    ]
    body = git(Path(gitops.remote), "log", "-1", "--format=%B", "main~2").decode()
    assert "FAIL          error_rate: 400 of 4000 answers failed" in body
    assert f"Sluice-Candidate: {C}" in body


def test_the_tip_says_what_the_decisions_say(gitops: GitOps) -> None:
    _play(gitops)
    snapshot, decisions = gitops.snapshot(), gitops.decisions()
    assert (snapshot.state.stage, snapshot.state.stable) == ("stable", B)
    assert snapshot.state.held(C) is not None
    assert decisions[-1].after == snapshot.state.model_dump(mode="json")
    assert all(one.after == two.before for one, two in itertools.pairwise(decisions))
    names = [path.rpartition("/")[2] for path, _ in gitops.records()]
    assert names[:3] == ["0001-offline-bootstrap.json", "0002-bootstrap-confirm.json", "0003-drain-remove-server.json"]


def test_equal_decisions_give_equal_commits_whatever_git_config_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = GitOps(tmp_path / "one.git", "dev"), GitOps(tmp_path / "two.git", "dev")
    first.seed(sample_checkout())
    _play(first)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[user]\nname = Somebody\n[commit]\ngpgsign = true\n[core]\nautocrlf = true\n")
    for key, value in {"HOME": str(home), "GIT_DIR": "/nowhere", "GIT_AUTHOR_NAME": "Else"}.items():
        monkeypatch.setenv(key, value)
    second.seed(sample_checkout())
    _play(second)
    assert _log(first, "%H %an %ae %aI") == _log(second, "%H %an %ae %aI")
    assert _log(second, "%an <%ae> %cI")[-1] == "Sluice <sluice@localhost> 2020-01-11T00:00:00+00:00"


def test_a_repeated_decision_is_written_once(gitops: GitOps) -> None:
    one, two = gitops.commit(_propose(A, 1)), gitops.commit(_propose(A, 1))
    assert one == two
    assert len(_log(gitops)) == 2
    gitops.commit(_look(passing, 2))
    assert gitops.commit(_propose(A, 1)) == one


def test_a_rollout_leads_back_to_its_own_proposal(gitops: GitOps) -> None:
    _play(gitops)
    assert gitops.proposal_of(gitops.snapshot().state) is None
    add_hold(gitops, A, "of no concern", "kim", _day(20))
    release_hold(gitops, C, "mended", "kim", _day(21))
    gitops.commit(_propose(C, 22))
    proposal = gitops.proposal_of(gitops.snapshot().state)
    assert proposal is not None
    assert (proposal.run["id"], proposal.action, proposal.evidence) == ("run-22", "start-shadow", {"auc": 0.8})


def test_nothing_decided_writes_nothing(gitops: GitOps) -> None:
    assert gitops.commit(lambda _: None) is None
    assert gitops.seed(sample_checkout()) == gitops.snapshot().commit
    assert len(_log(gitops)) == 1


def test_a_lost_race_is_decided_again_on_the_fresh_state(gitops: GitOps, tmp_path: Path) -> None:
    rival = GitOps(gitops.remote, "dev", clone=tmp_path / "rival")
    seen: list[str] = []

    def decide(snapshot: Snapshot) -> Decision:
        seen.append(snapshot.state.stage)
        if len(seen) == 1:
            rival.commit(_propose(A, 1))
        return _propose(B, 2)(snapshot)

    written = gitops.commit(decide)
    assert seen == ["empty", "bootstrap"]
    assert written is not None
    assert (written.decision.action, written.decision.reasons[0].rule) == ("refuse", "one-rollout")


def test_four_writers_land_all_their_decisions_once(gitops: GitOps, tmp_path: Path) -> None:
    digests = [f"sha256:{number:064x}" for number in range(20)]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, gitops.remote, tmp_path / f"clone-{k}", str(k), *digests[k * 5 : k * 5 + 5]]
        )
        for k in range(4)
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert sorted(hold.digest for hold in gitops.snapshot().state.holds) == digests
    assert sorted(str(made.candidate) for made in gitops.decisions()) == digests
    assert len(_log(gitops)) == 21


def test_many_may_make_the_repository_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKER, str(tmp_path / "gitops.git")]
    makers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [maker.communicate(timeout=60)[1] for maker in makers] == [""] * 4


def test_killed_anywhere_and_started_again_ends_the_same(gitops: GitOps, tmp_path: Path) -> None:
    digests = [f"sha256:{number:064x}" for number in range(60)]  # more than are written before the last kill
    command = [sys.executable, "-c", WRITER, gitops.remote, str(tmp_path / "clone"), "7", *digests]
    pauses = random.Random(1)  # noqa: S311
    killed = 0
    for _ in range(8):
        writer = subprocess.Popen(command)
        time.sleep(pauses.uniform(0.3, 0.9))
        killed += writer.poll() is None
        writer.kill()
        writer.wait()
        gitops.snapshot()
        git(Path(gitops.remote), "fsck", "--strict", "--no-dangling")
    assert killed >= 3
    subprocess.run(command, check=True)
    assert [hold.digest for hold in gitops.snapshot().state.holds] == digests
    assert [made.candidate for made in gitops.decisions()] == digests
    assert len(_log(gitops)) == len(digests) + 1


@pytest.mark.parametrize("damage", ["refs/heads/main.lock", "sluice-index.lock", "HEAD", "config", "packed"])
def test_a_broken_private_clone_is_built_again(gitops: GitOps, tmp_path: Path, damage: str) -> None:
    gitops.snapshot()
    clone = tmp_path / ".gitops.git.clone"
    if damage == "packed":
        for found in [path for path in (clone / "objects").rglob("*") if path.is_file()][::2]:
            found.unlink()
    else:
        (clone / damage).write_text("half")
    written = gitops.commit(_propose(A, 1))
    assert written is not None
    assert gitops.snapshot().commit == written.commit


def test_a_hand_edit_into_nonsense_is_refused_by_name(gitops: GitOps, tmp_path: Path) -> None:
    gitops.commit(_propose(A, 1))
    work = tmp_path / "work"
    subprocess.run(["git", "clone", "--quiet", gitops.remote, work], check=True)
    path = work / RELEASE
    path.write_text(path.read_text().replace("candidate-weight=100", "candidate-weight=80"))
    identity = ["-c", "user.name=kim", "-c", "user.email=kim@localhost"]
    subprocess.run(["git", "-C", work, *identity, "commit", "--quiet", "-am", "more"], check=True)
    subprocess.run(["git", "-C", work, "push", "--quiet", "origin", "main"], check=True)
    with pytest.raises(BadArtifact, match=f"{RELEASE}: weights: .* do not add up to 100"):
        gitops.commit(_look(passing, 2))
    assert len(_log(gitops)) == 3


def test_missing_repository_and_missing_manifests_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        GitOps(tmp_path / "none.git", "dev").snapshot()
    with pytest.raises(BadInput, match=r"kustomization\.yaml"):
        GitOps(tmp_path / "gitops.git", "dev").seed(tmp_path)
    with pytest.raises(BadArtifact, match=r"overlays/qa/release/holds\.yaml"):
        GitOps(tmp_path / "gitops.git", "qa").seed(sample_checkout())


def test_people_can_roll_back_hold_and_lift(gitops: GitOps) -> None:
    with pytest.raises(Refused, match="nothing is served"):
        roll_back(gitops, "no", "kim", _day(1))
    gitops.commit(_propose(A, 1))
    gitops.commit(_look(passing, 2))
    with pytest.raises(Refused, match="no earlier model"):
        roll_back(gitops, "no", "kim", _day(3))
    with pytest.raises(Refused, match="is being served"):
        add_hold(gitops, A, "no", "kim", _day(3))
    _drain(gitops, 3)
    gitops.commit(_propose(B, 3))
    assert roll_back(gitops, "audit", "kim", _day(4)).after["stage"] == "drain"
    _drain(gitops, 4)
    release_hold(gitops, B, "mended", "kim", _day(5))
    with pytest.raises(Refused, match="is not held"):
        release_hold(gitops, B, "mended", "kim", _day(5))
    gitops.commit(_propose(B, 6))
    for day in range(7, 11):
        gitops.commit(_look(passing, day))
    assert gitops.snapshot().state.stable == B
    roll_back(gitops, "complaints", "kim", _day(12))
    state = gitops.snapshot().state
    hold = state.held(B)
    assert state.stable == A
    assert hold is not None
    assert (hold.reason, hold.by) == ("complaints", "kim")
    with pytest.raises(BadInput, match="not sha256"):
        add_hold(gitops, "sha256:12", "no", "kim", _day(3))


def test_why_tells_the_whole_story(gitops: GitOps) -> None:
    _play(gitops)
    held = why(gitops, "sha256:cccccc")
    assert held.subject == C
    assert "error_rate" in held.standing
    actions = ["refuse", "start-shadow", "rollback", "remove-server", "refuse"]
    assert [link.decision.action for link in held.links] == actions
    assert held.run["data"] == "sha256:" + "d" * 64
    promoted = why(gitops, "bbbbbb")
    assert promoted.standing.startswith("stable in dev")
    assert [link.decision.action for link in promoted.links] == [
        "start-shadow",
        "set-weight",
        "set-weight",
        "promote",
        "confirm",
        "remove-server",
    ]
    one = why(gitops, promoted.links[2].decision.id)
    assert one.links == (promoted.links[2],)
    assert one.run == promoted.run
    assert one.links[0].commit in git(Path(gitops.remote), "log", "--format=%H").decode()
    assert all(isinstance(line, str) for line in held.lines())
    assert held.document()["links"][2]["evidence"]["skew"] == {"speed": 0.02, "colour": 0.01}
    with pytest.raises(BadInput, match="not in the history"):
        why(gitops, "123456")
