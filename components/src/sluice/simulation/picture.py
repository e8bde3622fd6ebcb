"""The pictures of docs/simulation.md as plain SVG: how rollouts end in each world, and who is how often wrong."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from sluice.simulation.report import Simulated, percent
from sluice.simulation.summary import Summary

_PROMOTED, _BACK, _LATE = "#2f6f9f", "#c8803a", "#c9c9c9"
_WRONG, _INK, _FAINT = "#b3261e", "#222222", "#666666"
_STYLE = "font-family='system-ui, sans-serif' font-size='13'"
_ROW, _LEFT, _BAR = 30, 144, 420


def endings(simulated: Simulated) -> str:
    """Bars of promoted, rolled back and timed out; a red frame around the wrong part."""
    width, top = 974, 92
    height = top + _ROW * len(simulated.ours) + 34
    parts = [
        _text(16, 28, "How rollouts end, world by world", size=18, weight="600"),
        _text(16, 48, simulated.preamble(), fill=_FAINT, size=11),
        *_legend(_LEFT, 68),
        _text(_LEFT + _BAR + 16, 82, "wrong decisions (95 % interval)", fill=_FAINT, size=11),
        _text(_LEFT + _BAR + 226, 82, "median requests · exposed", fill=_FAINT, size=11),
    ]
    for index, summary in enumerate(simulated.ours):
        parts += _bar(summary, top + _ROW * index)
    label = "Share of rollouts promoted, rolled back and timed out in each world"
    return _svg(width, height, label, parts)


def mistakes(simulated: Simulated) -> str:
    """A cell a rule and world: the share of wrong decisions, the redder the more."""
    left, cell, top = 250, 118, 92
    rivals = list(simulated.table)
    width, height = left + cell * len(rivals) + 16, top + _ROW * len(simulated.worlds) + 24
    parts = [
        _text(16, 28, "Wrong decisions, rule by rule, on the same requests", size=18, weight="600"),
        _text(
            16, 48, "good world: share rolled back by a FAIL · bad world or broken road: share promoted", fill=_FAINT
        ),
    ]
    for column, rival in enumerate(rivals):
        weight = "700" if column == 0 else "400"
        parts.append(_text(left + cell * (column + 0.5), top - 12, rival.name, anchor="middle", weight=weight))
    for row, world in enumerate(simulated.worlds):
        y = top + _ROW * row
        parts += [_text(16, y + 19, world.name), _text(left - 14, y + 19, world.truth, fill=_FAINT, anchor="end")]
        for column, rival in enumerate(rivals):
            parts += _cell(left + cell * column, y, cell, simulated.table[rival][row].wrong.share)
    return _svg(width, height, "Share of wrong decisions by rule and world", parts)


def _bar(summary: Summary, y: float) -> list[str]:
    shares = (
        (summary.promoted.share, _PROMOTED, summary.truth != "good"),
        (summary.rolled_back.share, _BACK, summary.truth == "good"),
        (summary.timed_out.share, _LATE, False),
    )
    parts, x = [_text(_LEFT - 10, y + 19, summary.world, anchor="end")], float(_LEFT)
    for share, colour, mistaken in shares:
        if share <= 0:
            continue
        frame = f" stroke='{_WRONG}' stroke-width='3'" if mistaken else ""
        parts.append(f"<rect x='{x:.1f}' y='{y + 5}' width='{share * _BAR:.1f}' height='20' fill='{colour}'{frame}/>")
        x += share * _BAR
    wrong = summary.wrong
    text = f"{percent(wrong.share)}  ({100 * wrong.low:.2f}–{100 * wrong.high:.2f})"
    tint = _WRONG if wrong.share > 0.05 else _INK
    parts.append(_text(_LEFT + _BAR + 16, y + 19, text, fill=tint))
    figures = f"{summary.requests.median:,.0f} · {summary.exposed.median:,.0f}"
    parts.append(_text(_LEFT + _BAR + 226, y + 19, figures))
    return parts


def _cell(x: float, y: float, width: float, share: float) -> list[str]:
    red = f"rgb({255 - round(76 * share)},{255 - round(217 * share)},{255 - round(225 * share)})"
    ink = "#ffffff" if share > 0.5 else _INK
    size = f"width='{width - 4:.0f}' height='{_ROW - 4}'"
    box = f"<rect x='{x + 2:.0f}' y='{y + 2}' {size} rx='3' fill='{red}' stroke='#dddddd'/>"
    return [box, _text(x + width / 2, y + 20, percent(share), anchor="middle", fill=ink)]


def _legend(x: float, y: float) -> list[str]:
    parts = []
    for name, colour in (("promoted", _PROMOTED), ("rolled back", _BACK), ("timed out", _LATE)):
        parts += [
            f"<rect x='{x}' y='{y}' width='12' height='12' fill='{colour}'/>",
            _text(x + 17, y + 11, name, size=12),
        ]
        x += 105
    box = f"<rect x='{x}' y='{y}' width='12' height='12' fill='none' stroke='{_WRONG}' stroke-width='2'/>"
    return [*parts, box, _text(x + 17, y + 11, "wrong", size=12)]


def _text(
    x: float, y: float, text: str, *, fill: str = _INK, size: int = 13, anchor: str = "start", weight: str = "400"
) -> str:
    return (
        f"<text x='{x:.0f}' y='{y:.0f}' fill='{fill}' font-size='{size}' font-weight='{weight}' "
        f"text-anchor='{anchor}'>{escape(text)}</text>"
    )


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0f} {height:.0f}' width='{width:.0f}' "
        f"height='{height:.0f}' role='img' aria-label='{escape(label)}' {_STYLE}>\n"
        f"<rect width='100%' height='100%' fill='#ffffff'/>\n{body}\n</svg>\n"
    )
