"""Pictures of the data: how much, when, how often the answer is yes, and how far the fresh rows moved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from markupsafe import Markup

from sluice_local.report.scales import Scale, spanning, time_ticks
from sluice_local.report.svg import Plot, dot, line, picture, rect, text, x_axis, y_axis
from sluice_local.report.wording import count, moment, number, share

_WEEK = 7 * 86400.0
_Z = 1.959964


@dataclass(frozen=True)
class Distance:
    """How far a feature's fresh distribution lies from its training one (0 to 1), and the most that is allowed."""

    feature: str
    distance: float
    bound: float | None


def rows_over_time(weeks: Sequence[Mapping[str, Any]], width: float = 620) -> Markup:
    """Rows a week, a colour a split."""
    plot = Plot(width, 250, left=58, top=30)
    starts = [moment(str(week["start"])) for week in weeks]
    low, high = min(starts).timestamp(), (max(starts) + timedelta(days=7)).timestamp()
    x = Scale(low, high, plot.left, plot.x1)
    totals: dict[float, float] = {}
    bars = []
    for start, week in zip(starts, weeks, strict=True):
        at, below = start.timestamp(), totals.get(start.timestamp(), 0.0)
        totals[at] = below + week["rows"]
        bars.append((at, below, totals[at], str(week["split"]), int(week["rows"]), str(week["start"])))
    y = Scale(0, max(totals.values()) * 1.06, plot.y1, plot.top)
    parts = [y_axis(plot, y, "rows a week", [(value, count(value)) for value in y.ticks(4)])]
    for at, below, above, split, rows, week_of in bars:
        hint = f"week of {week_of}, {split}: {count(rows)} rows"
        wide = x(at + _WEEK) - x(at) - 1.5
        parts.append(rect(x(at), y(above), wide, y(below) - y(above), f"bar s-{split_class(split)}", hint=hint))
    parts += _split_names(bars, x, plot)
    parts.append(x_axis(plot, x, "event time (UTC), by week", time_ticks(x, 7 if width > 500 else 4)))
    return picture(plot, "Rows per week of event time, by split", parts)


def _split_names(bars: Sequence[tuple[float, float, float, str, int, str]], x: Scale, plot: Plot) -> list[Markup]:
    names = list(dict.fromkeys(bar[3] for bar in bars))
    parts = []
    for name in names:
        mine = [bar for bar in bars if bar[3] == name]
        middle = (min(bar[0] for bar in mine) + max(bar[0] for bar in mine) + _WEEK) / 2
        words = name if plot.width < 500 else f"{name} · {count(sum(bar[4] for bar in mine))}"
        parts.append(text(x(middle), plot.top - 12, words, f"direct t-{split_class(name)}", anchor="middle"))
    return parts


def split_class(name: str) -> str:
    """The CSS class of a split's colour."""
    return name if name in {"train", "tune", "test", "live"} else "other"


def label_rates(weeks: Sequence[Mapping[str, Any]]) -> Markup:
    """Share of positive labels by split, with 95 % Wilson intervals; faint dots are single weeks."""
    names = list(dict.fromkeys(str(week["split"]) for week in weeks))
    plot = Plot(400, 250, left=58, top=16)
    rates = [week["positives"] / week["labelled"] for week in weeks if week["labelled"]]
    y = Scale(0, max([0.02, *rates]) * 1.12, plot.y1, plot.top)
    parts = [y_axis(plot, y, "share of positive labels", [(value, f"{100 * value:.0f} %") for value in y.ticks(4)])]
    step = (plot.x1 - plot.left) / max(1, len(names))
    marks = []
    for place, name in enumerate(names):
        at = plot.left + step * (place + 0.5)
        mine = [week for week in weeks if str(week["split"]) == name and week["labelled"]]
        parts += _rate_marks(mine, name, at, y)
        marks.append((at, name))
    parts.append(x_axis(plot, Scale(plot.left, plot.x1, plot.left, plot.x1), "split", marks))
    return picture(plot, "Share of positive labels by split", parts)


