"""What is wrong with the policies and overlays of a project."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sluice.errors import SluiceError
from sluice.gates.policy import GatePolicy, metric_problem, parse_policy
from sluice.project import PROJECT, Project
from sluice.stages.section import CONTRADICTION
from sluice.strict_yaml import line_of, read_yaml
from sluice.targets.metric import MetricList
from sluice_project.mistake import Mistake, mistake_of

_DOCS = "docs/gates.md has the keys and their ranges"


def deploy_mistakes(folder: Path, project: Project, metrics: MetricList | None) -> Iterator[Mistake]:
    """Of every environment; ``metrics`` are the task's, where it could be loaded."""
    overlays = folder / project.deploy / "manifests/overlays"
    there = sorted(path.name for path in overlays.iterdir() if path.is_dir()) if overlays.is_dir() else []
    for name in project.folders:
        if name not in there:
            fix = f"add {project.deploy}/manifests/overlays/{name}, or take it out of environments"
            rule = f"names the environment {name.removeprefix(f'{project.name}-')!r}, which has no overlay"
            yield Mistake(PROJECT, 1, rule, fix)
    for name in there:
        yield from _policy(folder, overlays / name / "gate-policy.yaml", project, name, metrics)
        yield from _overlay(folder, overlays / name / "kustomization.yaml", project, name)


def _policy(folder: Path, path: Path, project: Project, name: str, metrics: MetricList | None) -> Iterator[Mistake]:
    relative = path.relative_to(folder).as_posix()
    if not path.is_file():
        yield Mistake(relative, 1, "is not there", "write a gate policy")
        return
    text = path.read_bytes()
    try:
        policy = parse_policy(text, relative)
    except SluiceError as error:
        cause = error.__cause__
        if not isinstance(cause, ValidationError):
            yield mistake_of(error, relative)
            return
        for each in cause.errors(include_url=False):
            yield _violation(text, relative, dict(each))
        return
    yield from _addressed(text, relative, policy, project, name)
    if metrics and (problem := metric_problem(policy, metrics)):
        yield Mistake(relative, line_of(text, problem.keys), f"{problem.key}: {problem.rule}", problem.fix)


def _violation(text: bytes, relative: str, error: dict[str, Any]) -> Mistake:
    context = error.get("ctx", {}) if error["type"] == CONTRADICTION else {}
    keys = (*error["loc"], *context.get("at", ()))
    rule = f"{'.'.join(map(str, keys)) or 'the document'}: {error['msg'].removeprefix('Value error, ')}"
    return Mistake(relative, line_of(text, keys), rule, context.get("fix", _DOCS))


def _addressed(text: bytes, relative: str, policy: GatePolicy, project: Project, name: str) -> Iterator[Mistake]:
    if policy.task != project.name:
        rule = f"task: is {policy.task!r}, and the project {project.name!r}"
        yield Mistake(relative, line_of(text, ("task",)), rule, f"write {project.name}")
    if policy.environment != name:
        rule = f"environment: is {policy.environment!r} in the overlay {name!r}"
        yield Mistake(relative, line_of(text, ("environment",)), rule, f"write {name}")
    if policy.promote_from and policy.promote_from not in project.folders:
        rule = f"promote_from: is {policy.promote_from!r}, which is no environment of the project"
        yield Mistake(relative, line_of(text, ("promote_from",)), rule, f"choose from {', '.join(project.folders)}")


def _overlay(folder: Path, path: Path, project: Project, name: str) -> Iterator[Mistake]:
    relative = path.relative_to(folder).as_posix()
    try:
        text = path.read_bytes()
        document = read_yaml(text)
        if not isinstance(document, dict):
            raise ValueError("is no kustomization")
    except OSError as error:
        yield Mistake(relative, 1, f"cannot be read ({error.strerror})", "restore it")
        return
    except ValueError as error:
        yield Mistake(relative, 1, str(error), "mend the file")
        return
    if document.get("namespace") != f"sluice-{name}":
        rule = f"namespace: is {document.get('namespace')!r}: environments of two tasks may meet there"
        yield Mistake(relative, line_of(text, ("namespace",)), rule, f"write sluice-{name}")
    for place, entry in enumerate(_list(document.get("images"))):
        if isinstance(entry, dict) and "digest" not in entry:
            rule = f"images: {str(entry.get('newName') or entry.get('name'))!r} has no digest"
            fix = "write digest: sha256:… instead of newTag; a cluster refuses an image by its tag"
            yield Mistake(relative, line_of(text, ("images", place)), rule, fix)
    yield from _bases(text, relative, document, project)


def _bases(text: bytes, relative: str, document: dict[str, Any], project: Project) -> Iterator[Mistake]:
    """Parts that come from elsewhere are the platform's, at the commit that the project names."""
    for key in ("resources", "components"):
        for place, part in enumerate(_list(document.get(key))):
            if not isinstance(part, str) or "://" not in part:
                continue
            base, _, query = part.partition("?")
            if not base.startswith(f"{project.manifests.url}//"):
                continue
            if query != f"ref={project.manifests.ref}":
                rule = f"{key}: pulls {part!r}, and sluice.yaml names the commit {project.manifests.ref}"
                fix = f"write ?ref={project.manifests.ref}, or run `sluice doctor --write`"
                yield Mistake(relative, line_of(text, (key, place)), rule, fix)


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
