"""How much data, when, and what the labels are: how often the answer is yes, or where the numbers lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sluice.charts import Specification, channel, chart, mark
from sluice.data.span import type_name
from sluice.targets.curves import wilson
from sluice.targets.registry import BINARY
from sluice_local.report.charts import Section, chart_of
from sluice_local.report.inputs import ReportChapter
from sluice_local.report.wording import count, moment, number, share

_SHARE = type_name(BINARY.label_type)
_WEEK = 7 * 86_400_000
_MOST_LABELS = 40
_UPRIGHT = 12
"""Up to so many names stand side by side below an axis."""
Week = Mapping[str, Any]


@chart_of(Section.DATA, 620, 420)
def rows_over_time(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """How many rows each week has and which split it belongs to; gaps or jumps would mean lost or doubled data."""
    bars, names = [], []
    for split, weeks in _by_split(_weeks(chapter)):
        starts = [1000 * moment(week["start"]).timestamp() for week in weeks]
        words = split if width < 500 else f"{split} · {count(sum(week['rows'] for week in weeks))}"
        names.append({"at": (min(starts) + max(starts) + _WEEK) / 2, "words": words, "colour": split_colour(split)})
        for start, week in zip(starts, weeks, strict=True):
            hint = f"week of {week['start']}, {split}: {count(week['rows'])} rows"
            bars.append({**week, "at": start, "end": start + _WEEK, "colour": split_colour(split), "hint": hint})
    axis = {"format": "%-d %b", "tickCount": 7 if width > 500 else 4, "title": "event time (UTC), by week"}
    rows = channel("rows:Q", axis={"title": "rows a week", "format": ",d", "tickCount": 4}, stack="zero")
    layers = [
        mark("bar", {"stroke": "var(--bg)", "strokeWidth": 1.5}, x2="end", y=rows, description="hint"),
        mark("text", {"fontWeight": 600}, rows=names, y=-10, text="words"),
    ]
    time = channel("at:T", axis=axis, scale={"nice": False}, bin="binned")
    if bars:
        label = "Rows per week of event time, by split"
        yield chart(label, bars, layers, {"width": width - 75, "height": 195}, x=time, color="colour")


@chart_of(Section.DATA, 400)
def label_rates(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """
    How often the true answer is yes, by split, with its 95 % interval; faint dots are single weeks, so their spread is
    the season.
    """
    rates, single = [], []
    for split, weeks in _by_split([week for week in _labelled_weeks(chapter) if "positives" in week]):
        n, positives = sum(week["labelled"] for week in weeks), sum(week["positives"] for week in weeks)
        if not n:
            continue
        (low, high), rate = wilson(positives, n), positives / n
        hint = f"{split}: {share(rate)} of {count(n)} labels (95 % interval {share(low)} to {share(high)})"
        row = {"split": split, "colour": split_colour(split), "hint": hint, "words": share(rate)}
        rates.append({**row, "rate": rate, "low": low, "high": high})
        if len(weeks) > 1:
            labelled = [week for week in weeks if week["labelled"]]
            single += [
                {**row, "rate": week["positives"] / week["labelled"], "hint": week["start"]} for week in labelled
            ]
    percent = {"title": "share of positive labels", "labelExpr": "format(100 * datum.value, '.0f') + ' %'"}
    layers = [
        mark("point", {"size": 20, "strokeWidth": 0, "opacity": 0.4, "xOffset": -16}, rows=single, description="hint"),
        mark("rule", y="low:Q", y2="high"),
        mark("point", {"size": 64}, description="hint"),
        mark("text", {"align": "left", "dx": 10}, text="words", color="var(--ink)"),
    ]
    shared = {
        "x": channel("split:N", axis={"title": "split", "labelAngle": 0}, sort=None),
        "y": channel("rate:Q", axis={**percent, "tickCount": 4}),
    }
    if rates:
        label = "Share of positive labels by split"
        yield chart(label, rates, layers, {"width": width - 75, "height": 195}, color="colour", **shared)


@chart_of(Section.DATA, 620, 420)
def label_shares(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """How often each label is the true one, by split; a label whose share jumps is one that a model has seldom seen."""
    rows, splits = [], _by_split(_weeks(chapter))
    names = list(dict.fromkeys(name for _, weeks in splits for week in weeks for name in week.get("by_label") or ()))
    for split, weeks in splits:
        n = sum(week["labelled"] for week in weeks)
        for name in names[:_MOST_LABELS] if n else ():
            rate = sum((week.get("by_label") or {}).get(name, 0) for week in weeks) / n
            hint = f"{name}, {split}: {share(rate)} of {count(n)} labels"
            rows.append({"label": name, "split": split, "rate": rate, "colour": split_colour(split), "hint": hint})
    percent = {"title": "share of labels", "labelExpr": "format(100 * datum.value, '.0f') + ' %'", "tickCount": 4}
    offset = channel("split:N", sort=None)
    shared = {
        "x": channel("label:N", sort=None, axis={"title": "label", "labelAngle": 0 if len(names) <= _UPRIGHT else -45}),
        "y": channel("rate:Q", axis=percent),
    }
    layers = [mark("bar", {"stroke": "var(--bg)", "strokeWidth": 1}, xOffset=offset, description="hint")]
    if rows:
        yield chart(
            "Share of each label by split", rows, layers, {"width": width - 75, "height": 195}, color="colour", **shared
        )


@chart_of(Section.DATA, 400)
def label_values(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """
    Labels by week: the line is the one in the middle, and eight of ten lie in the band. A jump would mean another unit
    or another source; a slow wave is the season.
    """
    rows: list[dict[str, Any]] = []
    for week in _weeks(chapter):
        if "quantiles" in week:
            low, middle, high = week["quantiles"]
            ends = f"{number(low)} to {number(high)}"
            hint = f"week of {week['start']}, {week['split']}: middle {number(middle)}, eight of ten {ends}"
            at, colour = 1000 * moment(week["start"]).timestamp(), split_colour(week["split"])
            rows.append({**week, "at": at, "low": low, "middle": middle, "high": high, "colour": colour, "hint": hint})
    layers = [
        mark("area", {"opacity": 0.25}, y="low:Q", y2="high", detail="split:N"),
        mark("line", y="middle:Q", detail="split:N"),
        mark("point", {"size": 16, "strokeWidth": 0}, y="middle:Q", description="hint"),
    ]
    time = channel("at:T", axis={"format": "%-d %b", "tickCount": 4, "title": "event time (UTC), by week"})
    y = channel("low:Q", axis={"title": "label", "tickCount": 4}, scale={"zero": False})
    if rows:
        label = "Labels by week: the middle one, and eight of ten"
        yield chart(label, rows, layers, {"width": width - 75, "height": 195}, x=time, y=y, color="colour")


def split_colour(name: str) -> str:
    """A split's colour."""
    return f"var(--{name if name in {'train', 'tune', 'test', 'live'} else 'other'})"


def _weeks(chapter: ReportChapter) -> list[Week]:
    return list((chapter.data or {}).get("weeks") or ())


def _labelled_weeks(chapter: ReportChapter) -> list[Week]:
    """Of the picture; without one, of the statistics, which tell shares of a binary target alone."""
    return _weeks(chapter) or _weeks_from_statistics(chapter.validation or {})


def _weeks_from_statistics(validation: Mapping[str, Any]) -> list[Week]:
    """Label counts by split from a validation report's statistics, shaped like weeks; for runs without a picture."""
    weeks: list[Week] = []
    for split, statistics in (validation.get("statistics") or {}).items():
        label = (statistics.get("columns") or {}).get("label") or {}
        n, mean = label.get("n", 0) - label.get("nulls", 0), label.get("mean")
        if n and mean is not None and label.get("dtype", _SHARE) == _SHARE:
            weeks.append({"start": split, "split": split, "labelled": n, "positives": round(mean * n)})
    return weeks


def _by_split(weeks: list[Week]) -> list[tuple[str, list[Week]]]:
    names = list(dict.fromkeys(str(week["split"]) for week in weeks))
    return [(name, [week for week in weeks if str(week["split"]) == name]) for name in names]
