"""Tests share by tests/support alone: no test imports a test, and a module that is no test lies there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITES = ("faults", "bench", "replay_pairs", "golden")
"""Programs of their own, with modules of their own."""
NAMED = re.compile(r"\btests\.\w+(?:\.\w+)*")
"""Also in the text of a process that a test starts, as ``tests.support.tiny_task:TASK``."""


def modules_named(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each module of tests that a file imports, or names in a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "." * node.level
        elif isinstance(node, ast.ImportFrom) and node.module == "tests":
            yield from ((node.lineno, f"tests.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests."):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "tests")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from ((node.lineno, name) for name in NAMED.findall(node.value))


def allowed(name: str, own: str) -> bool:
    """Whether a module may name another: what is shared, itself, or one of its own suite."""
    suite = own.split(".")[1]
    shared = ("tests.support", *(f"tests.{each}" for each in SUITES if each == suite))
    return any(f"{name}.".startswith(f"{place}.") for place in (*shared, own))


def faults(root: Path) -> list[str]:
    """Each place that breaks the rule, and what to do."""
    found = []
    for path in sorted((root / "tests").rglob("*.py")):
        place = path.relative_to(root)
        own = ".".join(place.with_suffix("").parts)
        for line, name in modules_named(ast.parse(path.read_text())):
            if not allowed(name, own):
                found.append(f"{place}:{line} names {name}: move what both need to tests/support")
        if place.parts[1] not in ("support", *SUITES) and not re.fullmatch(r"test_\w+|conftest", path.stem):
            found.append(f"{place} is no test: move it to tests/support")
    return found


def test_tests_share_by_support_alone() -> None:
    assert faults(ROOT) == []
    assert len(list((ROOT / "tests/unit").glob("test_*.py"))) > 50, "it looked somewhere else"


# In these texts @ stands for the name of the package, or this file would break its own rule.
@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("unit/test_a.py", "from @.unit.test_b import SAMPLE\n", "names @.unit.test_b.SAMPLE"),
        ("unit/test_a.py", "def test_a():\n    from @.cluster import test_b\n", ":2 names @.cluster.test_b"),
        ("unit/test_a.py", "import @.faults.sample\n", "names @.faults.sample"),
        ("unit/test_a.py", "from .test_b import SAMPLE\n", "names ."),
        ("unit/test_a.py", "from @ import unit\n", "names @.unit"),
        ("unit/test_a.py", 'TASK = "@.unit.sample:TASK"\n', "names @.unit.sample"),
        ("unit/test_a.py", "from @.supporters import SAMPLE\n", "names @.supporters"),
        ("support/sample.py", "from @.unit.test_a import SAMPLE\n", "names @.unit.test_a.SAMPLE"),
        ("faults/sample.py", "from @.bench.race import SAMPLE\n", "names @.bench.race"),
        ("integration/sample.py", "SAMPLE = 1\n", "integration/sample.py is no test"),
    ],
)
def test_what_breaks_the_rule_is_named_with_its_place(tmp_path: Path, name: str, text: str, says: str) -> None:
    path = tmp_path / "tests" / name
    path.parent.mkdir(parents=True)
    path.write_text(text.replace("@", "tests"))
    (found,) = faults(tmp_path)
    assert found.startswith(f"tests/{name}")
    assert says.replace("@", "tests") in found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("unit/test_a.py", "from @.support.release import A\nfrom sluice.errors import BadInput\n"),
        ("unit/test_a.py", 'OWN = "from @.unit.test_a import SAMPLE"\n'),
        ("faults/sample.py", "from @.faults.play import play\nfrom @.support import release\n"),
        ("cluster/conftest.py", "from @.support.cluster.kubectl import get\n"),
    ],
)
def test_what_keeps_the_rule_passes(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / "tests" / name
    path.parent.mkdir(parents=True)
    path.write_text(text.replace("@", "tests"))
    assert faults(tmp_path) == []
