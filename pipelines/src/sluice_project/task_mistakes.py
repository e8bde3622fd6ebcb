"""What is wrong with the task of a project and its table: all of it, before anything is trained."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from sluice.data.ingest import check_columns, check_requests, check_rows, check_slices
from sluice.data.schema import read_schema
from sluice.errors import SluiceError
from sluice.project import PROJECT, Project
from sluice.tasks.table import TableTask
from sluice.tasks.table_fault import TableFault
from sluice.tasks.table_faults import table_faults
from sluice.tasks.table_fields import field_faults
from sluice.tasks.task import Task, TaskDeclaration
from sluice_project.mistake import Mistake, SourceLines, mistake_of, raised_in

_TASK_NAME = "let the task and sluice.yaml have one name"


def loaded(folder: Path, project: Project, mistakes: list[Mistake]) -> Task | TaskDeclaration | None:
    """The task as its module has it, imported anew; what keeps it from that is added to ``mistakes``."""
    module, _, attribute = project.task.partition(":")
    path = module_file(folder, module)
    for name in [name for name in sys.modules if name == module or name.split(".")[0] == module.split(".")[0]]:
        del sys.modules[name]
    importlib.invalidate_caches()
    try:
        value = getattr(importlib.import_module(module), attribute)
    except SluiceError as error:
        mistakes.append(mistake_of(error, path))
        return None
    except AttributeError as error:
        if attribute in str(error):
            fix = f"define {attribute} there, or name another in sluice.yaml"
            mistakes.append(Mistake(path, 1, f"has no {attribute}", fix))
            return None
        mistakes.append(raised_in(error, folder, path, "", "mend the module"))
        return None
    except Exception as error:  # noqa: BLE001  whatever a module of somebody else's raises
        mistakes.append(raised_in(error, folder, path, "", "mend it, so that the module can be imported"))
        return None
    if isinstance(value, Task | TaskDeclaration):
        return value
    mistakes.append(
        Mistake(path, 1, f"{attribute} is a {type(value).__name__}, no task", "let it be a TableTask or a Task")
    )
    return None


def module_file(folder: Path, module: str) -> str:
    """The file of a module, from the project's folder; ``sluice.yaml`` where there is none."""
    path = folder / "src" / Path(*module.split("."))
    for each in (path.with_suffix(".py"), path / "__init__.py"):
        if each.is_file():
            return each.relative_to(folder).as_posix()
    return PROJECT


def task_mistakes(folder: Path, project: Project, value: Task | TaskDeclaration) -> Iterator[Mistake]:
    """Of a task that was loaded."""
    module, _, attribute = project.task.partition(":")
    path = module_file(folder, module)
    lines = SourceLines(folder / path, attribute)
    if isinstance(value, TableTask):
        yield from _of_table(folder, path, lines, value)
    elif isinstance(value, Task):
        yield from _of_task(folder, path, lines, value)
    name = getattr(value, "name", project.name)
    if name != project.name:
        yield Mistake(path, lines.of("name"), f"is called {name!r}, and the project {project.name!r}", _TASK_NAME)


def _of_table(folder: Path, path: str, lines: SourceLines, declared: TableTask) -> Iterator[Mistake]:
    if fields := field_faults(declared):
        yield from (_of_fault(path, lines, fault) for fault in fields)
        return
    try:
        frame = declared.file()
    except SluiceError as error:
        yield mistake_of(error, path, lines.of("table"))
        return
    try:
        raw: Any = declared.prepare(frame) if declared.prepare else frame
    except Exception as error:  # noqa: BLE001  whatever it raises
        handed = f"a table of {frame.height} rows with {_columns(frame)}"
        yield raised_in(error, folder, path, handed, "mend prepare of the task")
        return
    faults = table_faults(declared, raw)
    yield from (_of_fault(path, lines, fault) for fault in faults)
    if not any(fault.fatal for fault in faults):
        yield from _made(folder, path, lines, declared, sound=not faults)


def _of_fault(path: str, lines: SourceLines, fault: TableFault) -> Mistake:
    line = lines.of(fault.field, fault.value, "table")
    return Mistake(path, line, f"{fault.field}: {fault.rule}", fault.fix)


def _made(folder: Path, path: str, lines: SourceLines, declared: TableTask, *, sound: bool) -> Iterator[Mistake]:
    """Of the task that the table makes; what a step would refuse in a ``sound`` one is in no list of faults."""
    try:
        task = declared.task()
        check_slices(task)
    except SluiceError as error:
        yield mistake_of(error, path, lines.of("slices" if error.thing.startswith("slice") else "table"))
        return
    if sound:
        examples = task.read_examples(task.splits.train, task.splits.live).unique()
        for check in (check_rows, check_requests):
            yield from _refused(path, lines.of("table"), partial(check, task, examples))
    yield from schema_mistakes(folder, path, task)


def _of_task(folder: Path, path: str, lines: SourceLines, task: Task) -> Iterator[Mistake]:
    """Of a task that says everything itself."""
    yield from _refused(path, lines.of("slices"), lambda: check_slices(task))
    start, end = task.splits.train, task.splits.live
    try:
        examples: object = task.read_examples(start, end)
    except SluiceError as error:
        yield mistake_of(error, path, lines.of("read_examples"))
        return
    except Exception as error:  # noqa: BLE001  whatever it raises
        yield raised_in(error, folder, path, f"start={start.isoformat()}, end={end.isoformat()}", "mend read_examples")
        return
    if not isinstance(examples, pl.DataFrame):
        rule = f"read_examples gives {type(examples).__qualname__}, no polars.DataFrame"
        yield Mistake(path, lines.of("read_examples"), rule, "let it give one")
        return
    for field, check in (
        ("read_examples", check_columns),
        ("read_examples", check_rows),
        ("request_inputs", check_requests),
    ):
        refusals = list(_refused(path, lines.of(field), partial(check, task, examples)))
        yield from refusals
        if refusals and check is check_columns:
            return
    yield from schema_mistakes(folder, path, task)


def _refused(path: str, line: int, check: Any) -> Iterator[Mistake]:
    try:
        check()
    except SluiceError as error:
        yield mistake_of(error, path, line)


def schema_mistakes(folder: Path, path: str, task: Task) -> Iterator[Mistake]:
    """The committed schema has the columns of the task's rows."""
    file = task.schema_file
    relative = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)
    fix = "run `sluice check --write-schema`, read it, commit it"
    if not file.is_file():
        yield Mistake(path, 1, f"its rows have no schema ({relative})", fix)
        return
    try:
        schema = read_schema(file)
    except SluiceError as error:
        yield mistake_of(error, relative)
        return
    names = {*task.example_columns, *task.carried, "split"}
    described = {name if name in names else name.partition(".")[0] for name in schema.features}
    if others := sorted(names ^ described):
        rule = f"{'knows' if others[0] in described else 'lacks'} column {others[0]!r}, unlike the task's rows"
        yield Mistake(relative, 1, rule, fix)


def _columns(frame: pl.DataFrame) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in list(frame.schema.items())[:12])
