"""The code of a task that is none of ours: what it reaches is in every digest, and nothing else is."""

from __future__ import annotations

import dataclasses
import importlib
import re
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sluice.features.store import install_definitions, plan_of
from sluice.features.tables import origin_of_tables
from sluice.installation import code_digest
from sluice.installation.source_code import reached_sources
from sluice.tasks.task import load_task, task_modules
from tests.support.tiny_task import TASK

_REPO = Path(__file__).parents[1] / "support/tiny_feature_repo"
FILES = {
    "shopkit/__init__.py": "",
    "shopkit/task.py": """
import dataclasses
from functools import partial
from shopkit.tables import build
from tests.support.tiny_task import TASK as TINY

TASK = dataclasses.replace(TINY, read_feature_tables=partial(build, 3), read_examples=TINY.read_examples)
""",
    "shopkit/tables.py": """
from . import days
import json, polars


def build(n, start, end):
    from .deep import rates
    return {"visits": Path(__file__).parent / "sql" / "visits.sql"}
""",
    "shopkit/days.py": """
from importlib.resources import files
from shopkit.deep.rates import *

DAYS = files("shopkit").joinpath("days.yaml")
""",
    "shopkit/deep/__init__.py": "",
    "shopkit/deep/rates.py": "import pathlib\nRATES = sorted(pathlib.Path(__file__).parents[1].glob('rates/*.csv'))\n",
    "shopkit/ratios.py": "import shopkit.units as units\n\n\ndef ratio(a, b):\n    return a / b if b else None\n",
    "shopkit/units.py": "import pkgutil\nUNIT = pkgutil.get_data('shopkit', 'units.json')\n",
    "shopkit/unused.py": "NEVER = 1\n",
    "shopkit/sql/visits.sql": "SELECT 1\n",
    "shopkit/days.yaml": "days: 7\n",
    "shopkit/rates/north.csv": "rate\n1\n",
    "shopkit/units.json": "{}\n",
    "shopkit/unread.sql": "SELECT 2\n",
}
TABLES = {"shopkit/__init__.py", "shopkit/task.py", "shopkit/tables.py", "shopkit/days.py"}
TABLES |= {"shopkit/deep/__init__.py", "shopkit/deep/rates.py"}
TABLES |= {"shopkit/sql/visits.sql", "shopkit/days.yaml", "shopkit/rates/north.csv"}
TRANSFORM = {"shopkit/__init__.py", "shopkit/ratios.py", "shopkit/units.py", "shopkit/units.json"}


@pytest.fixture(params=["beside", "site-packages"])
def kit(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package's folder, somewhere on the path or where packages are installed; and definitions that use it."""
    root = tmp_path / str(request.param)
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    repo = shutil.copytree(_REPO, tmp_path / "repo", ignore=shutil.ignore_patterns("__pycache__"))
    text = (repo / "definitions.py").read_text()
    body = "    from shopkit.ratios import ratio\n\n    pairs = zip("
    text = text.replace("    pairs = zip(", body).replace("amount / mean if mean else None", "ratio(amount, mean)")
    (repo / "definitions.py").write_text(text)
    monkeypatch.syspath_prepend(root)
    importlib.invalidate_caches()
    yield root
    for name in [name for name in sys.modules if name.partition(".")[0] == "shopkit"]:
        del sys.modules[name]


def _digests(kit: Path) -> tuple[Any, str | None, str]:
    """Of the tables, of the service, and of a run."""
    task, repo, store = load_task("shopkit.task:TASK"), kit.parent / "repo", kit.parent / "store"
    service = plan_of(install_definitions(repo, store, frozenset()), "tiny").digest
    return (
        origin_of_tables(task, task.splits.end)["code"],
        service,
        code_digest(repo, task_modules("shopkit.task:TASK")),
    )


def test_every_module_and_file_that_is_reached_is_in_its_digests_and_no_other(kit: Path) -> None:
    before = _digests(kit)
    assert _digests(kit) == before
    for name, text in FILES.items():
        (kit / name).write_text(text + "# edited\n")
        after = _digests(kit)
        changed = tuple(one != other for one, other in zip(before, after, strict=True))
        tables = name in TABLES - {"shopkit/task.py"}
        assert changed == (tables, name in TRANSFORM, name in TABLES | TRANSFORM), name
        (kit / name).write_text(text)


def test_what_others_version_is_left_out(kit: Path) -> None:
    names = set(reached_sources(["shopkit.task", "no.such.module", "__main__", "sluice.errors", "json", "polars"]))
    assert {"shopkit.deep.rates", "shopkit/sql/visits.sql"} <= names
    assert not {name for name in names if re.split(r"\W", name)[0] not in {"shopkit", "tests", "sluice"}}
    assert not {name for name in names if name.startswith("sluice.") and not name.startswith("sluice.tasks")}


def test_a_function_that_is_wrapped_is_found_where_it_is() -> None:
    class Callable:
        def __call__(self, *_: Any) -> Any:
            return {}

    task = dataclasses.replace(TASK, read_feature_tables=Callable(), read_examples=partial(TASK.read_examples))
    assert set(task.modules) == {__name__, "tests.support.tiny_task"}
