"""``sluice compile``: the platform's pipelines for one task and its image, named by the task."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from sluice.content import write_bytes
from sluice.errors import BadArtifact, BadInput
from sluice.project import IMAGE, Project, installed_version
from sluice_steps.image import image

_COMPILED = Path(str(files("sluice_pipelines") / "compiled"))


def compiled(project: Project, steps: str | None = None) -> Mapping[str, bytes]:
    """
    Name → YAML of each pipeline whose steps all run in the image of the steps.

    Pipelines for accelerators run in another image, which a project does not build: they are left out.

    Args:
        steps: an image instead of the project's.

    Raises:
        BadInput: the image has neither tag nor digest.
    """
    own = steps or project.images.steps
    if not re.fullmatch(IMAGE, own) or ("@" not in own and ":" not in own.rpartition("/")[2]):
        raise BadInput(f"image {own!r:.120}", "has neither tag nor digest", "write NAME@sha256:… or NAME:TAG")
    documents = {}
    for path in sorted(_COMPILED.glob("*.yaml")):
        spec, *platforms = yaml.load_all(path.read_bytes(), yaml.CSafeLoader)
        containers = [each["container"] for each in spec["deploymentSpec"]["executors"].values()]
        if {each["image"] for each in containers} != {image("steps")}:
            continue
        for container in containers:
            container["image"] = own
        name = f"{project.name}-{path.stem}"
        spec["pipelineInfo"]["name"] = name
        _default(path, spec, project)
        head = f"# Name: {name}\n# Written by `sluice compile` {installed_version()}; change sluice.yaml, not this.\n"
        text = yaml.dump_all([spec, *platforms], Dumper=yaml.CSafeDumper, sort_keys=True)
        documents[name] = (head + text).encode()
    return documents


def _default(path: Path, spec: dict[str, Any], project: Project) -> None:
    """The project's values where a pipeline can be given them."""
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    first, *later = project.folders
    values = {
        "task": project.task,
        "environment": later[0] if later and path.stem == "promotion" else first,
        "overlays": f"/opt/{project.name}-overlays",
    }
    for name, value in values.items():
        if name in parameters:
            if "defaultValue" not in parameters[name]:
                raise BadArtifact(str(path), f"has no default for {name}", "install the platform again")
            parameters[name]["defaultValue"] = value


def write_compiled(project: Project, into: Path, steps: str | None = None) -> list[Path]:
    """Write them into a folder; returns the paths. Raises as ``compiled``."""
    documents = compiled(project, steps)
    for name, text in documents.items():
        write_bytes(into / f"{name}.yaml", text)
    return [into / f"{name}.yaml" for name in documents]
