"""Panels as a picture: lines, a heatmap, bands of states or a table; the legend has the last value of each series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from PIL import Image, ImageDraw, ImageFont

Points = list[tuple[float, float]]
"""Seconds since 1970 and value."""
_COLOURS = (
    "#73bf69",
    "#f2cc0c",
    "#5794f2",
    "#ff780a",
    "#f2495c",
    "#b877d9",
    "#8ab8ff",
    "#ffa6b0",
    "#96d98d",
    "#e0b400",
)
_PAGE, _PANEL, _GRID, _INK, _FAINT = "#111217", "#181b1f", "#2c3235", "#e6e6e6", "#9fa7b3"
_PLOT, _LEFT, _TOP, _LINE, _GAP = 170, 62, 34, 18, 12
_DURATIONS = ((86400.0, " d"), (3600.0, " h"), (60.0, " min"), (1.0, " s"), (0.001, " ms"))


@dataclass(frozen=True)
class Drawn:
    """One panel with what its queries answered."""

    title: str
    unit: str
    kind: str
    series: Sequence[tuple[str, Points]]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _scale(unit: str, largest: float) -> tuple[float, str]:
    """What a number is divided by, and what is written behind it."""
    if unit == "s":
        return next((found for found in _DURATIONS if largest >= found[0]), _DURATIONS[-1])
    return {"percentunit": (0.01, " %"), "percent": (1.0, " %"), "reqps": (1.0, " /s")}.get(unit, (1.0, ""))


def _step(span: float) -> float:
    """One, two or five times a power of ten, so that about four of them make the span."""
    rough = span / 4
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough)


class _Canvas:
    """One panel's place on the page."""

    def __init__(self, draw: ImageDraw.ImageDraw, x: int, y: int, width: int, height: int) -> None:
        self.draw, self.x, self.y, self.width = draw, x, y, width
        draw.rectangle((x, y, x + width, y + height), fill=_PANEL)
        self.left, self.right, self.top, self.bottom = x + _LEFT, x + width - 16, y + _TOP, y + _TOP + _PLOT

    def text(
        self, at: tuple[float, float], said: str, colour: str = _FAINT, size: int = 12, anchor: str = "lm"
    ) -> None:
        self.draw.text(at, said, fill=colour, font=_font(size), anchor=anchor)

    def across(self, moment: float, begin: float, end: float) -> float:
        return self.left + (self.right - self.left) * (moment - begin) / max(end - begin, 1e-9)

    def times(self, begin: float, end: float) -> None:
        first = math.ceil(begin / 30) * 30
        for moment in range(first, int(end) + 1, 30):
            at = self.across(moment, begin, end)
            self.draw.line((at, self.top, at, self.bottom), fill=_GRID)
            if self.left + 24 < at < self.right - 24:
                said = datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S")
                self.text((at, self.bottom + 12), said, size=11, anchor="mm")


def _lines(canvas: _Canvas, panel: Drawn, begin: float, end: float) -> None:
    values = [value for _, points in panel.series for _, value in points]
    low, high = min(0.0, *values), max(values)
    divisor, _ = _scale(panel.unit, high)
    low, high = low / divisor, (high if high > low else low + divisor) / divisor
    step = _step((high - low) * 1.05)
    high = step * math.ceil(high / step - 1e-6)

    def up(value: float) -> float:
        return canvas.bottom - _PLOT * (value - low) / (high - low)

    for number in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1):
        at = up(number * step)
        canvas.draw.line((canvas.left, at, canvas.right, at), fill=_GRID)
        canvas.text((canvas.left - 6, at), f"{number * step:.6g}{_scale(panel.unit, high * divisor)[1]}", anchor="rm")
    for number, (_, points) in enumerate(panel.series):
        width = 2 + max(0, min(len(panel.series), 3) - 1 - number)  # what lies on each other is seen
        way = [(canvas.across(moment, begin, end), up(value / divisor)) for moment, value in points]
        canvas.draw.line(way if len(way) > 1 else way * 2, fill=_COLOURS[number % len(_COLOURS)], width=width)


