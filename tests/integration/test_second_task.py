"""Another task goes the same way to a confirmed release, and nothing in the code knows what its rows mean."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from sluice.gitops.writer import GitOps
from tests.support.tiny_run import ROOT, Ended, sluice

_WORDS = re.compile(r"flight|carrier|tailnum|airport|airline", re.IGNORECASE)


def _sources() -> list[Path]:
    folders = [ROOT / "components" / "src" / "sluice", ROOT / "serving" / "src", ROOT / "pipelines" / "src"]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in {".py", ".json", ".j2"}]
    return [*files, *ROOT.glob("components/src/sluice_steps/*.py")]


def _may_know(path: Path) -> bool:
    """The reference task itself, its stories, and the one line that makes it the default of ``sluice run``."""
    own = path.parent.name == "tasks" and path.name.startswith("flights")
    return own or path.name in {"flights_story.py", "flights_quickstart.py"}


def test_no_source_but_the_task_itself_knows_its_subject() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in _sources()
        if not _may_know(path)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if _WORDS.search(line) and not line.startswith("DEFAULT_STORY")
    ]
    assert len(_sources()) > 100
    assert found == []


def test_the_second_task_is_promoted_and_confirmed(ended: Ended) -> None:
    decisions = GitOps(ended.workspace.gitops, "dev").decisions()
    told = [(made.stage, made.action, made.verdict.value) for made in decisions]
    assert told == [
        ("offline", "bootstrap", "PASS"),
        ("bootstrap", "confirm", "PASS"),
        ("drain", "remove-server", "PASS"),
        ("offline", "start-shadow", "PASS"),
        ("shadow", "set-weight", "PASS"),
        ("canary", "promote", "PASS"),
        ("confirm", "confirm", "PASS"),
        ("drain", "remove-server", "PASS"),
        ("propose", "refuse", "FAIL"),
    ]
    assert {made.task for made in decisions} == {"tiny"}
    looks = [json.loads(line) for line in (ended.home / "runs" / "02-challenger" / "looks.jsonl").open("rb")]
    assert "wait" in {look["action"] for look in looks}
    assert (ended.home / "reports").is_dir()
    assert ended.output.count("PASS") >= 2
    print(f"\nthe tiny story took {ended.seconds:.0f} s")  # noqa: T201  a figure that people want to see


def test_status_names_what_is_served(ended: Ended) -> None:
    done = sluice(ended.home, "status", "--json")
    status = json.loads(done.stdout)
    ending = json.loads((ended.home / "runs" / "02-challenger" / "chapter.json").read_bytes())
    assert (status["task"], status["stage"], status["candidate"], status["held"]) == ("tiny", "stable", None, [])
    assert status["stable"] == ending["candidate"]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", status["stable"])
    assert set(status["decisions"]) == {"offline", "bootstrap", "shadow", "canary", "confirm", "drain", "propose"}


@pytest.mark.parametrize("as_json", [False, True])
def test_why_tells_the_whole_story_at_once(ended: Ended, as_json: bool) -> None:
    stable = json.loads(sluice(ended.home, "status", "--json").stdout)["stable"]
    began = time.monotonic()
    done = sluice(ended.home, "why", stable[:19], *(["--json"] if as_json else []))
    seconds = time.monotonic() - began
    assert done.returncode == 0
    assert stable in done.stdout
    assert all(action in done.stdout for action in ("start-shadow", "set-weight", "promote", "confirm"))
    print(f"\nsluice why took {seconds:.2f} s")  # noqa: T201
    assert seconds < 3


def test_why_of_a_decision_and_of_nothing(ended: Ended) -> None:
    stable_by = json.loads(sluice(ended.home, "status", "--json").stdout)["decisions"]["confirm"]["id"]
    assert stable_by in sluice(ended.home, "why", stable_by).stdout
    done = sluice(ended.home, "why", "sha256:ffffffff")
    assert done.returncode == 2
    assert re.fullmatch(r"sluice: .*ffffffff.*\n", done.stderr)
