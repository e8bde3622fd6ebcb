"""What `sluice run` plays: candidates that arrive one after the other at one environment."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from sluice.content import write_bytes
from sluice.errors import BadInput
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import named_object
from sluice.workspace import Workspace
from sluice_local.ending import Ending


@dataclass(frozen=True)
class ForeignTraining:
    """
    A training that the platform knows nothing of, in a process of its own.

    Attributes:
        program: module that gets two folders as arguments, features (``frame.parquet``) and an empty one,
            and writes ``model.<ending>`` and ``spec.yaml`` there.
        frame: slug of the chapter whose features it gets.
    """

    program: str
    frame: str


@dataclass(frozen=True)
class Chapter:
    """
    One candidate and what is done to it.

    Attributes:
        number: place in the story, from 1.
        slug: name of its folder and run.
        title: one line for people.
        recipe: what to train; without, one of the next two says what is proposed.
        again: slug of the chapter whose candidate is proposed again.
        foreign: a model that is trained elsewhere and imported.
        interrupt: kill the loop in the middle of this chapter's canary, once.
        ends: how it ends; one that ends otherwise makes the run end with an error. Without, any ending will do.
    """

    number: int
    slug: str
    title: str
    recipe: Recipe | None = None
    again: str | None = None
    foreign: ForeignTraining | None = None
    interrupt: bool = False
    ends: Ending | None = None

    @property
    def folder(self) -> str:
        """Name of the chapter's folder below ``runs/``."""
        return f"{self.number:02d}-{self.slug}"


@dataclass(frozen=True)
class Story:
    """
    Chapters for one task and environment; ``feature_repo`` and ``checkout`` (manifests) default to ours. ``more`` is a
    line at the end.
    """

    task: str
    environment: str
    chapters: tuple[Chapter, ...]
    feature_repo: str | None = None
    checkout: str | None = None
    more: str = ""


def ending_file(workspace: Workspace, chapter: Chapter) -> Path:
    """What says how a chapter ended; it is there when the chapter has."""
    return workspace.home / "runs" / chapter.folder / "chapter.json"


def last_story(workspace: Workspace) -> str | None:
    """The name of the story that was last played in a workspace; None where that is not known."""
    try:
        return _last(workspace).read_text("utf-8").strip() or None
    except (OSError, ValueError):
        return None


def remember_story(workspace: Workspace, name: str) -> None:
    """Let ``name`` be the one that was last played here."""
    write_bytes(_last(workspace), f"{name}\n".encode())


def _last(workspace: Workspace) -> Path:
    return workspace.home / "story"


def known_stories() -> dict[str, str]:
    """Names that distributions give to their stories (entry points ``sluice.stories``), and where each is."""
    return {entry.name: entry.value for entry in sorted(entry_points(group="sluice.stories"), key=lambda one: one.name)}


def load_story(name: str) -> Story:
    """
    The story that a distribution calls so, or at ``module:ATTRIBUTE``.

    Raises:
        BadInput: there is none.
    """
    known = known_stories()
    if ":" not in name and name not in known:
        fix = f"choose from {', '.join(known) or 'none'}, or name it as module:ATTRIBUTE"
        raise BadInput(f"story {name!r:.200}", "is not known", fix)
    story = named_object(f"story {name!r}", known.get(name, name), "name it as module:ATTRIBUTE")
    if not isinstance(story, Story):
        raise BadInput(f"story {name!r}", f"is a {type(story).__name__}", "define it as a sluice_local.story.Story")
    return story
