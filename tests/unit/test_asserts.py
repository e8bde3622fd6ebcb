"""A test asserts something whatever happens: not in a branch alone, nor in a loop alone that may run zero times."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
_RAISE = frozenset({"raises", "warns", "fail"})


def asserting(statements: Iterable[ast.stmt], helpers: frozenset[str] = frozenset()) -> Iterator[ast.stmt]:
    """Statements that assert whenever the block runs; a call of one of ``helpers`` asserts too."""
    for each in statements:
        if isinstance(each, ast.Assert) or _calls(each) & (helpers | _RAISE):
            yield each
        elif isinstance(each, ast.With | ast.AsyncWith):
            yield from asserting(each.body, helpers)
        elif isinstance(each, ast.Try):
            yield from asserting([*each.body, *each.orelse, *each.finalbody], helpers)
        elif (
            isinstance(each, ast.If)
            and each.orelse
            and all(any(asserting(branch, helpers)) for branch in (each.body, each.orelse))
        ):
            yield each
        elif isinstance(each, ast.For) and _has_elements(each.iter):
            yield from asserting(each.body, helpers)


def _calls(statement: ast.stmt) -> set[str]:
    """Names of the functions that are called by a plain statement, or as one begins."""
    heads = [item.context_expr for item in statement.items] if isinstance(statement, ast.With | ast.AsyncWith) else []
    parts = [statement] if isinstance(statement, ast.Expr | ast.Assign | ast.AnnAssign | ast.Return) else heads
    calls = (node.func for part in parts for node in ast.walk(part) if isinstance(node, ast.Call))
    return {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}


def _has_elements(iterable: ast.expr) -> bool:
    """Whether what a loop runs over is written beside it, with at least one element."""
    return bool(getattr(iterable, "elts", None) or getattr(iterable, "keys", None))


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@cache
def _shared() -> frozenset[str]:
    """Functions of tests/support that assert."""
    paths = (TESTS / "support").rglob("*.py")
    return frozenset(each.name for path in paths for each in _functions(path) if any(asserting(each.body)))


def silent_tests(path: Path) -> list[str]:
    """Tests of a file that may assert nothing."""
    functions = list(_functions(path))
    own = frozenset(each.name for each in functions if any(asserting(each.body)))
    tests = [each for each in functions if each.name.startswith("test_")]
    return [each.name for each in tests if not any(asserting(each.body, own - {each.name} | _shared()))]


@pytest.mark.parametrize("suite", ["unit", "integration", "cluster", "faults"])
def test_every_test_asserts_whatever_happens(suite: str) -> None:
    paths = sorted((TESTS / suite).glob("test_*.py"))
    assert paths
    assert {path.name: silent for path in paths if (silent := silent_tests(path))} == {}


@pytest.mark.parametrize(
    ("body", "speaks"),
    [
        ("assert x", True),
        ("ask()", False),
        ("check(x)", True),
        ("with pytest.raises(ValueError):\n  ask()", True),
        ("with open(x) as y:\n  assert y", True),
        ("for y in x:\n  assert y", False),
        ("for y in (1, 2):\n  assert y", True),
        ("for y in ():\n  assert y", False),
        ("while x:\n  assert x", False),
        ("if x:\n  assert x", False),
        ("if x:\n  assert x\nelse:\n  check(x)", True),
        ("try:\n  ask()\nexcept ValueError:\n  assert x", False),
    ],
)
def test_branches_and_loops_may_be_passed_by(body: str, speaks: bool, tmp_path: Path) -> None:
    lines = "\n".join(f"  {line}" for line in body.splitlines())
    path = tmp_path / "test_it.py"
    path.write_text(f"def check(x):\n  assert x\n\ndef test_it(x):\n{lines}\n")
    assert silent_tests(path) == ([] if speaks else ["test_it"])
