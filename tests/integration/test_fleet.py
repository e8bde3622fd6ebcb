"""Many models in one repository: each goes its own way, none blocks or mixes with another, all land exactly once."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sluice.documents.verdict import Decision
from sluice.errors import BadArtifact
from sluice.git.command import git
from sluice.gitops.fleet import read_fleet
from sluice.gitops.writer import GitOps, Snapshot
from sluice.operations.ledger import verify
from sluice.operations.operator import break_the_glass, roll_back
from sluice.operations.why import why
from sluice.rollout.advance import look, propose
from tests.support.fleet import in_flight, make_fleet
from tests.support.ledger import commit_text
from tests.support.race_writer import promotion
from tests.support.release import GOOD, NOW, A, B, C, failing, passing, state_in

ONE, TWO = "model-000", "model-001"


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """Six models, each in the first step of its canary."""
    make_fleet(tmp_path / "gitops.git", in_flight(6))
    return tmp_path / "gitops.git"


def _models(remote: Path) -> tuple[GitOps, GitOps]:
    return GitOps(remote, ONE), GitOps(remote, TWO)


def _look(make: object) -> Callable[[Snapshot], Decision | None]:
    return lambda snapshot: look(snapshot, make(snapshot.state), NOW, {"id": "run"})  # type: ignore[operator]


def test_a_fleet_is_read_as_each_of_its_environments_is(remote: Path) -> None:
    fleet = read_fleet(remote)
    assert sorted(fleet.snapshots) == [f"model-{number:03d}" for number in range(6)]
    for name, snapshot in fleet.snapshots.items():
        assert snapshot == GitOps(remote, name).snapshot()
    some = read_fleet(remote, [TWO, "nobody"])
    assert list(some.snapshots) == [TWO]
    assert "nobody" in str(some.problems["nobody"])


def test_one_that_cannot_be_read_holds_nobody_up(remote: Path) -> None:
    broken = {f"manifests/overlays/{ONE}/release/kustomization.yaml": b"nonsense"}
    git(remote, "fast-import", "--quiet", data=commit_text(b"by hand", broken))
    fleet = read_fleet(remote)
    assert (list(fleet.problems), len(fleet.snapshots)) == ([ONE], 5)
    one, two = _models(remote)
    with pytest.raises(BadArtifact, match=ONE):
        one.commit(_look(passing))
    assert two.commit(_look(passing)) is not None


def test_a_clone_that_lost_objects_is_mended(remote: Path) -> None:
    before = read_fleet(remote)
    for path in (remote.with_name(".gitops.git.clone") / "objects").rglob("*"):
        if path.is_file():
            path.unlink()
    assert read_fleet(remote) == before


def test_two_rollouts_of_different_models_neither_block_nor_mix(remote: Path) -> None:
    one, two = _models(remote)
    seen: list[int] = []

    def decide(snapshot: Snapshot) -> Decision | None:
        seen.append(snapshot.state.candidate_weight)
        if len(seen) == 1:  # the other model's decision lands between our reading and our writing
            assert two.commit(_look(failing)) is not None
        return look(snapshot, passing(snapshot.state), NOW, {"id": "run"})

    written = one.commit(decide)
    assert seen == [10, 10]
    assert written
    assert (one.snapshot().state.candidate_weight, one.snapshot().state.holds) == (50, ())
    assert two.snapshot().state.held(B) is not None
    assert [made.action for made in one.decisions()] == ["set-weight"]
    assert [made.action for made in two.decisions()] == ["rollback"]
    assert [link.decision.environment for link in why(one, B).links] == [ONE]
    assert [link.decision.environment for link in why(two, B).links] == [TWO]
    assert verify(one).is_intact
    assert verify(two).is_intact


def test_a_model_is_rolled_back_to_its_own_past(remote: Path) -> None:
    one, two = _models(remote)
    for model, digest in ((one, "d"), (two, "e")):
        roll_back(model, "makes room", "kim", NOW)
        _promote(model, "sha256:" + digest * 64)
    made = roll_back(one, "worse", "kim", NOW)
    assert (made.candidate, made.stable, made.run) == ("sha256:" + "d" * 64, A, {"id": "run-d"})
    assert two.snapshot().state.stable == "sha256:" + "e" * 64


def _promote(model: GitOps, digest: str) -> None:
    run = {"id": f"run-{digest[7]}"}
    model.commit(lambda snapshot: propose(snapshot, digest, GOOD, {}, run, "2020-01-02T00:00:00Z"))
    for day in itertools.count(3):
        if not model.snapshot().state.rollout:
            return
        now = f"2020-01-{day:02d}T00:00:00Z"
        model.commit(lambda snapshot, now=now: look(snapshot, passing(snapshot.state, now), now, run))  # type: ignore[misc]


def test_broken_glass_of_one_model_leaves_the_other_alone(remote: Path) -> None:
    one, two = _models(remote)
    break_the_glass(one, "wrong", "kim", NOW)
    assert two.commit(_look(passing)) is not None
    assert one.glass.pending_record() is not None
    assert two.glass.pending_record() is None


def test_two_rollouts_of_one_model_are_serialised(tmp_path: Path) -> None:
    make_fleet(tmp_path / "gitops.git", {ONE: state_in("stable", environment=ONE)})
    mine, theirs = (GitOps(tmp_path / "gitops.git", ONE, clone=tmp_path / name) for name in ("mine", "theirs"))

    def start(digest: str) -> Callable[[Snapshot], Decision]:
        return lambda snapshot: propose(snapshot, digest, GOOD, {}, {"id": digest[7:9]}, NOW)

    first = True

    def decide(snapshot: Snapshot) -> Decision:
        nonlocal first
        if first:
            first = False
            theirs.commit(start(B))
        return start(C)(snapshot)

    written = mine.commit(decide)
    assert written
    assert (written.decision.action, written.decision.reasons[0].rule) == ("refuse", "one-rollout")
    assert mine.snapshot().state.candidate == B


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_racing_writers_land_every_promotion_once(remote: Path, tmp_path: Path, form: str, apart: bool) -> None:
    writers = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.support.race_writer", form.format(remote)),
                *(f"model-{k if apart else 0:03d}", str(tmp_path / f"clone-{k}"), f"w{k}", "5"),
            ],
            stdout=subprocess.PIPE,
        )
        for k in range(4)
    ]
    rows = [json.loads(line) for writer in writers for line in writer.communicate()[0].splitlines()]
    assert [writer.returncode for writer in writers] == [0] * 4
    assert all(len(row["ended"]) == 40 for row in rows)
    wanted = {f"canary-w{k}-{number:03d}" for k in range(4) for number in range(5)}
    kept: list[str] = []
    for name in [f"model-{k:03d}" for k in range(4 if apart else 1)]:
        model = GitOps(remote, name)
        decisions = model.decisions()
        kept += [made.id for made in decisions]
        assert all(former.after == latter.before for former, latter in itertools.pairwise(decisions))
        assert verify(model).is_intact
    assert sorted(kept) == sorted(wanted)
    assert {row["ended"] for row in rows} <= set(git(remote, "log", "--format=%H", "main").decode().split())


def test_a_lost_race_costs_few_processes_and_one_reads_for_all_tries(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, real = tmp_path / "calls", shutil.which("git")
    wrapper = tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\necho "$2" >> {calls}\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    one, other = (GitOps(f"file://{remote}", ONE, clone=tmp_path / name) for name in ("one", "other"))
    path, tries = os.environ["PATH"], 0

    def decide(snapshot: Snapshot) -> Decision:
        nonlocal tries
        tries += 1
        if tries == 1:
            monkeypatch.setenv("PATH", path)
            other.commit(lambda there: promotion(there, "first"))
            monkeypatch.setenv("PATH", f"{wrapper.parent}:{path}")
        return promotion(snapshot, "second")

    other.commit(lambda there: promotion(there, "before"))
    one.commit(lambda here: promotion(here, "one's own"))  # what it saw last is its own push, which it did not fetch
    other.commit(lambda there: promotion(there, "since"))
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{path}")
    assert one.commit(decide)
    assert tries == 2
    twice = dict.fromkeys(("fetch", "log", "fast-import", "push"), 2)
    assert Counter(calls.read_text().split()) == {"cat-file": 1, **twice}


def test_a_copy_that_was_replaced_between_two_tries_is_read_anew(remote: Path, tmp_path: Path) -> None:
    one, same = (GitOps(f"file://{remote}", ONE, clone=tmp_path / "clone") for _ in range(2))
    tips: list[str] = []

    def decide(snapshot: Snapshot) -> Decision:
        tips.append(snapshot.commit)
        if len(tips) == 1:
            GitOps(remote, TWO).commit(lambda there: promotion(there, "other"))
            with same.clone.lock():
                same.clone.replace()
            git(same.clone.directory, "repack", "-a", "-d", "--quiet")
        return promotion(snapshot, "mine")

    written = one.commit(decide)
    assert written
    assert len(set(tips)) == 2
    assert git(remote, "rev-parse", "main").decode().strip() == written.commit


def test_a_writer_that_was_killed_in_line_holds_nobody_up(remote: Path, tmp_path: Path) -> None:
    code = "import sys, time; from sluice.git.turn import in_turn\n"
    code += "with in_turn(sys.argv[1]): print('in', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(remote)], stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdout.readline() == b"in\n"
    waiting = subprocess.Popen(
        [sys.executable, "-m", "tests.support.race_writer", str(remote), ONE, str(tmp_path / "c"), "w", "1"]
    )
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(timeout=4)
    assert GitOps(remote, ONE).decisions() == []
    holder.kill()
    holder.wait()
    assert waiting.wait(timeout=25) == 0
    assert [made.id for made in GitOps(remote, ONE).decisions()] == ["canary-w-000"]
    assert list((remote / "sluice-line").iterdir()) == []


def test_a_step_of_the_race_is_a_decision_like_any_other(remote: Path) -> None:
    one, _ = _models(remote)
    made = promotion(one.snapshot(), "x")
    written = one.commit(lambda snapshot: promotion(snapshot, "x"))
    assert written
    assert written.decision == made
