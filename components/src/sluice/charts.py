"""
Charts: Vega-Lite specifications in one theme, drawn as static SVG by vl-convert (the extra ``charts``).

Specifications are plain dictionaries: Altair would add only checks to them, at 0.7 s an import. Colours are names of a
theme: a page defines them as CSS variables, light and dark; in a file of its own a picture has the light ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from xml.etree import ElementTree

from sluice.errors import BadInput

Specification = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]

LIGHT = {
    "bg": "#ffffff", "panel": "#f6f7f9", "ink": "#1b2430", "soft": "#566273", "faint": "#8a94a3", "rule": "#e2e6eb",
    "grid": "#eaedf1", "main": "#1f66a8", "main-soft": "rgba(31, 102, 168, .14)", "other": "#8592a3",
    "train": "#1f66a8", "tune": "#c98a00", "test": "#0b8a74", "live": "#a35a94", "pass": "#0a6e5a",
    "pass-bg": "#e2f3ee", "fail": "#b3380f", "fail-bg": "#fceae3", "wait": "#765c00", "wait-bg": "#faf1d2",
}  # fmt: skip
DARK = {
    "bg": "#11151b", "panel": "#191f27", "ink": "#e4e9f0", "soft": "#a3afbf", "faint": "#76828f", "rule": "#2b333e",
    "grid": "#232a34", "main": "#6db1ee", "main-soft": "rgba(109, 177, 238, .17)", "other": "#7e8b9c",
    "train": "#6db1ee", "tune": "#e5b84b", "test": "#4cc3a9", "live": "#d99acb", "pass": "#5fd0b3",
    "pass-bg": "#12312b", "fail": "#ff9069", "fail-bg": "#3b1f16", "wait": "#e8c660", "wait-bg": "#332b12",
}  # fmt: skip
GUIDE = {"color": "var(--faint)", "strokeWidth": 1}
BOUND = {"color": "var(--fail)", "strokeWidth": 1.3, "strokeDash": [4, 3]}
NOTE = {"color": "var(--soft)", "fontSize": 11}
_CONFIG: Specification = {
    "font": "sans-serif",
    "locale": {"number": {"decimal": ".", "thousands": "\u202f", "grouping": [3], "currency": ["", ""]}},
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--soft)", "labelFontSize": 11, "labelOverlap": False, "tickColor": "var(--faint)",
        "titleColor": "var(--soft)", "titleFontSize": 11, "titleFontWeight": "normal", "tickSize": 4, "tickCount": 5,
        "gridColor": "var(--grid)", "domainColor": "var(--faint)",
    },
    "axisQuantitative": {"labelOverlap": "greedy", "labelSeparation": 4},
    "axisTemporal": {"labelOverlap": "greedy", "labelSeparation": 4},
    "axisX": {"grid": False, "titlePadding": 8, "labelFlush": False},
    "axisY": {"domain": False, "ticks": False, "labelPadding": 6, "titlePadding": 10},
    "mark": {"color": "var(--main)"},
    "point": {"filled": True, "opacity": 1, "size": 52, "stroke": "var(--bg)", "strokeWidth": 1},
    "rule": {"color": "var(--main)", "strokeWidth": 1.8},
    "text": {"fontSize": 11.5, "color": "var(--ink)"},
    "title": {"fontSize": 11.5, "color": "var(--ink)", "subtitleColor": "var(--soft)", "anchor": "start", "offset": 5},
}  # fmt: skip
_TYPES = {"Q": "quantitative", "T": "temporal", "N": "nominal"}
_LOOKS = ("color", "fill", "stroke", "shape")


def channel(field: str, **more: Any) -> Specification:
    """A channel of a field ``name:Q`` (T, N; bare where Vega-Lite wants no type), and what else is said of it."""
    name, _, kind = field.partition(":")
    if kind == "T":
        more["scale"] = {"type": "utc", **more.get("scale", {})}
    return {"field": name, **({"type": _TYPES[kind]} if kind else {}), **more}


def by_verdict() -> Specification:
    """The channels that tell PASS, FAIL and INCONCLUSIVE in a row's ``verdict`` apart, by shape as well as colour."""
    looks = {
        "shape": ["circle", "M-1,-1L1,1M1,-1L-1,1", "diamond"],
        "fill": ["var(--pass)", "var(--fail)", "var(--bg)"],
        "stroke": ["var(--bg)", "var(--fail)", "var(--wait)"],
        "strokeWidth": [1, 2.6, 1.6],
        "size": [46, 60, 78],
    }
    names = ["PASS", "FAIL", "INCONCLUSIVE"]
    return {key: channel("verdict:N", scale={"domain": names, "range": of}, legend=None) for key, of in looks.items()}


