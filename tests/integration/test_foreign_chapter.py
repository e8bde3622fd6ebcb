"""A chapter whose model is trained elsewhere: imported, judged as any other, and said in one line where it fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sluice.gitops.writer import GitOps
from sluice.workspace import Workspace
from tests.support.tiny_run import Ended, sluice, worker_log

STORY, OTHERWISE, BROKEN = (f"tests.support.foreign_story:{name}" for name in ("STORY", "OTHERWISE", "BROKEN"))


@pytest.fixture
def home(ended: Ended, tmp_path: Path) -> Path:
    """The home of the finished tiny story, to be gone on with."""
    return Path(shutil.copytree(ended.home, tmp_path / "home"))


def test_a_model_from_elsewhere_is_judged_by_the_same_gate(home: Path) -> None:
    before = len(GitOps(Workspace(home).gitops, "dev").decisions())
    done = sluice(home, "run", "--story", STORY)
    assert done.returncode == 0, done.stdout + done.stderr + worker_log(home)
    made = GitOps(Workspace(home).gitops, "dev").decisions()[before:]
    assert [(one.stage, one.action, one.run["name"]) for one in made] == [("offline", "refuse", "weak-trees")]
    evaluation = json.loads((home / "runs/04-weak/imported/evaluation.json").read_bytes())
    assert evaluation["production"]["digest"] == made[0].stable
    assert made[0].evidence == {key: value for key, value in evaluation.items() if key != "curves"}
    ending = json.loads((home / "runs/04-weak/chapter.json").read_bytes())
    assert ending["candidate"] == made[0].candidate
    assert ending["outcome"].startswith("Refused")
    assert "at the offline gate" in ending["outcome"]
    assert "A weak model from elsewhere" in (home / "reports/report.html").read_text("utf-8")
    again = sluice(home, "run", "--story", OTHERWISE)
    assert again.returncode == 1
    assert again.stdout.count("otherwise than told: ") == 1
    (line,) = again.stderr.splitlines()
    said = "sluice: the story: chapter 4, weak, ended with refuse at the offline gate by "
    assert line.startswith(said)
    assert "; told is confirm at the confirm gate; " in line
    assert len(GitOps(Workspace(home).gitops, "dev").decisions()) == before + 1


def test_a_training_elsewhere_that_fails_is_named_and_leaves_nothing(home: Path) -> None:
    done = sluice(home, "run", "--story", BROKEN)
    assert done.returncode == 2, done.stdout
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("sluice: ")]
    assert line.startswith("sluice: program tests.support.no_such_program: ended with 1: ")
    assert "No module named tests.support.no_such_program" in line
    assert not (home / "runs/04-lost/elsewhere").exists()
