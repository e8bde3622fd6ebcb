"""
YAML that people write, read so that nothing in it is guessed, repeated or blown up.

Words and numbers are those of YAML 1.2's core schema, beside merge keys; dates are texts. PyYAML reads YAML 1.1 (``on``
is true, ``2:00`` is 120, ``010`` is 8), and so do tools that read the same files: what the two understand unlike is
refused, and the spelling that both understand is named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import yaml
from yaml.composer import Composer

_MOST_BYTES = 1 << 20
_MOST_NODES = 20_000
"""Nodes after aliases are followed: nine aliases in each of nine lists would be a thousand million."""
_TAG = "tag:yaml.org,2002:"
_MERGE, _TEXT, _DATE = f"{_TAG}merge", f"{_TAG}str", f"{_TAG}timestamp"
_NOT_TEXT = {f"{_TAG}{name}" for name in ("bool", "null", "int", "float")}
_DIGITS = "0123456789"
_CORE = {
    "bool": ("tTfF", r"true|True|TRUE|false|False|FALSE"),
    "null": (["", *"~nN"], r"|~|null|Null|NULL"),
    "int": (f"-+{_DIGITS}", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    "float": (
        f"-+.{_DIGITS}",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    ),
    "merge": ("<", "<<"),
}
"""First characters and form of what is no text, the first that fits."""
_Resolvers = Mapping[str, Sequence[tuple[str, re.Pattern[str]]]]


class _CoreLoader(Composer, yaml.CSafeLoader):
    """YAML 1.2's core schema; libyaml finds the words, PyYAML's own scanner would take most of the time."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def __init__(self, text: bytes | str) -> None:
        yaml.CSafeLoader.__init__(self, text)
        Composer.__init__(self)


for _name, (_firsts, _form) in _CORE.items():
    _CoreLoader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"(?:{_form})\Z"), _firsts)
_CoreLoader.add_implicit_resolver(_DATE, dict(yaml.SafeLoader.yaml_implicit_resolvers["2"])[_DATE], _DIGITS)


def _number(loader: yaml.CSafeLoader, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node))
    if node.tag == f"{_TAG}int":
        return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
    return float(text.replace(".", "") if text[-1:].isalpha() else text)


def _date(loader: yaml.CSafeLoader, node: yaml.ScalarNode) -> str:
    """As it is written, where the calendar has it."""
    loader.construct_yaml_timestamp(node)
    return str(node.value)


_CoreLoader.add_constructor(f"{_TAG}int", _number)
_CoreLoader.add_constructor(f"{_TAG}float", _number)
_CoreLoader.add_constructor(_DATE, _date)


class _SpellingError(ValueError):
    """YAML 1.1 and 1.2 understand a word unlike."""


class _ClearLoader(_CoreLoader):
    """The same of words that YAML 1.1 understands no other way."""

    def compose_scalar_node(self, anchor: dict[str, yaml.Node]) -> yaml.ScalarNode:
        """As PyYAML does; what is neither quoted nor called a text is looked at."""
        event: yaml.ScalarEvent = self.peek_event()  # type: ignore[assignment]
        if not event.style and event.tag in {None, "!", *_NOT_TEXT}:
            _require_clear(event.value, event.start_mark.line + 1 if event.start_mark else 1)
        return super().compose_scalar_node(anchor)


def read_yaml(text: bytes) -> Any:
    """
    The value of one YAML document; anchors, aliases and merge keys may be used.

    Raises:
        ValueError: not YAML, a spelling that YAML 1.1 understands otherwise, a key twice in one mapping, aliases that
            contain themselves or multiply beyond measure, a document that is too large or too deep. The message is one
            line.
    """
    if len(text) > _MOST_BYTES:
        raise ValueError(f"is larger than {_MOST_BYTES} bytes")
    try:
        loader = _ClearLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _measure(node, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except _SpellingError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, ArithmeticError) as error:
        raise ValueError(f"is not YAML ({' '.join(str(error).split())[:300]})") from error
    except RecursionError as error:
        raise ValueError("is not YAML that can be read: it is too deep") from error


def line_of(text: bytes, keys: Sequence[str | int]) -> int:
    """
    The line, from 1, of what ``keys`` lead to in a document that ``read_yaml`` reads; of the last key that is there.

    Keys that come by way of an alias or a merge key are found where they are written.
    """
    node, mark = yaml.compose(text, yaml.CSafeLoader), None
    for key in keys:
        place = _below(node, key)
        if place is None:
            break
        node, mark = place
    start = mark or (node.start_mark if node else None)
    return start.line + 1 if start else 1


def _below(node: yaml.Node | None, key: str | int) -> tuple[yaml.Node, yaml.Mark] | None:
    """The node below ``key``, and where the key (or the item of a sequence) is written."""
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key].start_mark
    if not isinstance(node, yaml.MappingNode):
        return None
    for name, value in node.value:
        if isinstance(name, yaml.ScalarNode) and name.tag != _MERGE and name.value == key:
            return value, name.start_mark
    merged = [value for name, value in node.value if name.tag == _MERGE]
    parts = [part for value in merged for part in (value.value if isinstance(value, yaml.SequenceNode) else [value])]
    return next((place for part in parts if (place := _below(part, key))), None)


def _measure(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Nodes below and with ``node``, aliases counted each time; ``sizes`` remembers, 0 marks what is being counted."""
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise ValueError("an alias contains itself")
        return sizes[id(node)]
    sizes[id(node)] = 0
    size = 1 + sum(_measure(child, sizes) for child in _children(node))
    if size > _MOST_NODES:
        raise ValueError(f"it holds more than {_MOST_NODES} values")
    sizes[id(node)] = size
    return size


def _require_clear(text: str, line: int) -> None:
    before = _tag(text, yaml.SafeLoader.yaml_implicit_resolvers)
    if before not in _NOT_TEXT and not re.fullmatch("[-+]?0[0-9]+", text):
        return
    older, newer = yaml.load(text, yaml.CSafeLoader), yaml.load(text, _CoreLoader)  # noqa: S506  a safe one
    if repr(older) == repr(newer):  # NaN is no equal of itself
        return
    spellings = " or ".join(json.dumps(value, default=str, ensure_ascii=False) for value in (older, newer))
    raise _SpellingError(f"has {text!r} in line {line}, which readers of YAML understand unlike: write {spellings}")


def _tag(text: str, resolvers: _Resolvers) -> str:
    return next((tag for tag, form in resolvers.get(text[:1], ()) if form.match(text)), _TEXT)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        names: set[Hashable] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE else None
            if name is not None and name in names:
                raise ValueError(f"key {name!r} is there twice, line {key.start_mark.line + 1}")
            names.add(name)
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
