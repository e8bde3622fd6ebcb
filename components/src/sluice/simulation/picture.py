"""The pictures of docs/simulation.md: how rollouts end in each world, and who is how often wrong."""

from __future__ import annotations

from typing import Any

from sluice.charts import NOTE, Specification, channel, chart, mark, row_names
from sluice.simulation.report import Simulated, percent
from sluice.simulation.summary import Summary

_ENDS = {"promoted": "#2f6f9f", "rolled back": "#c8803a", "timed out": "#c9c9c9"}
_WRONG, _WIDE = "#b3261e", 420


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
