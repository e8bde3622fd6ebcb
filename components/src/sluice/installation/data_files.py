"""
Files that a module of somebody's own reads: SQL, settings, small tables that lie beside it.

They are found by their names: a text in the source is the path of a file, from the folder of the module, from one above
it up to its package's, or from that of a package that the source names (``importlib.resources.files("shopkit")``).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

_LONGEST = 200
_CODE = frozenset({".py", ".pyc", ".so"})


def data_files(source: str | bytes, folders: Mapping[str, Path], packages: Mapping[str, Path]) -> dict[str, Path]:
    """
    The files that a source names, by package and path: the same wherever packages lie.

    Args:
        folders: of the module and of the packages that it is in, by their names.
        packages: of all that it may name.
    """
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return {}
    paths = sorted({path for node in nodes for path in _paths(node)})
    known = {path: packages[path] for path in paths if path in packages}
    return {
        f"{name}/{file.relative_to(folder).as_posix()}": file
        for name, folder in {**folders, **known}.items()
        for path in paths
        for file in _files(folder / path)
    }


def _paths(node: ast.AST) -> Iterator[str]:
    """A text; of ``a / "sql" / "x.sql"`` and ``a.joinpath("sql", "x.sql")`` the parts joined."""
    parts = node.args if isinstance(node, ast.Call) else _operands(node)
    texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    path = "/".join(texts)
    if 0 < len(path) <= _LONGEST and path.isprintable() and not path.startswith("/") and ".." not in path.split("/"):
        yield path


def _operands(node: ast.AST) -> list[ast.AST]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return [*_operands(node.left), *_operands(node.right)]
    return [node]


def _files(path: Path) -> Iterator[Path]:
    """The file, or with ``*`` in its name each that it means; of code its imports are followed instead."""
    try:
        files = sorted(path.parent.glob(path.name)) if "*" in path.name else [path]
        yield from (file for file in files if file.suffix not in _CODE and file.is_file())
    except (OSError, ValueError):  # a text that is no path
        return
