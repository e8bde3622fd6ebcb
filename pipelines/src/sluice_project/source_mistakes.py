"""What is wrong with the Python files of a project: what they import, the story, the views that they define."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement

from sluice.project import PROJECT, Project
from sluice.strict_yaml import line_of
from sluice.tasks.table import TableTask
from sluice.tasks.table_fields import field_faults
from sluice.tasks.table_history import view_of
from sluice_project.mistake import Mistake, SourceLines
from sluice_project.task_mistakes import module_file

_PLATFORM = ("sluice", "sluice-serving", "sluice-pipelines")


def source_mistakes(folder: Path, project: Project) -> Iterator[Mistake]:
    """Imports that find nothing, and those of packages that an image of the project does not have."""
    brought = _brought(folder)
    repo = [folder / project.feature_repo] if project.feature_repo else []
    for root in (folder / "src", *repo):
        for path in sorted(root.rglob("*.py")):
            relative = path.relative_to(folder).as_posix()
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError) as error:
                line = getattr(error, "lineno", None) or 1
                yield Mistake(relative, line, f"is no Python ({getattr(error, 'msg', error)})", "mend the line")
                continue
            beside = {other.stem for other in path.parent.glob("*.py")} if root != folder / "src" else set()
            yield from _imports(folder, relative, tree, brought, beside)


def _imports(
    folder: Path, relative: str, tree: ast.Module, brought: Mapping[str, bool], beside: set[str]
) -> Iterator[Mistake]:
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            modules = [node.module]
        for module in modules:
            top = module.partition(".")[0]
            if top in sys.stdlib_module_names or top in beside:
                continue
            line = node.lineno if isinstance(node, ast.stmt) else 1
            if not _is_there(folder, module):
                rule = f"imports {module!r}, which is not installed"
                yield Mistake(relative, line, rule, "add its package to pyproject.toml, or mend the name")
            elif not (folder / "src" / top).exists() and not brought.get(top, True):
                rule = f"imports {module!r}, which an image of this project does not have"
                yield Mistake(relative, line, rule, "add its package to dependencies in pyproject.toml")


def _is_there(folder: Path, module: str) -> bool:
    path = folder / "src" / Path(*module.split("."))
    top = folder / "src" / module.partition(".")[0]
    if top.exists() or top.with_suffix(".py").exists():
        return path.exists() or path.with_suffix(".py").exists()
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _brought(folder: Path) -> dict[str, bool]:
    """Of each module that is installed whether an image of the project has it."""
    names = _distributions(folder)
    return {top: any(_plain(name) in names for name in places) for top, places in packages_distributions().items()}


def _distributions(folder: Path) -> frozenset[str]:
    """Distributions that the project's are made of, and all that these need."""
    try:
        document = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
        own = [Requirement(each) for each in document["project"]["dependencies"]]
    except (OSError, ValueError, KeyError, TypeError):
        own = []
    waiting, visited = [*map(Requirement, _PLATFORM), *own], set[tuple[str, frozenset[str]]]()
    while waiting:
        requirement = waiting.pop()
        name, extras = _plain(requirement.name), frozenset(requirement.extras)
        if (name, extras) not in visited:
            visited.add((name, extras))
            waiting += _needed(name, extras)
    return frozenset(name for name, _ in visited)


def _needed(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """What a distribution asks for here; nothing of one that is not installed."""
    try:
        texts = requires(name) or []
    except PackageNotFoundError:
        return
    for each in map(Requirement, texts):
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield each


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def story_mistakes(folder: Path, project: Project) -> Iterator[Mistake]:
    """What ``sluice run`` would play is there; it is not run."""
    module, _, attribute = project.story.partition(":")
    path = module_file(folder, module)
    if path == PROJECT:
        if not (folder / "src" / module.partition(".")[0]).exists():
            return  # a story of another package
        rule = f"story: names the module {module!r}, which is not there"
        yield Mistake(PROJECT, _line(folder, "story"), rule, "mend the name, or write the module")
        return
    try:
        tree = ast.parse((folder / path).read_bytes())
    except (SyntaxError, ValueError):
        return  # said of the file
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    brought = {
        each.asname or each.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for each in node.names
    }
    if attribute not in names | brought:
        yield Mistake(path, 1, f"has no {attribute}", f"define {attribute} there, or name another in sluice.yaml")


def _line(folder: Path, key: str) -> int:
    return line_of((folder / PROJECT).read_bytes(), (key,))


def view_mistakes(folder: Path, project: Project, task: object) -> Iterator[Mistake]:
    """Views whose table the task does not make, by ``table_path(__file__, "name")`` in the definitions."""
    if not project.feature_repo:
        if isinstance(task, TableTask) and task.history is not None:
            module, _, attribute = project.task.partition(":")
            place = module_file(folder, module)
            fix = "write feature_repo in sluice.yaml, a folder as `sluice init --features feast` makes it"
            line = SourceLines(folder / place, attribute).of("history")
            yield Mistake(place, line, "history: is kept in a feature store, and the project has none", fix)
        return
    repo = folder / project.feature_repo
    if not (repo / "feature_store.yaml").is_file():
        rule = f"names {project.feature_repo!r}, where no feature_store.yaml is"
        yield Mistake(PROJECT, _line(folder, "feature_repo"), rule, "restore the file, or leave feature_repo out")
        return
    if not isinstance(task, TableTask) or field_faults(task):
        return
    tables = {view_of(key) for key in task.keys} if task.history is not None else set[str]()
    for path in sorted(repo.glob("*.py")):
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue  # said of the file
        yield from _views(path.relative_to(folder).as_posix(), tree, tables)


def _views(relative: str, tree: ast.Module, tables: set[str]) -> Iterator[Mistake]:
    for node in ast.walk(tree):
        function = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
        if function == "table_path" and isinstance(node, ast.Call) and len(node.args) == 2:
            name = getattr(node.args[1], "value", None)
            if isinstance(name, str) and name not in tables:
                rule = f"defines a view of the table {name!r}, which the task does not make"
                yield Mistake(relative, node.lineno, rule, f"choose from {', '.join(sorted(tables)) or 'none'}")
        if function == "history_views" and isinstance(node, ast.Call) and not tables:
            rule = "makes views of the history of keys, and the task has none"
            yield Mistake(relative, node.lineno, rule, "say both in the task, or leave feature_repo out")
