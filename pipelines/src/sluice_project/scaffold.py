"""``sluice init``: the files of a new repository, made of templates; nothing of the platform is among them."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
from pydantic import TypeAdapter, ValidationError

from sluice.content import write_bytes
from sluice.documents.state import ReleaseState
from sluice.errors import BadInput
from sluice.installation import MANIFESTS
from sluice.project import ENVIRONMENTS, NAME, PROJECT, ManifestsSource, installed_version
from sluice.release.file import render_holds, render_release
from sluice.schemas import schemas
from sluice_project.samples import ROWS, SEED, TABLE, sample_of, sample_table

FEATURES = ("none", "feast")
SCHEMAS = ("policy.schema.json", "project.schema.json")
"""Of the files that a person writes; editors read them from ``schemas/``."""
MANIFESTS_URL = "https://github.com/sluice-ml/sluice"
_TEMPLATES = files("sluice_project") / "templates"
_PER_PACKAGE, _PER_OVERLAY, _FEAST = "package/", "overlay/", "feature_repo/"
_PLAIN = ("gitignore", "dockerignore", "github/")
"""Names that begin with a dot in a repository, and would be left out of an editor's view here."""


def require_name(name: str) -> None:
    """
    Raises:
        BadInput: a module cannot be called so, or another one is already.
    """
    fix = "write a to z and 0 to 9, such as returns"
    if not re.fullmatch(NAME, name) or keyword.iskeyword(name):
        rule = "is no name of a module that objects in a cluster can have too"
        raise BadInput(f"name {name!r:.60}", rule, fix)
    if name in sys.stdlib_module_names or name == "tests" or importlib.util.find_spec(name) is not None:
        raise BadInput(f"name {name!r:.60}", "is that of another module", "choose one of your own")


def require_empty(folder: Path) -> None:
    """
    Raises:
        BadInput: the folder holds something; a Git repository without files is empty.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput(str(folder), "is no folder", "name a folder, or one that is not there yet")
    there = sorted(path.name for path in folder.iterdir() if path.name != ".git") if folder.exists() else []
    if there:
        rule = f"is not empty ({', '.join(there[:3])}{', …' if len(there) > 3 else ''})"
        raise BadInput(str(folder), rule, "name another folder with --into")


def new_files(name: str, kind: str, features: str, source: ManifestsSource) -> dict[str, bytes]:
    """
    All files of a new repository, by path.

    Raises:
        BadInput: the name, the kind of the target or the choice of features is none.
    """
    require_name(name)
    if features not in FEATURES:
        raise BadInput(f"--features {features!r:.60}", "is no choice", f"choose from {', '.join(FEATURES)}")
    sample, table = sample_of(kind), BytesIO()
    sample_table(kind).write_csv(table)
    values = {
        "name": name,
        "sample": sample,
        "kind": kind,
        "feast": features == "feast",
        "rows": ROWS,
        "seed": SEED,
        "table": TABLE,
        "source": source,
        "version": installed_version(),
        "environments": ENVIRONMENTS,
    }
    files = dict(_rendered(name, values))
    files[f"src/{name}/data/{TABLE}"] = table.getvalue()
    files |= schema_files()
    for environment in ENVIRONMENTS:
        folder = f"deploy/manifests/overlays/{name}-{environment}/release"
        state = ReleaseState(task=name, environment=f"{name}-{environment}", sequence=0, stage="empty")
        files[f"{folder}/kustomization.yaml"] = render_release(state)
        files[f"{folder}/holds.yaml"] = render_holds(())
    return files | strategy_files(source)


def schema_files() -> dict[str, bytes]:
    """The JSON Schemas of what a person writes."""
    published = schemas()
    return {f"schemas/{name}": published[name] for name in SCHEMAS}


def strategy_files(source: ManifestsSource) -> dict[str, bytes]:
    """What release files name: for each strategy of the platform a file that points to it."""
    names = sorted(path.parent.name for path in MANIFESTS.glob("strategies/*/kustomization.yaml"))
    return {f"deploy/manifests/strategies/{each}/kustomization.yaml": _pointing(source, each) for each in names}


def _pointing(source: ManifestsSource, strategy: str) -> bytes:
    return (
        "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"
        f'components: ["{source.url}//manifests/strategies/{strategy}?ref={source.ref}"]\n'
    ).encode()


def _rendered(name: str, values: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    for path, text in templates():
        if path.startswith(_FEAST) and not values["feast"]:
            continue
        if path.startswith(_PER_OVERLAY):
            for place, environment in enumerate(ENVIRONMENTS):
                folder = f"deploy/manifests/overlays/{name}-{environment}"
                before = f"{name}-{ENVIRONMENTS[place - 1]}" if place else ""
                more = {**values, "environment": f"{name}-{environment}", "stage": environment, "before": before}
                yield f"{folder}/{path.removeprefix(_PER_OVERLAY)}", render(text, more)
            continue
        yield _place(path, name), render(text, values)


def _place(path: str, name: str) -> str:
    """Where a template's file stands in the repository."""
    inside = path.removeprefix(_PER_PACKAGE)
    if inside != path:
        return f"src/{name}/{inside}"
    return f".{path}" if path.startswith(_PLAIN) else path.replace("NAME", name)


def templates() -> Iterator[tuple[str, str]]:
    """Path and text of each template."""
    root = Path(str(_TEMPLATES))
    for path in sorted(root.rglob("*.j2")):
        yield path.relative_to(root).as_posix().removesuffix(".j2"), path.read_text("utf-8")


def render(text: str, values: Mapping[str, Any]) -> bytes:
    """A template with its values; one that is missing is an error. ``[[ ]]`` and ``[% %]``, for files have braces."""
    environment = jinja2.Environment(  # noqa: S701  Python and YAML, not HTML
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        variable_start_string="[[",
        variable_end_string="]]",
        block_start_string="[%",
        block_end_string="%]",
        comment_start_string="[#",
        comment_end_string="#]",
    )
    return environment.from_string(text).render(**values).encode()


def manifests_source(url: str | None, ref: str | None) -> ManifestsSource:
    """
    Where overlays take the platform's manifests from: its own repository at the version that is installed, if no other
    is named.

    Raises:
        BadInput: the URL or the ref cannot be one.
    """
    choice = {"url": url or MANIFESTS_URL, "ref": ref or f"v{installed_version()}"}
    try:
        return TypeAdapter(ManifestsSource).validate_python(choice)
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        option = f"--manifests-{key} {choice[key]!r:.100}"
        fix = "write https://…, ssh://… or file://… and a tag or commit"
        raise BadInput(option, "cannot be pulled by kustomize", fix) from error


def begin(folder: Path, name: str, kind: str, features: str, source: ManifestsSource) -> list[str]:
    """
    Write a new repository into a folder that is empty; returns the paths.

    Raises:
        BadInput: the folder is not empty, or as of ``new_files``; then nothing was written.
    """
    require_empty(folder)
    files = new_files(name, kind, features, source)
    for path, data in sorted(files.items(), key=lambda item: (item[0] == PROJECT, item[0])):
        write_bytes(folder / path, data)
    return sorted(files)
