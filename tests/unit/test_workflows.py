"""What continuous integration runs is what a person runs. Read, not run: jobs want Docker, kind and the network."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster.pages import script

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))
(TESTS,) = (yaml.safe_load(path.read_text()) for path in WORKFLOWS if path.stem == "tests")
PAGE_CALL = re.compile(r"tests\.support\.cluster\.pages (\S+)((?:\s+(?:\\\n\s*)?\"[^\"]+\")+)")


def runs(job: dict[str, Any]) -> list[str]:
    """The scripts of a job's steps."""
    return [step["run"] for step in job["steps"] if "run" in step]


def test_checks_tests_the_quickstart_and_the_cluster_are_run() -> None:
    assert set(TESTS["jobs"]) == {"check", "test", "quickstart", "cluster"}
    commands = {name: "\n".join(runs(job)) for name, job in TESTS["jobs"].items()}
    assert "make check" in commands["check"]
    assert "make test" in commands["test"].splitlines()
    assert "make test-cluster" in commands["cluster"]
    assert {"pull_request", "push"} <= set(TESTS[True]), "YAML reads the key `on` as true"


def test_make_knows_every_target() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = {target for path in WORKFLOWS for target in re.findall(r"\bmake ([a-z-]+)", path.read_text())}
    assert {"check", "test", "test-cluster", "compile"} <= called <= targets


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_nothing_may_more_than_it_needs(workflow: Path) -> None:
    document = yaml.safe_load(workflow.read_text())
    used = re.findall(r"uses: (.*)$", workflow.read_text(), re.MULTILINE)
    assert [each for each in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)] == []
    assert used
    assert "permissions" in document
    for job in document["jobs"].values():
        assert job["timeout-minutes"] <= 120
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_scripts_parse(workflow: Path, tmp_path: Path) -> None:
    scripts = [text for job in yaml.safe_load(workflow.read_text())["jobs"].values() for text in runs(job)]
    assert scripts
    for number, text in enumerate(scripts):
        plain = re.sub(r"\$\{\{.*?\}\}", "x", text)
        (tmp_path / f"{number}.sh").write_text(plain)
        done = subprocess.run(["bash", "-n", tmp_path / f"{number}.sh"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), text


def test_the_quickstart_is_typed_as_the_page_has_it(tmp_path: Path) -> None:
    scripts = [text for job in ("quickstart", "cluster") for text in runs(TESTS["jobs"][job])]
    calls = [call for text in scripts for call in PAGE_CALL.findall(text)]
    assert [page for page, _ in calls] == ["quickstart.md", "quickstart.md"]
    whole, install = (script(page, re.findall(r'"([^"]+)"', sections)) for page, sections in calls)
    assert install in whole
    order = ["kind create", "docker build", "kind load", "-k manifests/quickstart\n", "curl -sSf", "quickstart/canary"]
    assert sorted(order, key=whole.index) == order
    assert re.findall(r"port-forward.* &$", whole, re.MULTILINE), "it would never end"
    (tmp_path / "typed").write_text(whole)
    assert subprocess.run(["bash", "-n", tmp_path / "typed"], check=False).returncode == 0


def test_a_section_that_is_not_there_is_told() -> None:
    with pytest.raises(SystemExit, match="no commands in section 'Nowhere'"):
        script("quickstart.md", ["Nowhere"])


@pytest.mark.skipif(
    shutil.which("actionlint") is None, reason="NOT CHECKED: no actionlint; the workflows were parsed only"
)
@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actionlint_has_nothing_to_say(workflow: Path) -> None:
    done = subprocess.run(["actionlint", workflow], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
