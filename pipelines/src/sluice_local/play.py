"""`sluice run` from start to end: lock, loop, six lines, report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from sluice.gitops.writer import GitOps
from sluice.tasks.task import load_task
from sluice.workspace import Workspace
from sluice_local.continuity import Continuity, continuity
from sluice_local.ending import Ending, require_as_told
from sluice_local.home import end_leftovers, forget_home, held_lock, prepare_home
from sluice_local.report import build_report
from sluice_local.screen import Screen
from sluice_local.story import Story, ending_file, load_story, remember_story
from sluice_local.supervisor import INTERRUPTED, supervise

_BADGE = {"PASS": "[green]PASS        [/]", "FAIL": "[red]FAIL        [/]"}


def play(workspace: Workspace, story_name: str, fresh: bool) -> None:
    """
    Play a story in a workspace, or go on with it, and show how it ended.

    Raises:
        Busy: another run holds the workspace.
        ToldOtherwise: it ended otherwise than it tells; all is shown before.
        SluiceError: whatever stopped the loop.
    """
    story = load_story(story_name)
    console = Console(soft_wrap=True)
    prepare_home(workspace.home)
    with held_lock(workspace):
        if fresh:
            end_leftovers(workspace)
            forget_home(workspace.home)
            prepare_home(workspace.home)
        remember_story(workspace, story_name)
        if not all(ending_file(workspace, chapter).exists() for chapter in story.chapters):
            with Screen(console) as screen:
                supervise(workspace, story_name, screen)
        page = write_report(workspace, story_name)
    console.print()
    for line in summary(workspace, story):
        console.print(line, highlight=False)
    console.print(f"\nReport: file://{page}", highlight=False)
    console.print(f"Ask on: sluice status · sluice why DIGEST · git --git-dir {workspace.gitops} log", highlight=False)
    if story.more:
        console.print(story.more, highlight=False)
    contradictions = told_otherwise(workspace, story)
    for line in contradictions:
        console.print(f"[red]otherwise than told:[/] {escape(line)}", highlight=False)
    require_as_told(contradictions)


def write_report(workspace: Workspace, story_name: str) -> Path:
    """Write the HTML report of what a workspace holds; returns its path."""
    story = load_story(story_name)
    task = load_task(story.task)
    return build_report(workspace, GitOps(workspace.gitops, story.environment).decisions(), task.title, task.question)


def summary(workspace: Workspace, story: Story) -> list[str]:
    """One line a chapter, and one for the interruption."""
    lines = [_line(json.loads(ending_file(workspace, chapter).read_bytes())) for chapter in story.chapters]
    interrupted = workspace.home / INTERRUPTED
    if interrupted.exists():
        figures = _continuity(workspace, story)
        lines.append(_interruption(len(lines) + 1, json.loads(interrupted.read_bytes()), figures))
    return lines


def told_otherwise(workspace: Workspace, story: Story) -> list[str]:
    """In what a story that was played ended otherwise than it tells, a sentence each."""
    found = []
    for chapter in story.chapters:
        ended, name = _ended(ending_file(workspace, chapter)), f"chapter {chapter.number}, {chapter.slug},"
        if chapter.ends and not (ended and ended.is_as_told(chapter.ends)):
            found.append(f"{name} ended with {ended or 'what an earlier version did not keep'}; told is {chapter.ends}")
    if any(chapter.interrupt for chapter in story.chapters):
        if not (workspace.home / INTERRUPTED).exists():
            found.append("nothing was killed; told is a kill in the middle of a canary")
        elif not (figures := _continuity(workspace, story)).whole:
            twice = f"{figures.answers_twice} answers and {figures.decisions_twice} decisions twice"
            found.append(f"after the kill there are {figures.gaps} gaps, {twice}; told is none")
    return found


def _ended(file: Path) -> Ending | None:
    record = json.loads(file.read_bytes())
    return Ending(record["action"], record["stage"], tuple(record["rules"])) if "stage" in record else None


def _continuity(workspace: Workspace, story: Story) -> Continuity:
    return continuity(workspace, story.environment, GitOps(workspace.gitops, story.environment).decisions())


def _line(ending: dict[str, Any]) -> str:
    badge = _BADGE.get(ending["verdict"], "[yellow]INCONCLUSIVE[/]")
    return f"{ending['number']}. {badge} {escape(ending['title'])}. {escape(ending['outcome'])}"


def _interruption(number: int, moment: dict[str, Any], figures: Continuity) -> str:
    badge = _BADGE["PASS" if figures.whole else "FAIL"]
    return (
        f"{number}. {badge} Killed with SIGKILL in the canary at {moment['weight']} %, {moment['done']} requests into"
        f" the window of {moment['window'][0][:10]}; went on from Git: {figures.answers:,} answers logged,"
        f" {figures.answers_twice} twice, {figures.gaps} gaps; {figures.decisions} decisions, {figures.decisions_twice}"
        " twice."
    )
