"""A story that ends otherwise than it tells makes its run an error: which chapter, how it ended, and what was told."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from sluice.documents.verdict import Decision, Reason, Verdict
from sluice.workspace import Workspace
from sluice_local.ending import ENTERED, PROMOTED, Ending, ToldOtherwise, require_as_told
from sluice_local.play import told_otherwise
from sluice_local.story import Chapter, Story, ending_file, known_stories, load_story

SLICE = "deterioration log_loss vs production[carrier=FL]"
REFUSED = Ending("refuse", "offline", (SLICE,))
STORY = Story(
    task="flights",
    environment="dev",
    chapters=(
        Chapter(1, "first", "A first model", ends=ENTERED),
        Chapter(2, "better", "A better one", ends=PROMOTED),
        Chapter(3, "slice", "Worse in a slice", ends=REFUSED),
        Chapter(4, "whatever", "Nobody tells how it ends"),
    ),
)


def _ended(workspace: Workspace, *endings: Ending | None) -> None:
    for chapter, ending in zip(STORY.chapters, endings, strict=True):
        file = ending_file(workspace, chapter)
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(dataclasses.asdict(ending) if ending else {"action": "confirm"}))


def test_a_story_that_ends_as_told_says_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    more = dataclasses.replace(REFUSED, rules=("guardrail auc vs production", SLICE))
    _ended(workspace, ENTERED, PROMOTED, more, Ending("time-out", "canary"))
    assert told_otherwise(workspace, STORY) == []
    require_as_told([])


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (PROMOTED, "ended with confirm at the confirm gate"),
        (Ending("refuse", "offline", ("limit ece",)), "ended with refuse at the offline gate by limit ece"),
        (Ending("rollback", "shadow", (SLICE,)), f"ended with rollback at the shadow gate by {SLICE}"),
        (None, "ended with what an earlier version did not keep"),
    ],
)
def test_another_action_gate_or_rule_is_not_as_told(tmp_path: Path, ending: Ending | None, said: str) -> None:
    workspace = Workspace(tmp_path)
    _ended(workspace, ENTERED, PROMOTED, ending, PROMOTED)
    (line,) = told_otherwise(workspace, STORY)
    assert line == f"chapter 3, slice, {said}; told is refuse at the offline gate by {SLICE}"
    with pytest.raises(ToldOtherwise, match="chapter 3, slice, ended with") as raised:
        require_as_told([line])
    assert raised.value.exit_code == 1


def test_the_first_of_several_is_named_and_the_others_are_counted() -> None:
    with pytest.raises(ToldOtherwise, match="chapter 1; 2 more are above"):
        require_as_told(["chapter 1", "chapter 2", "chapter 3"])


def test_a_story_that_tells_of_a_kill_is_not_as_told_without_one(tmp_path: Path) -> None:
    workspace, chapters = Workspace(tmp_path), list(STORY.chapters)
    _ended(workspace, ENTERED, PROMOTED, REFUSED, PROMOTED)
    chapters[1] = dataclasses.replace(chapters[1], interrupt=True)
    (line,) = told_otherwise(workspace, dataclasses.replace(STORY, chapters=tuple(chapters)))
    assert line == "nothing was killed; told is a kill in the middle of a canary"


def test_an_ending_is_the_last_decision_with_the_rules_that_gave_its_verdict() -> None:
    reasons = tuple(
        Reason(rule=rule, verdict=verdict, observed=None, bound=None, n=0, text="")
        for rule, verdict in (("split", Verdict.PASS), ("parity", Verdict.FAIL), ("latency", Verdict.INCONCLUSIVE))
    )
    decision = Decision(
        id="shadow-0",
        task="flights",
        environment="dev",
        stage="shadow",
        action="rollback",
        verdict=Verdict.FAIL,
        candidate=None,
        stable=None,
        reasons=reasons,
        now="2020-01-01T00:00:00Z",
        evidence_digest="",
        policy_digest="",
    )
    assert Ending.of(decision) == Ending("rollback", "shadow", ("parity",))
    passed = decision.model_copy(update={"verdict": Verdict.PASS, "action": "confirm", "stage": "confirm"})
    assert Ending.of(passed) == PROMOTED


@pytest.mark.parametrize("name", sorted(known_stories()))
def test_every_chapter_of_the_shipped_stories_tells_its_ending(name: str) -> None:
    endings = [chapter.ends for chapter in load_story(name).chapters if chapter.ends]
    assert len(endings) == len(load_story(name).chapters)
    assert all(ending.rules for ending in endings if ending.action != "confirm")
