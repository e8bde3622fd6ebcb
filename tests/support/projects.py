"""Repositories as ``sluice init`` makes them, in folders of a test."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from sluice.project import ManifestsSource, enter_project, read_project
from sluice_project.check import check_project, write_project_schema
from sluice_project.mistake import Mistake
from sluice_project.scaffold import begin

SOURCE = ManifestsSource(url="https://example.com/platform", ref="v0.1.0")


def begun(
    folder: Path, name: str = "returns", kind: str = "binary", features: str = "none", source: ManifestsSource = SOURCE
) -> Path:
    """A new repository with its schema, in a folder of its name."""
    place = folder / name
    begin(place, name, kind, features, source)
    with inside(place):
        write_project_schema(read_project(place))
    return place


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """As a process that was started in a project: its modules are found, and forgotten afterwards."""
    before, path, variable = Path.cwd(), list(sys.path), os.environ.get("PYTHONPATH")
    modules = set(sys.modules)
    os.chdir(folder)
    importlib.invalidate_caches()
    try:
        with contextlib.suppress(Exception):  # a project file that is wrong is what some tests are about
            enter_project()
        yield
    finally:
        os.chdir(before)
        sys.path[:] = path
        os.environ.pop("PYTHONPATH", None)
        os.environ |= {"PYTHONPATH": variable} if variable is not None else {}
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]


def found_in(folder: Path) -> list[Mistake]:
    """What ``sluice check`` finds there."""
    with inside(folder):
        return check_project(folder)
