"""Names: a type's is its own in the whole code base, and a value's says what it is, not what was done with it."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("components/src", "pipelines/src", "serving/src", "feature_repo")
WORDS = """
answering asked began begun built called came changed checked chosen compared counted done drawn ended found given got
held joined judged keeping kept looked lost made measured met moved named packed placed played said seen sent served
settled shipped shown spent standing started stopped taken titled told tried used waited wanted watched written
"""
PARTICIPLES = frozenset(WORDS.split())
"""Fixed, so that the share can be compared from commit to commit."""
MOST = 0.005
"""Share of bound names that are one of these; only ever lowered."""


def modules() -> Iterator[ast.Module]:
    """Every module of the production code."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield ast.parse(path.read_text())


def types_of(module: ast.Module) -> Iterator[str]:
    """Names of a module's classes, nested ones too, and of its aliases in capitals and small letters."""
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef):
            yield node.name.lstrip("_")
    for statement in module.body:
        for name in bound_names(statement) if isinstance(statement, ast.Assign | ast.AnnAssign) else ():
            if name.lstrip("_")[:1].isupper() and not name.isupper():
                yield name.lstrip("_")


def bound_names(node: ast.AST) -> Iterator[str]:
    """Names of variables, parameters, functions and classes that a part of a module binds."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            yield inner.id
        elif isinstance(inner, ast.arg):
            yield inner.arg
        elif isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield inner.name


def test_a_type_has_a_name_of_its_own() -> None:
    types = Counter(name for module in modules() for name in types_of(module))
    assert len(types) > 300, "types are found"
    assert [name for name, n in types.items() if n > 1] == []


def test_values_and_functions_are_called_by_nouns_and_phrases() -> None:
    names = [name.strip("_").lower() for module in modules() for name in bound_names(module)]
    participles = Counter(name for name in names if name in PARTICIPLES)
    assert len(names) > 10_000, "names are found"
    assert participles.total() <= MOST * len(names), participles.most_common(20)


def test_private_nested_and_aliased_types_count_and_constants_do_not() -> None:
    module = ast.parse("class _Outer:\n class Inner: ...\nAlias = int\n_Other: type = str\nLIMIT = 3\nlower = 4")
    assert sorted(types_of(module)) == ["Alias", "Inner", "Other", "Outer"]