def _rate_marks(weeks: Sequence[Mapping[str, Any]], name: str, at: float, y: Scale) -> list[Markup]:
    n, positives = sum(week["labelled"] for week in weeks), sum(week["positives"] for week in weeks)
    if not n:
        return []
    low, high = wilson(positives, n)
    hint = f"{name}: {share(positives / n)} of {count(n)} labels (95 % interval {share(low)} to {share(high)})"
    faint = (
        []
        if len(weeks) == 1
        else [
            dot(
                at - 16,
                y(week["positives"] / week["labelled"]),
                f"faint f-{split_class(name)}",
                2.4,
                str(week["start"]),
            )
            for week in weeks
        ]
    )
    return [
        *faint,
        line(at, y(low), at, y(high), f"whisker w-{split_class(name)}"),
        dot(at, y(positives / n), f"point f-{split_class(name)}", 4.5, hint),
        text(at + 10, y(positives / n) + 4, share(positives / n), "value"),
    ]


def wilson(positives: float, n: float) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    rate, z2 = positives / n, _Z * _Z
    middle, half = rate + z2 / (2 * n), _Z * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)


def distances_of(validation: Mapping[str, Any]) -> list[Distance]:
    """The per-feature distances of a validation report, the largest share of its bound first."""
    found = [
        Distance(str(item["feature"]), float(item["divergence"]), item.get("limit"))
        for item in validation.get("comparisons") or ()
    ]
    return sorted(found, key=lambda item: (-item.distance / (item.bound or 1.0), item.feature))


def weeks_from_statistics(validation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Label counts by split from a validation report's statistics, shaped like weeks; for runs without a picture."""
    found = []
    for split, statistics in (validation.get("statistics") or {}).items():
        label = (statistics.get("columns") or {}).get("label") or {}
        labelled = label.get("n", 0) - label.get("nulls", 0)
        if labelled and label.get("mean") is not None:
            positives = round(label["mean"] * labelled)
            found.append({"start": split, "split": split, "labelled": labelled, "positives": positives})
    return found


def feature_distances(distances: Sequence[Distance], width: float = 620) -> Markup:
    """A line a feature: its distance, and the bound that it must not cross."""
    shown = distances[:24]
    longest = max(len(item.feature) for item in shown)
    plot = Plot(width, 62 + 21 * len(shown), left=min(230, 26 + 6.4 * longest), right=60)
    x = spanning((item.distance for item in shown), plot.left, plot.x1, around=[0, *(b.bound or 0 for b in shown)])
    x = Scale(0, x.high, plot.left, plot.x1)
    parts = [line(x(tick), plot.top, x(tick), plot.y1, "grid") for tick in x.ticks(5)]
    for place, item in enumerate(shown):
        at = plot.top + 21 * (place + 0.5)
        over = item.bound is not None and item.distance > item.bound
        hint = f"{item.feature}: distance {number(item.distance)}, bound {number(item.bound)}"
        parts.append(text(plot.left - 10, at + 4, item.feature, "row-name", anchor="end"))
        parts.append(line(x(0), at, x(item.distance), at, "lollipop" + (" v-fail" if over else "")))
        parts.append(dot(x(item.distance), at, "point " + ("v-fail-fill" if over else "f-main"), 4, hint))
        if item.bound is not None:
            parts.append(line(x(item.bound), at - 9, x(item.bound), at + 9, "bound"))
        parts.append(text(plot.x1 + 8, at + 4, f"{item.distance:.3f}", "value" + (" t-fail" if over else "")))
    title = "Jensen–Shannon divergence (0 same, 1 disjoint)"
    parts.append(x_axis(plot, x, title))
    return picture(plot, "Distance between test and training distribution, by feature", parts, "chart medium")
