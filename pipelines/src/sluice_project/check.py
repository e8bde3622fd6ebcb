"""``sluice check``: everything that is wrong with a project, at once, before anything is trained."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sluice.data.ingest import ingest
from sluice.data.schema import infer_schema, write_schema
from sluice.data.span import read_span
from sluice.errors import SluiceError
from sluice.project import PROJECT, Project, read_project
from sluice.targets.metric import MetricList
from sluice.targets.registry import metric_list
from sluice.tasks.table import TableTask
from sluice.tasks.task import Task, TaskDeclaration, load_task
from sluice_project.deploy_mistakes import deploy_mistakes
from sluice_project.mistake import Mistake, mistake_of
from sluice_project.source_mistakes import source_mistakes, story_mistakes, view_mistakes
from sluice_project.task_mistakes import loaded, task_mistakes


def check_project(folder: Path) -> list[Mistake]:
    """Everything that is wrong, in the order of files and lines; ``src`` of the folder is on the module path."""
    folder = folder.absolute()
    try:
        project = read_project(folder)
    except SluiceError as error:
        return [mistake_of(error, PROJECT)]
    mistakes = [*source_mistakes(folder, project), *story_mistakes(folder, project)]
    task = loaded(folder, project, mistakes)
    if task is not None:
        mistakes += task_mistakes(folder, project, task)
        mistakes += view_mistakes(folder, project, task)
    mistakes += deploy_mistakes(folder, project, _metrics(task))
    distinct = {(each.path, each.line, each.rule): each for each in mistakes}
    return [distinct[key] for key in sorted(distinct)]


def _metrics(task: Task | TaskDeclaration | None) -> MetricList | None:
    if isinstance(task, TableTask):
        return metric_list(task.target)
    return task.yardstick.metrics if isinstance(task, Task) else None


def write_project_schema(project: Project) -> Path:
    """
    Infer the schema of a task's rows and write it where the task wants it; returns the path.

    Raises:
        BadInput: the task cannot be made, or its rows cannot be read.
    """
    task = load_task(project.task)
    with tempfile.TemporaryDirectory() as scratch:
        ingest(task, Path(scratch))
        write_schema(infer_schema(read_span(Path(scratch)), task.target), task.schema_file)
    return task.schema_file
