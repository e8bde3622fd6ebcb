"""
The file ``sluice.yaml`` of a repository that a person owns: which task it is, and which version of the platform it was
written for.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from sluice.documents.model import FrozenDocument
from sluice.errors import BadInput
from sluice.installation.images import IMAGE_NAME
from sluice.strict_yaml import line_of, read_yaml

PROJECT = "sluice.yaml"
NAME = r"^[a-z][a-z0-9]{1,30}$"
IMAGE = rf"^{IMAGE_NAME}(:[\w.-]+)?(@sha256:[0-9a-f]{{64}})?$"
ENVIRONMENTS = ("dev", "staging", "prod")
Image = Annotated[str, Field(pattern=IMAGE)]


class ManifestsSource(FrozenDocument):
    """Where overlays take the platform's manifests from; nothing of them is copied."""

    url: str = Field(pattern=r"^(https|ssh|file)://[^\s?#]+$")
    """Of the platform's Git repository."""
    ref: str = Field(pattern=r"^[\w./-]{1,100}$")
    """A tag or a commit, so that equal files give equal objects."""


class ProjectImages(FrozenDocument):
    """Images that this repository's Dockerfile builds on the platform's."""

    steps: Image
    """Of pipeline steps and of the gate."""
    serving: Image
    """Of the model server and of the collector."""


class Project(FrozenDocument):
    """The whole file."""

    apiVersion: Literal["sluice.dev/v1"]  # noqa: N815  Kubernetes' spelling
    kind: Literal["Project"]
    platform: str = Field(pattern=r"^\d+(\.\d+){1,3}$")
    """The version of the platform that the files were written for; ``sluice doctor`` brings them to another."""
    name: str = Field(pattern=NAME)
    """Of the task, of its folder in a GitOps repository, of its objects in a cluster."""
    task: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """``module:ATTRIBUTE`` of the task."""
    story: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """``module:ATTRIBUTE`` of what ``sluice run`` plays."""
    feature_repo: str | None = None
    """Folder of the Feast definitions, where there are some."""
    deploy: str = "deploy"
    """Folder that a GitOps repository begins with."""
    environments: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,15}$")], ...] = Field(
        default=ENVIRONMENTS, min_length=1
    )
    """In the order in which a model goes through them."""
    manifests: ManifestsSource
    images: ProjectImages

    @property
    def folders(self) -> tuple[str, ...]:
        """Names of the environments where several tasks live side by side: ``returns-dev``."""
        return tuple(f"{self.name}-{each}" for each in self.environments)


def installed_version() -> str:
    """The version of the platform that is installed; 0 where it is not."""
    try:
        return version("sluice")
    except PackageNotFoundError:
        return "0.0"


def parts_of(number: str) -> tuple[int, ...]:
    """A version as numbers that can be compared; what follows the numbers is left out."""
    return tuple(int(part) for part in re.findall(r"\d+", number.split("+", maxsplit=1)[0])[:4])


def find_project(folder: Path | None = None) -> Path | None:
    """The folder of the project that a folder (the current one) is in, up to the root of its Git repository."""
    start = (folder or Path.cwd()).absolute()
    for place in (start, *start.parents):
        if (place / PROJECT).is_file():
            return place
        if (place / ".git").exists():
            return None
    return None


def read_project(folder: Path) -> Project:
    """
    The project file of a folder.

    Raises:
        BadInput: it is missing, or not what it has to be, or made by a newer version of the platform.
    """
    path = folder / PROJECT
    try:
        text = path.read_bytes()
    except OSError as error:
        fix = "run this in a repository that `sluice init` made"
        raise BadInput(str(path), f"cannot be read ({error.strerror})", fix) from error
    project = parse_project(text, str(path))
    if parts_of(project.platform) > parts_of(installed_version()):
        rule = f"was made by version {project.platform}, and {installed_version()} is installed"
        raise BadInput(str(path), rule, f"install sluice {project.platform} or newer")
    return project


def parse_project(text: bytes, name: str) -> Project:
    """
    The project in ``text``.

    Raises:
        BadInput: names the line, the key and the rule.
    """
    try:
        document = read_yaml(text)
        if not isinstance(document, dict):
            raise ValueError("is no mapping of keys")
        return Project.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the document"
        rule = f"{first['msg'].removeprefix('Value error, ')}, got {str(first['input'])[:80]!r}"
        where = f"{name}, line {line_of(text, first['loc'])}: {key}"
        raise BadInput(where, rule, "write it as schemas/project.schema.json says") from error
    except ValueError as error:
        raise BadInput(name, str(error), "mend the file") from error


def enter_project() -> tuple[Path, Project] | None:
    """
    The project of the current folder, its ``src`` on the module path of this process and of those that it starts; None
    where there is none.

    Raises:
        BadInput: as of ``read_project``.
    """
    folder = find_project()
    if folder is None:
        return None
    project, source = read_project(folder), str(folder / "src")
    if (folder / "src").is_dir() and source not in sys.path:
        sys.path.insert(0, source)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    return folder, project
