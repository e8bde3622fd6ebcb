"""YAML that people write, read so that nothing in it is guessed, repeated or blown up."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import yaml

_MOST_BYTES = 1 << 20
_MOST_NODES = 20_000
"""Nodes after aliases are followed: nine aliases in each of nine lists would be a thousand million."""
_MERGE = "tag:yaml.org,2002:merge"


def read_yaml(text: bytes) -> Any:
    """
    The value of one YAML document; anchors, aliases and merge keys may be used.

    Raises:
        ValueError: not YAML, a key twice in one mapping, aliases that contain themselves or multiply beyond measure, a
            document that is too large or too deep. The message is one line.
    """
    if len(text) > _MOST_BYTES:
        raise ValueError(f"is larger than {_MOST_BYTES} bytes")
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _measure(node, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, TypeError, ArithmeticError) as error:
        raise ValueError(f"is not YAML ({' '.join(str(error).split())[:300]})") from error
    except RecursionError as error:
        raise ValueError("is not YAML that can be read: it is too deep") from error


def line_of(text: bytes, keys: Sequence[str | int]) -> int:
    """
    The line, from 1, of what ``keys`` lead to in a document that ``read_yaml`` reads; of the last key that is there.

    Keys that come by way of an alias or a merge key are found where they are written.
    """
    node, mark = yaml.compose(text, yaml.SafeLoader), None
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
