"""A history that somebody rewrote is never decided on silently, whatever became of the private clone."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sluice.documents.verdict import Decision
from sluice.errors import BadArtifact, BadInput, Refused
from sluice.git.clone import HistoryRewrittenError
from sluice.git.command import git
from sluice.gitops.writer import GitOps, Snapshot
from sluice.operations.ledger import verify
from sluice.operations.operator import accept_history, add_hold
from sluice.rollout.advance import propose
from tests.support.command import sluice
from tests.support.copies import copy_of
from tests.support.release import GOOD, A, sample_checkout

NOW = "2020-03-01T00:00:00Z"


def _propose(snapshot: Snapshot) -> Decision:
    return propose(snapshot, A, GOOD, {"auc": 0.8}, {"id": "run-1"}, "2020-01-01T00:00:00Z")


def _digest(number: int) -> str:
    return f"sha256:{number:064x}"


@pytest.fixture
def gitops(tmp_path: Path) -> GitOps:
    """Four decisions."""
    return GitOps(copy_of(_decided, tmp_path / "home") / "gitops.git", "dev")


def _decided(home: Path) -> None:
    made = GitOps(home / "gitops.git", "dev")
    made.seed(sample_checkout())
    made.commit(_propose)
    for number in range(3):
        add_hold(made, _digest(number), "audit", "kim", NOW)
    made.snapshot()


@pytest.fixture
def elsewhere(gitops: GitOps, tmp_path: Path) -> GitOps:
    """The same repository as another machine sees it."""
    return GitOps(Path(gitops.remote), "dev", clone=tmp_path / "other" / "clone")


def _cut(gitops: GitOps) -> str:
    """Take the newest commit off; returns it."""
    tip = git(Path(gitops.remote), "rev-parse", "main").decode().strip()
    git(Path(gitops.remote), "update-ref", "refs/heads/main", "main~1")
    return tip


def _keep(_: Path) -> None:
    pass


def _throw_away(clone: Path) -> None:
    shutil.rmtree(clone)


def _break(clone: Path) -> None:
    (clone / "HEAD").write_text("half")


@pytest.mark.parametrize("becomes", [_keep, _throw_away, _break])
@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_read_from_or_written_to_a_rewritten_history(
    gitops: GitOps, elsewhere: GitOps, tmp_path: Path, becomes: Callable[[Path], None], replaced: bool
) -> None:
    tip = _cut(gitops)
    if replaced:  # not only cut: something else was written in its place
        add_hold(elsewhere, _digest(9), "instead", "lee", NOW)
    there = git(Path(gitops.remote), "rev-parse", "main")
    becomes(tmp_path / "home" / ".gitops.git.clone")
    fresh = GitOps(Path(gitops.remote), "dev")
    for use in (fresh.snapshot, fresh.decisions, lambda: add_hold(fresh, _digest(5), "no", "kim", NOW)):
        with pytest.raises(HistoryRewrittenError, match=f"does not descend from {tip[:12]}.*ledger accept"):
            use()
    assert git(Path(gitops.remote), "rev-parse", "main") == there
    assert any(
        tip in problem.where and "was seen here and is gone" in problem.rule for problem in verify(fresh).problems
    )


def test_a_decision_that_was_cut_off_right_after_it_landed_is_missed(gitops: GitOps) -> None:
    add_hold(gitops, _digest(7), "audit", "kim", NOW)
    _cut(gitops)
    with pytest.raises(HistoryRewrittenError):
        gitops.snapshot()


def test_a_person_accepts_it_and_the_ledger_says_so(gitops: GitOps, elsewhere: GitOps, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="was not rewritten"):
        accept_history(gitops, "why not", "kim", NOW)
    tip = _cut(gitops)
    add_hold(elsewhere, _digest(9), "instead", "lee", NOW)
    with pytest.raises(BadInput, match="the text of 'reason'"):
        accept_history(gitops, "", "kim", NOW)
    made = accept_history(gitops, "Tuesday's copy", "kim", NOW)
    assert made.evidence["given_up"] == tip
    assert [hold.digest for hold in gitops.snapshot().state.holds] == [_digest(0), _digest(1), _digest(9)]
    assert gitops.trail().commit_of(made.id) == gitops.snapshot().commit
    assert verify(gitops).is_intact
    assert git(tmp_path / "home" / ".gitops.git.clone", "cat-file", "-t", tip) == b"commit\n"
    add_hold(elsewhere, _digest(10), "goes on", "lee", NOW)
    assert len(gitops.decisions()) == 6


def test_the_commands_refuse_in_one_line_and_accept(gitops: GitOps) -> None:
    _cut(gitops)
    variables = {"SLUICE_HOME": str(Path(gitops.remote).parent), "PATH": os.environ["PATH"]}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return sluice(*arguments, env=variables)

    refused = run("status")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "its history was rewritten" in refused.stderr
    assert run("ledger", "verify").returncode == 2
    assert run("ledger", "accept", "--reason", "restored").returncode == 0
    assert run("status").returncode == 0
    assert run("ledger", "verify").returncode == 0


def test_a_history_that_only_grew_is_no_rewritten_one(gitops: GitOps, elsewhere: GitOps, tmp_path: Path) -> None:
    for number in range(20, 23):
        add_hold(elsewhere, _digest(number), "audit", "lee", NOW)
    _throw_away(tmp_path / "home" / ".gitops.git.clone")
    assert len(gitops.decisions()) == 7
    assert verify(gitops).is_intact


@pytest.mark.parametrize("packed", [False, True])
def test_a_flipped_bit_in_any_object_is_found_or_harmless(gitops: GitOps, tmp_path: Path, packed: bool) -> None:
    """Found: refused, or a problem. Harmless: the very same records are read (a byte that no object needs)."""
    remote = Path(gitops.remote)
    if packed:
        git(remote, "gc", "--quiet", "--prune=now")
    records, dice = gitops.records(), random.Random(packed)  # noqa: S311
    files = sorted(path for path in (remote / "objects").rglob("*") if path.is_file() and path.suffix in ("", ".pack"))
    files = [path for path in files if path.parent.name != "info"]
    found = 0
    for number in range(24):
        path = files[number % len(files)] if packed else dice.choice(files)
        kept = path.read_bytes()
        place = dice.randrange(len(kept))
        path.chmod(0o644)
        path.write_bytes(kept[:place] + bytes([kept[place] ^ 1 << dice.randrange(8)]) + kept[place + 1 :])
        try:
            intact = verify(gitops).is_intact
        except (BadArtifact, BadInput):
            intact = False
        if intact:
            copy = GitOps(remote, "dev", clone=tmp_path / f"copy-{packed}-{number}")
            assert copy.records() == records, (path, place)
        found += not intact
        path.write_bytes(kept)
    assert found >= 20
    assert verify(gitops).is_intact
