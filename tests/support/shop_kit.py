"""A task in a package of its own, with modules, SQL, YAML and tables that it reaches, and some that it does not."""

from __future__ import annotations

import contextlib
import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sluice.features.store import install_definitions, plan_of
from sluice.features.tables import origin_of_tables
from sluice.installation import code_digest
from sluice.tasks.task import load_task, task_modules

_REPO = Path(__file__).parent / "tiny_feature_repo"
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


@contextlib.contextmanager
def shop_kit(root: Path) -> Iterator[Path]:
    """The package below ``root``, which is on the path meanwhile; beside it in ``repo`` definitions that use it."""
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    repo = shutil.copytree(_REPO, root.parent / "repo", ignore=shutil.ignore_patterns("__pycache__"))
    text = (repo / "definitions.py").read_text()
    body = "    from shopkit.ratios import ratio\n\n    pairs = zip("
    text = text.replace("    pairs = zip(", body).replace("amount / mean if mean else None", "ratio(amount, mean)")
    (repo / "definitions.py").write_text(text)
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        yield root
    finally:
        sys.path.remove(str(root))
        for name in [name for name in sys.modules if name.partition(".")[0] == "shopkit"]:
            del sys.modules[name]


def digests_of_kit(kit: Path) -> tuple[Any, str | None, str]:
    """Of the tables, of the service, and of a run."""
    task, repo, store = load_task("shopkit.task:TASK"), kit.parent / "repo", kit.parent / "store"
    service = plan_of(install_definitions(repo, store, frozenset()), "tiny").digest
    return (
        origin_of_tables(task, task.splits.end)["code"],
        service,
        code_digest(repo, task_modules("shopkit.task:TASK")),
    )