def row_names(field: str, strong: Sequence[str] = (), colour: str = "var(--fail)") -> Specification:
    """A vertical channel with a line a name; ``strong`` ones are bold and in ``colour``."""
    match = {"test": f"indexof({json.dumps(list(strong))}, datum.value) >= 0"}
    ink = {"condition": {**match, "value": colour}, "value": "var(--ink)"}
    weight = {"condition": {**match, "value": "bold"}, "value": "normal"}
    axis = {"title": None, "labelFontSize": 11.5, "labelLimit": 190, "labelColor": ink, "labelFontWeight": weight}
    return channel(f"{field}:N", axis=axis, sort=None)


def mark(kind: str, style: Specification | None = None, rows: Rows | None = None, **channels: Any) -> Specification:
    """
    A layer: one mark a row, of the chart's rows or of others.

    A channel is a field (as :func:`channel` takes it; of colours and shapes one that holds them), a number of pixels, a
    colour of the theme, or what Vega-Lite says; ``description`` is a tooltip.
    """
    data = {} if rows is None else {"data": {"values": rows}}
    kinds = {"type": kind, "aria": "description" in channels, **(style or {})}
    return {**data, "mark": kinds, "encoding": _encoding(channels)}


def chart(label: str, rows: Rows, layers: Sequence[Specification], size: Specification, **shared: Any) -> Specification:
    """Layers over rows, the lowest first, with the channels that they share; ``label`` is what screen readers say."""
    return {"description": label, "data": {"values": rows}, "encoding": _encoding(shared), "layer": layers, **size}


def _encoding(channels: Mapping[str, Any]) -> Specification:
    encoding: Specification = {}
    for name, value in channels.items():
        if isinstance(value, int | float) or (isinstance(value, str) and value.startswith("var(")):
            encoding[name] = {"value": value}
        elif isinstance(value, str):
            encoding[name] = {"field": value, "type": "nominal", "scale": None} if name in _LOOKS else channel(value)
        else:
            encoding[name] = value
    return encoding


def draw(specification: Specification, *, inline: bool = False) -> str:
    """
    A specification with a ``description`` as ``<svg>``; equal ones give equal bytes on a machine.

    Args:
        specification: Vega-Lite, without theme.
        inline: for a page that defines the theme's CSS variables, as wide as its column; else for a file.

    Raises:
        BadInput: the extra ``charts`` is not installed.
    """
    return _draw(json.dumps(specification), inline)


def need_charts() -> Any:
    """
    The drawing engine.

    Raises:
        BadInput: the extra ``charts`` is not installed.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise BadInput("charts", "vl-convert-python is not installed", "install sluice[charts]") from error
    return vl_convert


@lru_cache(maxsize=256)
def _draw(specification: str, inline: bool) -> str:
    themed = {**json.loads(specification), "config": _CONFIG, "padding": 5 if inline else 16}
    label, themed["background"] = themed.pop("description"), None if inline else LIGHT["bg"]
    svg = need_charts().vegalite_to_svg(themed, vl_version="6.4", allowed_base_urls=[])
    root = ElementTree.fromstring(re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg))  # noqa: S314  the engine's own
    _plain(root)
    width, height = root.attrib.pop("width"), root.attrib.pop("height")
    root.attrib |= {"class": "chart", "role": "img", "aria-label": label}
    if inline:
        root.set("style", f"max-width:{1.16 * float(width):.0f}px")
        return ElementTree.tostring(root, "unicode")
    root.attrib |= {"xmlns": "http://www.w3.org/2000/svg", "width": width, "height": height}
    return re.sub(r"var\(--([\w-]+)\)", lambda match: LIGHT[match[1]], ElementTree.tostring(root, "unicode")) + "\n"


def _plain(element: ElementTree.Element) -> None:
    """Take out what is never seen, and make a tooltip of what only a screen reader would hear of a mark."""
    for inside in list(element):
        unseen = inside.get("display") == "none" or (inside.tag == "text" and inside.get("opacity") == "0")
        if unseen or (inside.get("class") == "background" and "stroke" not in inside.attrib):
            element.remove(inside)
        _plain(inside)
    if (words := element.get("aria-label")) and element.get("aria-roledescription") not in {"title", "axis", "legend"}:
        ElementTree.SubElement(element, "title").text = words
    for name in ("aria-label", "aria-hidden", "aria-roledescription", "role", "class", "pointer-events"):
        element.attrib.pop(name, None)
