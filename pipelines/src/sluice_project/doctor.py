"""``sluice doctor``: what of a project no longer fits the platform that is installed, and what it would be now."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sluice.content import write_bytes
from sluice.project import PROJECT, Project, installed_version, parse_project, parts_of
from sluice_project.changes import CHANGES
from sluice_project.scaffold import schema_files, strategy_files

_PINNED = ("pyproject.toml", "Makefile", "Dockerfile")
_PINS = r"((?:sluice(?:-[a-z]+)?(?:\[[\w,]*\])?==)|(?:ghcr\.io/sluice-ml/[\w-]+:)){}(?![\w.])"


@dataclass(frozen=True)
class Repair:
    """A file as it would be: ``before`` is None where there is none."""

    path: str
    before: bytes | None
    after: bytes

    @property
    def diff(self) -> str:
        """What changes, as ``diff -u`` says it."""
        old = (self.before or b"").decode("utf-8", "replace").splitlines(keepends=True)
        new = self.after.decode().splitlines(keepends=True)
        lines = difflib.unified_diff(
            old, new, f"a/{self.path}" if self.before is not None else "/dev/null", f"b/{self.path}"
        )
        return "".join(lines)


def notes(project: Project) -> list[str]:
    """What changed in the platform since the version that a project was written for."""
    since, until = parts_of(project.platform), parts_of(installed_version())
    return [f"{version}: {text}" for version, text in CHANGES if since < parts_of(version) <= until]


def repairs(folder: Path, project: Project) -> list[Repair]:
    """Files that do not fit the installed platform; release files are never among them."""
    files = dict(_wanted(folder, project))
    misfits = []
    for path, after in sorted(files.items()):
        place = folder / path
        before = place.read_bytes() if place.is_file() else None
        if before != after:
            misfits.append(Repair(path, before, after))
    return misfits


def _wanted(folder: Path, project: Project) -> Iterator[tuple[str, bytes]]:
    old, new = project.platform, installed_version()
    text = (folder / PROJECT).read_text("utf-8")
    text = re.sub(rf'^platform: "?{re.escape(old)}"?', f'platform: "{new}"', text, flags=re.MULTILINE)
    if project.manifests.ref == f"v{old}":
        text = re.sub(rf"^(\s+ref: ){re.escape(f'v{old}')}\s*$", rf"\g<1>v{new}", text, flags=re.MULTILINE)
    yield PROJECT, text.encode()
    then = parse_project(text.encode(), PROJECT)
    yield from _pinned(folder, old, new)
    yield from strategy_files(then.manifests).items()
    for path in sorted((folder / project.deploy / "manifests/overlays").glob("*/kustomization.yaml")):
        pulled = rf"({re.escape(then.manifests.url)}//[^\s\"?]+\?ref=)[\w./-]+"
        yield (
            path.relative_to(folder).as_posix(),
            re.sub(pulled, rf"\g<1>{then.manifests.ref}", path.read_text("utf-8")).encode(),
        )
    yield from schema_files().items()


def _pinned(folder: Path, old: str, new: str) -> Iterator[tuple[str, bytes]]:
    """Files that name the platform's version."""
    for name in _PINNED:
        if (folder / name).is_file():
            text = (folder / name).read_text("utf-8")
            yield name, re.sub(_PINS.format(re.escape(old)), rf"\g<1>{new}", text).encode()


def mend(folder: Path, misfits: list[Repair]) -> None:
    """Write the files as they would be; the project's own last, so that what was cut short is found again."""
    for repair in sorted(misfits, key=lambda each: each.path == PROJECT):
        write_bytes(folder / repair.path, repair.after)
