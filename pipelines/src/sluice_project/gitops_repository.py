"""``sluice gitops init``: a task's overlays in a GitOps repository, beside those of other tasks."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sluice.errors import BadInput, Refused
from sluice.git.clone import Clone
from sluice.git.command import GitFailed, create_bare, git
from sluice.project import Project

_UNSET = "set-by-gitops-init"


def deploy_files(folder: Path, project: Project, url: str) -> Mapping[str, bytes]:
    """
    What a GitOps repository gets of a project: overlays, pointers to strategies, Argo CD's applications.

    Raises:
        BadInput: the project has no overlay of one of its environments.
    """
    root = folder / project.deploy
    for name in project.folders:
        if not (root / "manifests/overlays" / name / "release/kustomization.yaml").is_file():
            raise BadInput(str(root / "manifests/overlays" / name), "has no release file", "restore it from a commit")
    paths = sorted((root / "manifests").rglob("*.yaml"))
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
    return {path: data.replace(_UNSET.encode(), json.dumps(url).encode()) for path, data in files.items()}


def bring(folder: Path, project: Project, url: str, when: str) -> str | None:
    """
    One commit with a project's files on ``main`` of a GitOps repository, empty or not; None where they are there.

    Raises:
        BadInput: the repository cannot be read or written.
        Refused: another task of this name is there, or one that takes the platform from another commit.
    """
    files = deploy_files(folder, project, url)
    with tempfile.TemporaryDirectory() as scratch:
        clone = Clone(url, Path(scratch) / "repository.git")
        try:
            with clone.lock():
                base = _tip(clone, url)
                there = dict(zip(files, clone.read([f"{base}:{path}" for path in files]), strict=True)) if base else {}
                new = _new(project, files, there)
                overlays = set(clone.entries(f"{base}:manifests/overlays")) if base else set[str]()
                names = sorted({each.rstrip("/") for each in overlays} | {*project.folders})
                new |= _listed(clone, base, names)
                if not new:
                    return None
                subject = f"{project.name}: overlays of {', '.join(project.environments)}\n"
                commit = clone.commit(base, new, subject, when)
                if not clone.push(commit):
                    raise BadInput(url, "was written by somebody else meanwhile", "run the command again")
                return commit
        except GitFailed as failed:
            rule = f"cannot be read or written ({failed.output.strip().splitlines()[-1][:200]})"
            raise BadInput(url, rule, "name a Git repository that takes commits from you") from failed


def _tip(clone: Clone, url: str) -> str | None:
    """The newest commit of ``main``; None where the repository is empty."""
    with tempfile.TemporaryDirectory() as scratch:
        heads = git(Path(scratch), "ls-remote", "--heads", url, "refs/heads/main")
    if heads.strip():
        return clone.fetch()
    create_bare(clone.directory)
    return None


def _new(project: Project, files: Mapping[str, bytes], there: Mapping[str, bytes | None]) -> dict[str, bytes]:
    """Files that are not there yet."""
    for path, data in files.items():
        stands = there.get(path)
        if stands is None or stands == data:
            continue
        if path.startswith("manifests/strategies/"):
            rule = "takes the platform from another commit than the tasks that are there"
            raise Refused(f"{path} of {project.name}", rule, "bring all of them to one version with `sluice doctor`")
        rule = "is there already, and another one"
        fix = "two tasks of one name, or a change: make it in that repository, by a commit"
        raise Refused(path, rule, fix)
    return {path: data for path, data in files.items() if there.get(path) is None}


def _listed(clone: Clone, base: str | None, names: list[str]) -> dict[str, bytes]:
    """The kustomization at the top, which names every overlay; one that somebody wrote stays."""
    head = "# Written by `sluice gitops init`: every environment of every task.\n"
    text = (
        f"{head}apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n"
        + "".join(f"- manifests/overlays/{name}\n" for name in names)
    ).encode()
    (stands,) = clone.read([f"{base}:kustomization.yaml"]) if base else [None]
    if stands is None or (stands.startswith(head.encode()) and stands != text):
        return {"kustomization.yaml": text}
    return {}
