"""What the documents say is so: their code runs, their links and commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:components|pipelines|feature_repo|serving|manifests|tests|docs)/[\w./-]+)`", page.read_text()
    )
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_everything_is_applied_in_the_same_way() -> None:
    manifests = (ROOT / "manifests").rglob("*.yaml")
    texts = {path.name: path.read_text() for path in (*PAGES, *manifests, ROOT / "kustomization.yaml")}
    applied = [line for text in texts.values() for line in re.findall(r"kubectl apply [^`\n]*-k[^`\n]*", text)]
    assert len(applied) > 8
    assert [line for line in applied if "--server-side" not in line] == []


def test_make_targets_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert {"run", "test", "check"} <= named <= targets


def test_python_in_the_pages_runs(tmp_path: Path) -> None:
    blocks = [block for page in PAGES for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]
    assert blocks
    for block in blocks:
        code = "\n".join(line.removeprefix("   ") for line in block.splitlines())
        (tmp_path / "page.py").write_text(code)
        done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
