"""Small parts of the local loop: finding stories, and what the screen shows."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sluice.errors import BadInput
from sluice_local.flights_story import STORY
from sluice_local.screen import Screen, parse
from sluice_local.story import Chapter, known_stories, load_story


@pytest.mark.parametrize("name", ["nonsense", "", ":", ".x:y", "json:dumps", "json:nothing", "sluice_local.story"])
def test_what_is_no_story_is_refused_by_name(name: str) -> None:
    with pytest.raises(BadInput, match=f"story '{name}'"):
        load_story(name)


def test_a_module_that_is_not_python_is_no_story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_story.py").write_text("STORY = (")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match="cannot be loaded"):
        load_story("broken_story:STORY")


@pytest.mark.parametrize("name", sorted(known_stories()))
def test_the_shipped_stories_are_whole(name: str) -> None:
    story = load_story(name)
    assert [chapter.number for chapter in story.chapters] == list(range(1, len(story.chapters) + 1))
    slugs = [chapter.slug for chapter in story.chapters]
    assert len(set(slugs)) == len(slugs) > 1
    for chapter in story.chapters:
        assert [chapter.recipe, chapter.again, chapter.foreign].count(None) == 2
        frame = chapter.foreign and chapter.foreign.frame
        assert {chapter.again, frame} - {None} <= set(slugs[: chapter.number - 1])


def test_stories_are_known_by_name_too() -> None:
    assert {"flights", "imported"} <= known_stories().keys()
    assert load_story("flights") == load_story("sluice_local.flights_story:STORY") == STORY
    with pytest.raises(BadInput, match=r"story 'flight': is not known; choose from .*flights, .* or name it"):
        load_story("flight")
    assert Chapter(7, "late", "title").folder == "07-late"


def _shown(*events: dict[str, Any]) -> str:
    stream = io.StringIO()
    with Screen(Console(file=stream, width=200)) as screen:
        for event in events:
            screen.show(parse(json.dumps(event).encode()))
        screen.log("\x1b[96mExecuting task 'train'\x1b[0m")
        screen.log("Task 'ingest' cache hit")
    return stream.getvalue()


def test_the_screen_shows_chapters_looks_and_outcomes_as_they_are_worded() -> None:
    look = {"kind": "look", "now": "2020-01-02T00:00:00Z", "stage": "shadow", "weight": 0, "verdict": "FAIL"}
    shown = _shown(
        {"kind": "chapter", "number": 1, "of": 2, "title": "A [first] model"},
        {"kind": "step", "name": "start serving"},
        {**look, "action": "rollback", "why": "skew[temp]: [/oh]"},
        {"kind": "outcome", "text": "Refused at log_loss[region=north]"},
        {"kind": "nobody knows this one"},
    )
    parts = ("1. A [first] model", "start serving", "skew[temp]: [/oh]", "log_loss[region=north]", "train", "cache")
    assert [part for part in parts if part not in shown] == []
