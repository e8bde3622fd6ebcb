"""The fault suite's own parts, and a few of its quickest trials; `make reliability` makes them all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import sluice
from sluice.git.command import GitFailed, git
from tests.faults import crashes, report, wrapped_git
from tests.faults.history import lost_or_doubled, reference
from tests.faults.mutations import MUTATIONS, mutated
from tests.faults.registry import Row, Trial, all_rows, tally_of

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
QUICK = (
    ("metrics: evidence source down", ("shadow", 0, "document")),
    ("metrics: NaN", ("canary 20 %", 1, "built")),
    ("metrics: traffic stops", ("confirm", 1, "log")),
    ("metrics: too few requests", ("bootstrap", 1, "log")),
    ("metrics: nearly all requests are refused", ("canary 20 %", 1, "prometheus")),
    ("metrics: the candidate refuses what stable answers", ("shadow", 1, "log")),
    ("metrics: two series", ("canary 50 %", 1, "prometheus")),
    ("metrics: source slow", ("shadow", 1, "prometheus")),
    ("metrics: an outage of what both sides share", ("canary 50 %", 1, "log")),
    ("metrics: an outage of what both sides share", ("shadow", 1, "prometheus")),
    ("decisions: forbidden proposals", ("a held digest", 0)),
    ("SIGKILL: writing the commit", ("writing the commit", 0)),
    ("SIGKILL: between git's commands", ("between git's commands", 1)),
    ("git: another writes while one decides", ("a hold of the same", 2)),
    ("git: acknowledgement lost", (2,)),
    ("upgrade: a rollout begun by an older version", ("before-the-chain", "promoted")),
    ("downgrade: files of a newer version", ("a rule of the policy",)),
)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all trials, so that they share the undisturbed history."""
    return tmp_path_factory.mktemp("faults")


@pytest.mark.parametrize(("name", "arguments"), QUICK, ids=[f"{name} {arguments}" for name, arguments in QUICK])
def test_a_fault_is_survived(work: Path, name: str, arguments: tuple[Any, ...]) -> None:
    row = all_rows()[name]
    assert arguments in row.cases(True)
    directory = work / re.sub(r"\W+", "-", f"{name} {arguments}")
    directory.mkdir()
    trial = row.run(directory, arguments)
    assert tally_of([trial]).is_green, trial.said


def test_the_page_has_the_rows_and_guards_of_today() -> None:
    page = PAGE.read_text()
    cells = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    firsts = [row[0] for row in cells if row[0] not in (report.HEADINGS[0], "guard taken out") and "---" not in row[0]]
    assert firsts == [*all_rows(), *(mutation.guard for mutation in MUTATIONS)]
    assert "**none**" not in page


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.guard for mutation in MUTATIONS])
def test_every_guard_is_where_the_mutation_looks_for_it(mutation: Any) -> None:
    source = (Path(sluice.__path__[0]) / mutation.file).read_text()
    assert mutated(source, mutation) != source
    assert set(mutation.rows) <= set(all_rows())


def test_a_guard_that_is_not_there_is_loud() -> None:
    with pytest.raises(ValueError, match="is there 0 times"):
        mutated("def f() -> int:\n    return 1\n", MUTATIONS[0])


def test_void_wrong_and_lost_trials_are_red() -> None:
    good = Trial(fired=True, survived=True)
    assert tally_of([good, good]).is_green
    assert not tally_of([]).is_green
    for bad in (
        good._replace(fired=False),
        good._replace(survived=False),
        good._replace(wrong=1),
        good._replace(lost=1),
    ):
        assert not tally_of([good, bad]).is_green


def test_an_unforeseen_exception_is_no_survival(tmp_path: Path) -> None:
    def trial(_: Path) -> Trial:
        raise RuntimeError("boom")

    found = Row("r", "g", "h", lambda _: [()], trial).run(tmp_path, ())
    assert not found.survived
    assert "boom" in found.said


def test_lost_and_doubled_decisions_are_counted() -> None:
    assert lost_or_doubled(["a", "b"], ["a", "b"]) == 0
    assert lost_or_doubled(["a"], ["a", "b"]) == 1
    assert lost_or_doubled(["a", "b", "b"], ["a", "b"]) == 1
    assert lost_or_doubled(["a", "c"], ["a", "b"]) == 2


def test_more_than_forty_points_are_labelled(work: Path) -> None:
    reference(work / "any")
    first = {crashes.chosen(work / "any", "writing the commit", index).label for index in range(16)}
    assert len(first) == 16
    assert any("git push" in crashes.chosen(work / "any", "between git's commands", index).label for index in range(60))


def test_a_wrapped_git_fails_as_often_as_it_was_told(tmp_path: Path) -> None:
    git(tmp_path / "r.git", "init", "--quiet", "--bare")
    with wrapped_git.failing(tmp_path / "bin", "rev-parse", 2, "gone") as script:
        for _ in range(2):
            with pytest.raises(GitFailed, match="gone"):
                git(tmp_path / "r.git", "rev-parse", "--git-dir")
        git(tmp_path / "r.git", "rev-parse", "--git-dir")
    assert script.fired == 2
