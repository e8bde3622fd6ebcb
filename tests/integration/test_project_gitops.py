"""Several tasks live side by side in one GitOps repository: nothing of one is another's."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluice.documents.state import ReleaseState
from sluice.errors import BadInput, Refused
from sluice.git.command import create_bare
from sluice.gitops.writer import GitOps
from sluice.installation import MANIFESTS
from sluice.project import ManifestsSource, read_project
from sluice.release.file import render_release
from sluice_project.gitops_repository import bring
from sluice_project.scaffold import begin

NOW = "2024-05-01T00:00:00Z"
MODEL = f"sha256:{'a' * 64}"
TASKS = {"returns": "binary", "parcels": "regression", "outcomes": "multi-class"}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> ManifestsSource:
    """A Git repository with the platform's manifests, at a tag."""
    folder = tmp_path_factory.mktemp("platform")
    shutil.copytree(MANIFESTS.resolve(), folder / "manifests")
    for command in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "-m", "manifests"],
        ["tag", "v0.1.0"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return ManifestsSource(url=folder.as_uri(), ref="v0.1.0")


@pytest.fixture(scope="module")
def repository(platform: ManifestsSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With three tasks."""
    folder = tmp_path_factory.mktemp("gitops")
    create_bare(folder / "releases.git")
    for name, kind in TASKS.items():
        begin(folder / name, name, kind, "none", platform)
        assert bring(folder / name, read_project(folder / name), str(folder / "releases.git"), NOW)
    return folder / "releases.git"


def checked_out(repository: Path, folder: Path) -> Path:
    subprocess.run(["git", "clone", "--quiet", str(repository), str(folder)], check=True)
    return folder


def rendered(folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="NOT CHECKED: kubectl renders what tasks share")
def test_three_tasks_share_no_object_no_namespace_and_no_route(repository: Path, tmp_path: Path) -> None:
    checkout = checked_out(repository, tmp_path / "checkout")
    served = {}
    for name in TASKS:  # a model in each, as the platform writes it
        release = checkout / f"manifests/overlays/{name}-dev/release/kustomization.yaml"
        document = {"task": name, "environment": f"{name}-dev", "sequence": 1, "stage": "stable", "since": NOW}
        state = ReleaseState.model_validate_json(json.dumps(document | {"stable": MODEL, "stable_weight": 100}))
        release.write_bytes(render_release(state))
        served[name] = rendered(checkout / f"manifests/overlays/{name}-dev")
    every = Counter(
        (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"])
        for objects in served.values()
        for each in objects
    )
    assert [key for key, times in every.items() if times > 1] == []
    objects = [each for found in served.values() for each in found]
    routes = {each["spec"]["hostnames"][0]: each for each in objects if each["kind"] == "HTTPRoute"}
    assert set(routes) == {f"{name}.dev.example.com" for name in TASKS}
    assert {each["metadata"]["name"] for each in routes.values()} == set(TASKS)
    spaces = {each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"}
    assert spaces == {f"sluice-{name}-dev" for name in TASKS}
    named = {(each["metadata"]["name"], each["kind"]) for each in objects}
    assert {(f"{name}-stable", "InferenceService") for name in TASKS} <= named


def test_applications_are_one_each(repository: Path, tmp_path: Path) -> None:
    checkout = checked_out(repository, tmp_path / "checkout")
    texts = [path.read_text() for path in checkout.glob("manifests/argocd/*.yaml")]
    found = [each for text in texts for each in yaml.safe_load_all(text) if each]
    names = [each["metadata"]["name"] for each in found]
    assert sorted(names) == sorted(f"sluice-{name}-{stage}" for name in TASKS for stage in ("dev", "staging", "prod"))
    assert {each["spec"]["source"]["repoURL"] for each in found} == {str(repository)}
    assert len({each["spec"]["destination"]["namespace"] for each in found}) == len(found)


def test_each_environment_has_a_history_of_its_own(repository: Path, tmp_path: Path) -> None:
    for name in TASKS:
        gitops = GitOps(str(repository), f"{name}-dev", clone=tmp_path / f"{name}.clone")
        assert gitops.snapshot().state.task == name
    listed = yaml.safe_load((checked_out(repository, tmp_path / "checkout") / "kustomization.yaml").read_text())
    assert len(listed["resources"]) == 9


def test_the_same_again_is_no_commit(repository: Path) -> None:
    folder = repository.parent / "returns"
    assert bring(folder, read_project(folder), str(repository), NOW) is None


def test_another_task_of_a_name_is_refused(repository: Path, platform: ManifestsSource, tmp_path: Path) -> None:
    begin(tmp_path / "other", "returns", "counts", "none", platform)
    with pytest.raises(Refused, match="two tasks of one name"):
        bring(tmp_path / "other", read_project(tmp_path / "other"), str(repository), NOW)


def test_a_task_of_another_commit_of_the_platform_is_refused(repository: Path, tmp_path: Path) -> None:
    begin(tmp_path / "late", "late", "counts", "none", ManifestsSource(url="https://example.com/platform", ref="v9"))
    with pytest.raises(Refused, match="another commit"):
        bring(tmp_path / "late", read_project(tmp_path / "late"), str(repository), NOW)


@pytest.mark.parametrize("url", ["/no/such/repository.git", "file:///nowhere"])
def test_a_repository_that_is_none_is_one_line(repository: Path, url: str) -> None:
    folder = repository.parent / "returns"
    with pytest.raises(BadInput, match="cannot be read or written"):
        bring(folder, read_project(folder), url, NOW)
