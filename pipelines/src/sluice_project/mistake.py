"""What is wrong with a repository: where, which rule, which fix."""

from __future__ import annotations

import ast
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sluice.errors import SluiceError, one_line


@dataclass(frozen=True)
class Mistake:
    """
    One thing that is wrong.

    Attributes:
        path: of the file, from the project's folder.
        line: from 1.
        rule: what is wrong.
        fix: what to do about it.
        trace: of an error in a function of the project's own: its frames there, the last one first.
    """

    path: str
    line: int
    rule: str
    fix: str
    trace: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """On one line."""
        return f"{self.path}:{self.line}: {self.rule}; {self.fix}"


def mistake_of(error: SluiceError, path: str, line: int = 1) -> Mistake:
    """An error that the platform raises, as a mistake in a file."""
    return Mistake(path, line, f"{error.thing}: {error.rule}", error.fix)


def raised_in(error: BaseException, folder: Path, path: str, handed: str, fix: str) -> Mistake:
    """
    What a function of the project's own raised.

    Args:
        path: named where no frame is in the project's folder.
        handed: what the platform had handed over.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _within(frame.filename, folder)]
    places = [(_shown(frame.filename, folder), frame) for frame in reversed(frames)]
    trace = [f"{place}:{frame.lineno} in {frame.name}: {frame.line}" for place, frame in places]
    where, line = (places[0][0], places[0][1].lineno or 1) if places else (path, getattr(error, "lineno", None) or 1)
    if isinstance(error, SyntaxError) and error.filename and _within(error.filename, folder):
        where, line = _shown(error.filename, folder), error.lineno or 1
    rule = f"raises {type(error).__name__} ({one_line(error, 200)})"
    return Mistake(where, line, rule, fix, (*trace, *([f"handed over: {handed}"] if handed else [])))


def _within(name: str, folder: Path) -> bool:
    path = Path(name)
    return path.is_relative_to(folder) and not {".venv", "site-packages"} & set(path.parts)


def _shown(name: str, folder: Path) -> str:
    return Path(name).relative_to(folder).as_posix()


class SourceLines:
    """Where a declaration says what it says: lines of ``NAME = Something(field=…)`` in a Python file."""

    def __init__(self, path: Path, attribute: str) -> None:
        self._call: ast.Call | None = None
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            return
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if attribute in [target.id for target in targets if isinstance(target, ast.Name)]:
                    self._call = node.value

    def of(self, field: str, value: str = "", *others: str) -> int:
        """The line of a text in a field, or of the field, or of the first of the others that is there, or the first."""
        if self._call is None:
            return 1
        fields = {keyword.arg: keyword.value for keyword in self._call.keywords}
        if field in fields:
            return next((place for place in _places(fields[field], value)), fields[field].lineno)
        return next((fields[name].lineno for name in others if name in fields), self._call.lineno)


def _places(node: ast.expr, text: str) -> Iterator[int]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and each.value == text:
            yield each.lineno
