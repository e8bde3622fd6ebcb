"""
The graph of a compiled pipeline as SVG: what it runs after what, on what, inside which handler or condition.

By hand, since boxes inside boxes are no chart, and what lays graphs out (Graphviz) would be a program to install.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_WIDTH, _HEIGHT, _GAP, _PAD, _HEAD = 250, 40, 26, 18, 26
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2933}.s{font-size:11px;fill:#52606d}"
    ".step{fill:#fff;stroke:#52606d}.gpu{fill:#fff3d6;stroke:#b7791f}.box{fill:#f5f7fa;stroke:#9aa5b1}"
    ".edge{fill:none;stroke:#9aa5b1}.again{stroke-dasharray:4 3}"
)


@dataclass
class _Node:
    """A step, or a box of steps in an order in which each comes after what it waits for."""

    name: str
    note: str = ""
    kind: str = "step"
    inside: list[_Node] = field(default_factory=list)
    after: list[tuple[int, int]] = field(default_factory=list)
    """Pairs of places in ``inside``: the second waits for the first."""

    @property
    def height(self) -> int:
        if not self.inside:
            return _HEIGHT
        return _HEAD + _PAD + sum(node.height for node in self.inside) + _GAP * (len(self.inside) - 1)

    @property
    def depth(self) -> int:
        return 1 + max((node.depth for node in self.inside), default=-1)


def draw(compiled: Path) -> str:
    """The SVG; equal files give equal drawings."""
    spec = next(yaml.load_all(compiled.read_text("utf-8"), yaml.CSafeLoader))
    root = _node(spec, spec["pipelineInfo"]["name"], spec["root"]["dag"])
    width, height = _WIDTH + 2 * _PAD * root.depth + 120, root.height + 2 * _PAD
    body = "".join(_elements(root, _PAD, _PAD, width - _PAD))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"<style>{_STYLE}</style>{body}</svg>\n"
    )


def _node(spec: dict[str, Any], name: str, dag: dict[str, Any], note: str = "") -> _Node:
    order = _ordered(dag["tasks"])
    inside = [_inner(spec, dag["tasks"][name]) for name in order]
    after = [
        (order.index(before), place)
        for place, name in enumerate(order)
        for before in dag["tasks"][name].get("dependentTasks", [])
    ]
    return _Node(name, note, "box", inside, after)


def _inner(spec: dict[str, Any], task: dict[str, Any]) -> _Node:
    component = spec["components"][task["componentRef"]["name"]]
    title = task["taskInfo"]["name"]
    if "dag" in component:
        return _node(spec, title, component["dag"], _when(task))
    resources = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]["resources"]
    device = resources.get("accelerator")
    notes = [f"{device['resourceCount']} {device['resourceType']}"] if device else []
    notes += [f"{resources['resourceCpuRequest']} CPU, {resources['resourceMemoryRequest']}"]
    if retries := task.get("retryPolicy", {}).get("maxRetryCount"):
        notes.append(f"{retries} {'retry' if retries == 1 else 'retries'}")
    kind = "gpu" if device else "step"
    return _Node(title, ", ".join(notes), kind if task["cachingOptions"] else f"{kind} again")


def _when(task: dict[str, Any]) -> str:
    condition = task.get("triggerPolicy", {}).get("condition", "")
    if not condition:
        return ""
    answer = re.search(r"pipelinechannel--([\w-]+)'", condition)
    return "otherwise" if condition.startswith("!") or answer is None else f"only if {answer[1].replace('-', ' ')}"


def _ordered(tasks: dict[str, Any]) -> list[str]:
    """Each after all that it waits for, else by name."""
    order: list[str] = []
    while len(order) < len(tasks):
        order.append(
            min(
                name
                for name, task in tasks.items()
                if name not in order and set(task.get("dependentTasks", [])) <= set(order)
            )
        )
    return order


def _elements(node: _Node, top: int, left: int, right: int) -> Iterator[str]:
    """The elements of a node between two x; edges between neighbours are straight, the others bow to the right."""
    yield (
        f'<rect class="{node.kind}" x="{left}" y="{top}" width="{right - left}" height="{node.height}" rx="6"/>'
        f'<text x="{left + 10}" y="{top + 17}">{html.escape(node.name)}</text>'
    )
    if not node.inside:
        yield f'<text class="s" x="{left + 10}" y="{top + 32}">{html.escape(node.note)}</text>'
        return
    yield f'<text class="s" x="{right - 10}" y="{top + 17}" text-anchor="end">{html.escape(node.note)}</text>'
    tops, y = [], top + _HEAD
    inner = left + _PAD, right - _PAD if any(one.inside for one in node.inside) else left + _PAD + _WIDTH
    for one in node.inside:
        tops.append(y)
        yield from _elements(one, y, *inner)
        y += one.height + _GAP
    for before, place in node.after:
        start, end = tops[before] + node.inside[before].height, tops[place]
        if place == before + 1:
            x = inner[0] + 24
            yield f'<path class="edge" d="M{x} {start}V{end}"/>'
        elif not node.inside[before].inside:
            x, bow = inner[1], inner[1] + 8 * (place - before)
            middle = start - _HEIGHT // 2, end + _HEIGHT // 2
            yield f'<path class="edge" d="M{x} {middle[0]}C{bow} {middle[0]} {bow} {middle[1]} {x} {middle[1]}"/>'
