"""What each side installs, read from the one lock file."""

from __future__ import annotations

import re
import subprocess
import sys
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


@pytest.mark.parametrize("name", ["numpy", "polars", "pydantic", "feast"])
def test_both_sides_run_one_version(name: str) -> None:
    lock = (ROOT / "uv.lock").read_text()
    assert len(re.findall(rf'^name = "{name}"$', lock, re.MULTILINE)) == 1
