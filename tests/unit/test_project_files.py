"""What a project's files become: pipelines of its task, the files of a newer platform; and names that are none."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sluice.documents.state import ReleaseState
from sluice.errors import BadInput
from sluice.project import PROJECT, find_project, parse_project, parts_of, read_project
from sluice.release.file import parse_release
from sluice.schemas import schemas
from sluice_project import changes, doctor
from sluice_project.compiled import compiled
from sluice_project.doctor import mend, notes, repairs
from sluice_project.scaffold import begin, manifests_source, require_empty, require_name
from tests.support.projects import SOURCE

DIGEST = f"sha256:{'a' * 64}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    begin(tmp_path / "returns", "returns", "binary", "none", SOURCE)
    return tmp_path / "returns"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "no name"),
        ("My-Task", "no name"),
        ("2shops", "no name"),
        ("my_shop", "no name"),  # objects of a cluster take no _
        ("import", "no name"),
        ("../shop", "no name"),
        ("json", "another module"),
        ("polars", "another module"),
        ("tests", "another module"),
    ],
)
def test_a_name_that_is_none(name: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        require_name(name)


def test_a_folder_that_is_not_empty_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"is not empty \(notes.txt\)"):
        begin(tmp_path, "returns", "binary", "none", SOURCE)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(BadInput, match="is no folder"):
        require_empty(tmp_path / "notes.txt")


@pytest.mark.parametrize(("kind", "features"), [("ranking", "none"), ("binary", "redis")])
def test_choices_that_there_are_not_write_nothing(tmp_path: Path, kind: str, features: str) -> None:
    with pytest.raises(BadInput, match="choose from"):
        begin(tmp_path / "returns", "returns", kind, features, SOURCE)
    assert not (tmp_path / "returns").exists()


@pytest.mark.parametrize(
    ("url", "ref"), [("ftp://example.com/x", "v1"), ("https://example.com/x y", "v1"), (None, "a b")]
)
def test_a_base_that_kustomize_cannot_pull(url: str | None, ref: str) -> None:
    with pytest.raises(BadInput, match="--manifests-"):
        manifests_source(url, ref)


def test_a_git_repository_without_files_is_empty(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    begin(tmp_path, "returns", "binary", "none", SOURCE)
    assert find_project(tmp_path / "src" / "returns") == tmp_path


def test_release_files_are_those_of_an_empty_production(project: Path) -> None:
    names = read_project(project).folders
    paths = [project / f"deploy/manifests/overlays/{name}/release/kustomization.yaml" for name in names]
    states = [parse_release(path.read_bytes(), str(path)) for path in paths]
    assert len(names) == 3
    assert states == [ReleaseState(task="returns", environment=name, sequence=0, stage="empty") for name in names]


def test_the_schema_of_a_project_file_knows_its_keys(project: Path) -> None:
    schema = json.loads(schemas()["project.schema.json"])
    document = yaml.safe_load((project / PROJECT).read_text())
    assert document.keys() <= schema["properties"].keys()
    assert (project / "schemas/project.schema.json").read_bytes() == schemas()["project.schema.json"]
    assert "schemas/project.schema.json" in (project / PROJECT).read_text().splitlines()[0]


def test_a_wrong_key_is_named_with_its_line(project: Path) -> None:
    text = (project / PROJECT).read_bytes().replace(b"  ref: v0.1.0", b"  ref: v0 1")
    line = text[: text.index(b"v0 1")].count(b"\n") + 1
    with pytest.raises(BadInput, match=f"line {line}: manifests.ref"):
        parse_project(text, PROJECT)


def test_pipelines_are_of_the_task_and_run_in_its_image(project: Path) -> None:
    made = compiled(read_project(project), f"registry.example.com/steps@{DIGEST}")
    assert set(made) == {"returns-training", "returns-monitor-and-retrain", "returns-promotion", "returns-materialize"}
    for name, text in made.items():
        spec, *_ = yaml.load_all(text, yaml.CSafeLoader)
        images = {each["container"]["image"] for each in spec["deploymentSpec"]["executors"].values()}
        assert images == {f"registry.example.com/steps@{DIGEST}"}
        assert spec["pipelineInfo"]["name"] == name
        given = {key: each.get("defaultValue") for key, each in spec["root"]["inputDefinitions"]["parameters"].items()}
        assert given.get("task", "returns.task:TASK") == "returns.task:TASK"
        wanted = "returns-staging" if name.endswith("promotion") else "returns-dev"
        assert given.get("environment", wanted) == wanted
        assert "flights" not in text.decode()


@pytest.mark.parametrize("image", ["registry.example.com/steps", "registry:5000/steps", "a b:1", ""])
def test_an_image_without_tag_or_digest_is_refused(project: Path, image: str) -> None:
    with pytest.raises(BadInput, match="neither tag nor digest"):
        compiled(read_project(project), image or " ")


def test_a_project_of_this_version_needs_no_doctor(project: Path) -> None:
    assert repairs(project, read_project(project)) == []
    assert notes(read_project(project)) == []


def _newer(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sluice.project", "sluice_project.doctor"):
        monkeypatch.setattr(f"{module}.installed_version", lambda: "0.2.0")
    monkeypatch.setattr(doctor, "CHANGES", (*changes.CHANGES, ("0.2.0", "stages are other"), ("0.3.0", "later")))


def test_the_doctor_brings_a_project_to_a_newer_platform_and_leaves_what_is_a_persons(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = project / "deploy/manifests/strategies/canary/kustomization.yaml"
    strategy.unlink()  # as of a platform that had no such stage
    overlay = project / "deploy/manifests/overlays/returns-dev"
    release = (overlay / "release/kustomization.yaml").read_bytes()
    own = "# mine\n" + (overlay / "kustomization.yaml").read_text()
    (overlay / "kustomization.yaml").write_text(own)
    _newer(monkeypatch)
    assert notes(read_project(project)) == ["0.2.0: stages are other"]
    found = repairs(project, read_project(project))
    paths = {repair.path for repair in found}
    assert {PROJECT, "pyproject.toml", "Makefile", "Dockerfile"} <= paths
    assert {
        strategy.relative_to(project).as_posix(),
        "deploy/manifests/overlays/returns-prod/kustomization.yaml",
    } <= paths
    assert not any("/release/" in path or path.startswith(("src/", "tests/")) for path in paths)
    assert not strategy.exists()
    shown = "".join(repair.diff for repair in found)
    assert '-platform: "0.1.0"\n+platform: "0.2.0"\n' in shown
    assert "sluice-serving==0.2.0" in shown
    mend(project, found)
    assert repairs(project, read_project(project)) == []
    assert (overlay / "release/kustomization.yaml").read_bytes() == release
    assert (overlay / "kustomization.yaml").read_text() == own.replace("ref=v0.1.0", "ref=v0.2.0")
    assert not re.search(r"v?0\.1\.0", (project / "Makefile").read_text().replace(":0.1.0 .", ""))


def test_a_ref_that_a_person_chose_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SOURCE.model_copy(update={"ref": "0123abcd"})
    begin(tmp_path / "returns", "returns", "binary", "none", source)
    _newer(monkeypatch)
    mend(tmp_path / "returns", repairs(tmp_path / "returns", read_project(tmp_path / "returns")))
    assert read_project(tmp_path / "returns").manifests.ref == "0123abcd"


def test_a_project_of_a_newer_platform_is_refused(project: Path) -> None:
    text = (project / PROJECT).read_text().replace('"0.1.0"', '"7.0"')
    (project / PROJECT).write_text(text)
    with pytest.raises(BadInput, match=r"was made by version 7\.0, and .* is installed"):
        read_project(project)


def test_versions_are_compared_by_numbers() -> None:
    assert parts_of("0.10.0") > parts_of("0.9.3") > parts_of("0.9")


def test_import_sluice_is_cheap_and_still_has_what_notebooks_ask() -> None:
    code = (
        "import sys, sluice; heavy = {'polars', 'numpy', 'pydantic', 'feast'} & set(sys.modules);"
        "assert not heavy, heavy;"
        "assert callable(sluice.load) and callable(sluice.read_predictions); import sluice.evaluation;"
        "assert not hasattr(sluice, 'nothing')"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
