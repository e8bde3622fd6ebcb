"""The pictures of docs/simulation.md: how rollouts end, who is how often wrong, and one rollout's intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sluice.charts import BOUND, GUIDE, NOTE, Specification, channel, chart, mark, row_names
from sluice.simulation.replay import PER_REQUEST, SHARED, IntervalSequence, ShadowTerms
from sluice.simulation.report import Simulated, percent
from sluice.simulation.summary import Summary

_ENDS = {"promoted": "#2f6f9f", "rolled back": "#c8803a", "timed out": "#c9c9c9"}
_WRONG, _WIDE, _WIDEST = "#b3261e", 420, 760


def endings(simulated: Simulated) -> Specification:
    """Bars of promoted, rolled back and timed out; a red frame around the wrong part."""
    rows = [row for summary in simulated.ours for row in _parts(summary)]
    ends = channel("end:N", scale={"domain": list(_ENDS), "range": list(_ENDS.values())}, legend=_legend(0))
    frames = channel("wrong:N", scale={"domain": ["wrong"], "range": [_WRONG]}, legend=_legend(250))
    start, thick = channel("from:Q", axis=None, scale={"domain": [0, 1]}), {"height": 20}
    frame, wrong = {**thick, "filled": False, "strokeWidth": 2.5}, [row for row in rows if row["wrong"]]
    layers = [mark("bar", thick, x=start, x2="to", color=ends)]
    layers.append(mark("bar", frame, rows=wrong, x=start, x2="to", stroke=frames))
    columns = (("share", "wrong decisions (95 % interval)", 16), ("requests", "median requests · exposed", 226))
    for field, head, left in columns:
        words, side = rows[:: len(_ENDS)], {"align": "left"}
        layers.append(mark("text", {**side, **NOTE}, rows=words[:1], x=_WIDE + left, y=-10, text={"value": head}))
        layers.append(mark("text", side, rows=words, x=_WIDE + left, text=field, color="tint"))
    label = "Share of rollouts promoted, rolled back and timed out in each world"
    title = _title("How rollouts end, world by world", simulated.preamble())
    return chart(label, rows, layers, {"width": _WIDE, "height": {"step": 30}, "title": title}, y=row_names("world"))


def mistakes(simulated: Simulated) -> Specification:
    """A cell a rule and world: the share of wrong decisions, the redder the more."""
    cells: list[dict[str, Any]] = [
        {"rule": rival.name, "world": f"{summary.world} ({summary.truth})", "share": summary.wrong.share}
        for rival, summaries in simulated.table.items()
        for summary in summaries
    ]
    rows = [{**cell, "words": percent(cell["share"]), "dark": cell["share"] > 0.5} for cell in cells]
    red = channel("share:Q", scale={"domain": [0, 1], "range": ["#ffffff", _WRONG], "interpolate": "rgb"}, legend=None)
    ink = {"condition": {"test": "datum.dark", "value": "#ffffff"}, "value": "var(--ink)"}
    layers = [
        mark("rect", {"stroke": "#dddddd", "cornerRadius": 3, "width": 114, "height": 26}, color=red),
        mark("text", text="words", color=ink),
    ]
    bold = {"condition": {"test": "datum.index == 0", "value": "bold"}, "value": "normal"}
    axis = {"orient": "top", "title": None, "labelAngle": 0, "domain": False, "ticks": False, "labelFontWeight": bold}
    title = _title(
        "Wrong decisions, rule by rule, on the same requests",
        "good world: share rolled back by a FAIL · bad world or broken road: share promoted",
    )
    shared = {"x": channel("rule:N", axis=axis, sort=None), "y": row_names("world")}
    size = {"width": {"step": 118}, "height": {"step": 30}}
    return chart("Share of wrong decisions by rule and world", rows, layers, {**size, "title": title}, **shared)


def bands(sequences: Mapping[str, IntervalSequence], terms: ShadowTerms, subtitle: str) -> Specification:
    """One rollout, look by look: the interval by requests and by blocks, and the difference that is true."""
    ink = {SHARED: "#9cbad6", PER_REQUEST: "#c8803a"}
    rows = [row for rule in ink for row in _looks(rule, sequences[rule], terms)]
    legend = {**_legend(0), "columnPadding": 40}
    colour = channel("rule:N", scale={"domain": list(ink), "range": list(ink.values())}, legend=legend)
    low = channel("low:Q", title="candidate's loss less stable's")
    lines: list[dict[str, Any]] = [{"at": terms.margin, "words": "the margin, and the truth"}, {"at": 0.0, "words": ""}]
    band = {"opacity": 0.75, "interpolate": "step-after"}
    layers = [
        mark("area", band, rows=[row for row in rows if row["rule"] == rule], color=colour, y=low, y2="high")
        for rule in ink
    ]
    layers += [
        mark("rule", style, rows=[line], y="at:Q", x=0, x2={"value": _WIDEST})
        for style, line in zip((BOUND, GUIDE), lines, strict=True)
    ]
    layers.append(mark("text", {**NOTE, "align": "right", "dy": -6}, rows=lines[:1], x=_WIDEST, y="at:Q", text="words"))
    title = _title("One rollout whose candidate is just too bad to pass, counted in two ways", subtitle)
    size = {"width": _WIDEST, "height": 300, "title": title}
    days = channel(
        "day:Q", title="days since the shadow began", scale={"domain": [0, terms.looks * terms.look_hours / 24]}
    )
    return chart("Intervals of one rollout by requests and by blocks", rows, layers, size, x=days)


def _looks(rule: str, sequence: IntervalSequence, terms: ShadowTerms) -> list[dict[str, Any]]:
    """What fits into the picture: an interval four margins wide says nothing yet."""
    limit = 4 * terms.margin
    points = zip(sequence.looks.tolist(), sequence.bounds.low.tolist(), sequence.bounds.high.tolist(), strict=True)
    return [
        {"rule": rule, "day": look * terms.look_hours / 24, "low": max(low, -limit), "high": min(high, limit)}
        for look, low, high in points
        if math.isfinite(low) and math.isfinite(high)
    ]


def _parts(summary: Summary) -> list[dict[str, Any]]:
    shares = (summary.promoted.share, summary.rolled_back.share, summary.timed_out.share)
    mistake, start, wrong = "rolled back" if summary.truth == "good" else "promoted", 0.0, summary.wrong
    row = {
        "world": summary.world,
        "share": f"{percent(wrong.share)}  ({100 * wrong.low:.2f}–{100 * wrong.high:.2f})",
        "tint": _WRONG if wrong.share > 0.05 else "var(--ink)",
        "requests": f"{summary.requests.median:,.0f} · {summary.exposed.median:,.0f}",
    }
    rows = []
    for end, share in zip(_ENDS, shares, strict=True):
        frame = "wrong" if end == mistake and share else None
        rows.append({**row, "end": end, "from": start, "to": start + share, "wrong": frame})
        start += share
    return rows


def _title(text: str, subtitle: str) -> Specification:
    return {"text": text, "subtitle": subtitle, "fontSize": 18, "subtitleFontSize": 11, "offset": 16}


def _legend(offset: float) -> Specification:
    place = {"orient": "none", "legendX": offset, "legendY": -24}
    return {**place, "direction": "horizontal", "title": None, "labelFontSize": 12, "symbolType": "square"}
