"""Which images run is written in one place, and the workflow that builds them covers every one of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluice.installation.images import main as name_images
from sluice.release.file import render_release
from sluice_steps.image import IMAGES, image
from tests.support.release import state_in

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github/workflows/images.yaml"
OPTIONS = sorted(path.parent.name for path in (ROOT / "manifests/options").glob("*/kustomization.yaml"))
NAMES = [entry["name"].removeprefix("sluice/") for entry in yaml.safe_load(IMAGES.read_text())["images"]]
needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="NOT CHECKED: kubectl is missing, so nothing proves which images the manifests name",
)


def jobs() -> dict[str, Any]:
    """The jobs of the workflow."""
    found: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    return found


def images_in(document: Any) -> Iterator[str]:
    """Every value of a key ``image``, wherever it stands."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key == "image" and isinstance(value, str):
                yield value
            else:
                yield from images_in(value)
    elif isinstance(document, list):
        for item in document:
            yield from images_in(item)


def rendered(directory: Path) -> set[str]:
    """The images that a kustomization names."""
    done = subprocess.run(["kubectl", "kustomize", directory], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {found for document in yaml.load_all(done.stdout, yaml.CSafeLoader) for found in images_in(document)}


def kustomization_with(root: Path, option: str | None) -> Path:
    """An overlay of a copy of the manifests with a candidate under way, and one option or none."""
    shutil.copytree(ROOT / "manifests", root / "manifests")
    overlay = root / "manifests/overlays/dev"
    (overlay / "release/kustomization.yaml").write_bytes(render_release(state_in("canary")))
    if option:
        file = overlay / "kustomization.yaml"
        file.write_text(file.read_text().replace("[release, ", f"[release, ../../options/{option}, "))
    return overlay


@needs_kubectl
@pytest.mark.parametrize("option", [None, *OPTIONS])
def test_manifests_name_no_image_of_their_own(tmp_path: Path, option: str | None) -> None:
    found = rendered(kustomization_with(tmp_path, option)) | rendered(ROOT / "manifests/cluster")
    assert image("serving") in found
    assert found <= {image(name) for name in NAMES}


def test_pipelines_run_in_the_images_of_the_manifests() -> None:
    files = [path for place in ("pipelines/compiled", "manifests/pipelines") for path in (ROOT / place).glob("*.yaml")]
    found = {name for path in files for name in re.findall(r"ghcr\.io/sluice-ml/[^\s\"',\\]+", path.read_text())}
    assert image("steps") in found
    assert found <= {image(name) for name in NAMES}


def test_a_digest_replaces_the_tag(tmp_path: Path) -> None:
    digest = "sha256:" + "a" * 64
    file = tmp_path / "kustomization.yaml"  # as `kustomize edit set image` leaves it
    file.write_text(f"images:\n- digest: {digest}\n  name: sluice/steps\n  newName: ghcr.io/somebody/steps\n")
    assert image("steps", file) == f"ghcr.io/somebody/steps@{digest}"


def test_one_command_names_digests_and_leaves_the_rest_as_it_is(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests")
    shutil.copy(ROOT / "kustomization.yaml", tmp_path)
    path = tmp_path / "manifests/images/kustomization.yaml"
    digests = [f"sha256:{letter * 64}" for letter in "abc"]
    given = [f"serving=registry:5000/our/serving:0.1.0@{digests[0]}", f"steps=ghcr.io/ours/steps@{digests[1]}"]
    assert name_images([*given, "--file", str(path)]) == 0
    images = {each["name"]: each for each in yaml.safe_load(path.read_text())["images"]}
    assert images["sluice/serving"] == {
        "name": "sluice/serving",
        "newName": "registry:5000/our/serving",
        "digest": digests[0],
    }
    assert images["sluice/steps"]["digest"] == digests[1]
    assert images["sluice/steps-gpu"]["newTag"], "another image's name begins with the same letters"
    assert "# named by pipelines only" in path.read_text()
    assert name_images([f"steps=ghcr.io/ours/steps@{digests[2]}", "--file", str(path)]) == 0
    assert path.read_text().count("digest:") == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serving=ghcr.io/ours/serving:0.1.0"], "has no digest"),
        (["serving"], "names no reference"),
        ([f"server=ghcr.io/ours/serving@sha256:{'a' * 64}"], "name one of: serving, steps, steps-gpu"),
        ([f"serving=ghcr.io/ours/serving@sha256:{'a' * 64}", "--file", "nowhere.yaml"], "is not there"),
    ],
)
def test_an_image_that_is_none_is_refused_in_one_line(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "manifests/images/kustomization.yaml"
    file.parent.mkdir(parents=True)
    shutil.copy(ROOT / "manifests/images/kustomization.yaml", file)
    monkeypatch.chdir(tmp_path)
    assert name_images(arguments) == 2
    told = capsys.readouterr().err
    assert says in told
    assert len(told.splitlines()) == 1
    assert file.read_bytes() == (ROOT / "manifests/images/kustomization.yaml").read_bytes()


def test_the_workflow_builds_every_image_that_runs_and_pins_it() -> None:
    built = {entry["name"]: entry for entry in jobs()["build"]["strategy"]["matrix"]["include"]}
    assert set(NAMES) <= set(built)
    (loop,) = re.findall(r"for name in (.*); do", jobs()["pin"]["steps"][-1]["run"])
    assert sorted(loop.split()) == sorted(NAMES)
    extras = tomllib.loads((ROOT / "components/pyproject.toml").read_text())["project"]["optional-dependencies"]
    for entry in built.values():
        text = (ROOT / entry["dockerfile"]).read_text()
        argument, _, value = entry["arguments"].partition("=")
        assert not argument or f"ARG {argument}=" in text
        assert set(value.split()) <= set(extras)


def test_an_image_is_signed_after_its_scan_and_verified_before_it_is_pinned() -> None:
    build = [str(step) for step in jobs()["build"]["steps"]]
    order = [next(i for i, step in enumerate(build) if word in step) for word in ("sbom", "exit-code", "cosign sign")]
    assert order == sorted(order)
    assert "'exit-code': '1'" in build[order[1]]
    assert jobs()["pin"]["needs"] == "build"
    pin = [step.get("run", "") for step in jobs()["pin"]["steps"]]
    verified = next(i for i, run in enumerate(pin) if "cosign verify" in run)
    assert verified < next(i for i, run in enumerate(pin) if "kustomize edit set image" in run)
    assert jobs()["build"]["permissions"] == {"contents": "read", "packages": "write", "id-token": "write"}


def test_what_an_image_leaves_out_is_in_the_lock() -> None:
    locked = {package["name"] for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    text = (ROOT / "serving/Dockerfile").read_text().replace("\\\n", "")
    (left_out,) = re.findall(r'ARG LEFT_OUT="(.*)"', text)
    assert set(left_out.split()) <= locked, "a name that is no package any more leaves nothing out"


@pytest.mark.parametrize("dockerfile", ["components/Dockerfile", "serving/Dockerfile"])
def test_an_image_is_built_with_what_the_packages_link_to(dockerfile: str) -> None:
    links = [path for path in (ROOT / "components/src").rglob("*") if path.is_symlink()]
    names = {path.readlink().name for path in links}
    assert {"manifests", "feature_repo", "kustomization.yaml"} <= names
    assert set(re.findall(r"^COPY ([\w.]+) ", (ROOT / dockerfile).read_text(), re.MULTILINE)) >= names
    assert {f"!{name}" for name in names} <= set((ROOT / ".dockerignore").read_text().split())
