"""Stories of projects: what ``sluice run`` plays where nobody wrote one."""

from __future__ import annotations

from pathlib import Path

from sluice.project import read_project
from sluice.tasks.task import load_task
from sluice_local.story import Chapter, Story


def first_story(folder: Path) -> Story:
    """
    The recipe of a project's task, on its way into an empty first environment.

    Raises:
        BadInput: there is no project in the folder, or its task cannot be made.
    """
    project = read_project(folder)
    recipe = load_task(project.task).recipe
    return Story(
        task=project.task,
        environment=project.folders[0],
        chapters=(Chapter(1, "first", "A first model enters an empty production", recipe),),
        feature_repo=str(folder / (project.feature_repo or "no-feature-definitions")),
        checkout=str(folder / project.deploy),
    )
