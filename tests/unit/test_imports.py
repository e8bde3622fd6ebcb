"""What is imported reads nothing: files of ours are opened by who compiles, checks or runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMPORT_ALL = f"""
import importlib, pkgutil, sys

opened = []

def watch(event, arguments):
    if event == "open" and str(arguments[0]).startswith({str(ROOT)!r} + "/"):
        opened.append(str(arguments[0]))

sys.addaudithook(watch)
import sluice_pipelines, sluice_steps
folders = [*sluice_pipelines.__path__, *sluice_steps.__path__]
names = [f"{{one.module_finder.path.split('/')[-1]}}.{{one.name}}" for one in pkgutil.iter_modules(folders)]
for name in names:
    importlib.import_module(name)
from sluice_pipelines.inputs import default_policy
before = len(opened)
default_policy()
print(*opened[:before], sep="\\n")
print("imported", len(names), *opened[before:], sep="\\n")
"""


def test_steps_and_pipelines_are_imported_without_reading_a_file() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imports, _, after = done.stdout.partition("imported\n")
    number, *read = after.splitlines()
    assert int(number) > 20
    assert [Path(line).name for line in read] == ["gate-policy.yaml"], "the hook sees what is read"
    ours = [Path(line) for line in imports.splitlines() if not Path(line).is_relative_to(ROOT / ".venv")]
    assert ours, "the hook sees what is imported"
    assert [path for path in ours if path.suffix not in {".py", ".pyc"} and ".pyc." not in path.name] == []