def _heat(canvas: _Canvas, panel: Drawn, begin: float, end: float) -> None:
    ordered = sorted(panel.series, key=lambda one: float(one[0]))
    below = [dict(points) for _, points in ordered]
    moments = sorted(below[-1])
    cells = [[row.get(t, 0) - (below[k - 1].get(t, 0) if k else 0) for t in moments] for k, row in enumerate(below)]
    most, tall = max(max(row) for row in cells) or 1.0, _PLOT / len(cells)
    for k, row in enumerate(cells):
        at = canvas.bottom - tall * (k + 1)
        for moment, value in zip(moments, row, strict=True):
            share = (max(value, 0.0) / most) ** 0.6
            colour = (int(24 + 231 * share), int(27 + 150 * share**2), int(31 + 60 * share * (1 - share)))
            left = canvas.across(moment, begin, end)
            canvas.draw.rectangle((left, at, left + (canvas.right - canvas.left) / len(moments), at + tall), colour)
        if k % 4 == 3:
            canvas.text((canvas.left - 6, at + tall / 2), ordered[k][0], anchor="rm", size=11)


def _states(canvas: _Canvas, panel: Drawn, begin: float, end: float) -> None:
    tall = min(44.0, _PLOT / len(panel.series))
    for number, (name, points) in enumerate(panel.series):
        top = canvas.top + 8 + number * (tall + 8)
        left, right = (canvas.across(points[k][0], begin, end) for k in (0, -1))
        canvas.draw.rectangle((left, top, right, top + tall), fill=_COLOURS[number % len(_COLOURS)])
        canvas.text(((left + right) / 2, top + tall / 2), name, "#111217", 13, "mm")


def _table(canvas: _Canvas, panel: Drawn) -> None:
    for number, (name, points) in enumerate(panel.series):
        at = canvas.top + 14 + number * 24
        canvas.draw.line((canvas.x + 16, at + 12, canvas.right, at + 12), fill=_GRID)
        canvas.text((canvas.x + 16, at), name, _INK, 13)
        canvas.text((canvas.right, at), _said(points[-1][1], panel.unit), _INK, 13, "rm")


def _said(value: float, unit: str) -> str:
    divisor, behind = _scale(unit, abs(value))
    return f"{value / divisor:.3g}{behind}" if value else f"0{behind if unit != 's' else ' s'}"


def _legend(panel: Drawn, width: int) -> list[list[tuple[int, str]]]:
    """Lines of series number and text, none wider than the panel."""
    if panel.kind in {"heatmap", "state-timeline", "table"}:
        return []
    lines: list[list[tuple[int, str]]] = [[]]
    used = 0.0
    for number, (name, points) in enumerate(panel.series):
        text = f"{name}  {_said(points[-1][1], panel.unit)}"
        needed = _font(12).getlength(text) + 42
        if lines[-1] and used + needed > width - 24:
            lines.append([])
            used = 0.0
        lines[-1].append((number, text))
        used += needed
    return lines


def _panel(canvas: _Canvas, panel: Drawn, begin: float, end: float) -> None:
    canvas.text((canvas.x + 12, canvas.y + 16), panel.title, _INK, 14)
    if panel.kind == "table":
        _table(canvas, panel)
        return
    canvas.times(begin, end)
    {"heatmap": _heat, "state-timeline": _states}.get(panel.kind, _lines)(canvas, panel, begin, end)
    for row, line in enumerate(_legend(panel, canvas.width)):
        x, y = float(canvas.x + 12), canvas.bottom + 34 + row * _LINE
        for number, text in line:
            canvas.draw.line((x, y, x + 20, y), fill=_COLOURS[number % len(_COLOURS)], width=3)
            canvas.text((x + 26, y), text)
            x += _font(12).getlength(text) + 42


def page(panels: Sequence[Drawn], columns: int, begin: float, end: float) -> Image.Image:
    """
    All panels from left to right, 1300 pixels wide.

    Args:
        panels: each with at least one series of at least one point.
        begin, end: of the time axis.
    """
    width = (1300 - _GAP * (columns + 1)) // columns
    rows = [panels[k : k + columns] for k in range(0, len(panels), columns)]
    heights = [
        _TOP + _PLOT + 30 + _LINE * max(1, *(len(_legend(one, width)) for one in (row[0], *row))) for row in rows
    ]
    picture = Image.new("RGB", (1300, sum(heights) + _GAP * (len(rows) + 1)), _PAGE)
    draw, y = ImageDraw.Draw(picture), _GAP
    for row, height in zip(rows, heights, strict=True):
        for number, panel in enumerate(row):
            _panel(_Canvas(draw, _GAP + number * (width + _GAP), y, width, height), panel, begin, end)
        y += height + _GAP
    return picture
