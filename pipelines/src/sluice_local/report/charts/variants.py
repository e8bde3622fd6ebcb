"""The variants of a model: quality, size and latency, a line each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sluice.charts import GUIDE, Rows, Specification, channel, chart, mark, row_names
from sluice.documents.evaluation import Estimate
from sluice.targets.metric import MetricList
from sluice.targets.registry import BINARY, metric_list, metrics_of
from sluice_local.report.charts import Section, chart_of
from sluice_local.report.inputs import ReportChapter
from sluice_local.report.wording import interval, metric_name, signed, size

_BARS = (("bytes", "size", "file size"), ("us", "latency", "median latency"))


@chart_of(Section.VARIANTS, 620, 480)
def variants(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """
    Each line is one way to store the model: a dot further right is closer to (or better than) the teacher, with its
    95 % interval; shorter bars are a smaller file and a quicker answer. The blue one ships.
    """
    metrics = _metrics(chapter)
    choice = (metrics.loss, metrics.ranking)
    metric = next((name for name in choice if any(name in item.versus_teacher for item in chapter.variants)), None)
    if metric is None:
        return
    higher = any(known.higher for known in metrics.known if known.name == metric)
    selection = chapter.selection.name if chapter.selection else None
    rows: list[dict[str, Any]] = []
    for each in chapter.variants:
        gain = each.versus_teacher.get(metric, Estimate(value=0, low=0, high=0, n=0))
        gain = gain if higher else -gain
        ends, latency = interval(gain.low, gain.high, difference=True), f"{each.latency_p50_us:.0f} µs"
        hint = f"{each.name}: {size(each.bytes)}, {signed(gain.value)} ({ends}), p50 {latency} a row"
        row = {"name": each.name, "hint": hint, "colour": "var(--other)", **gain.model_dump()}
        if each.name == selection:
            row |= {"name": f"{each.name} · ships", "colour": "var(--main)"}
        row |= {"bytes": each.bytes, "size": size(each.bytes), "us": each.latency_p50_us, "latency": latency}
        rows.append(row)
    axis = {"title": f"gain in {metric_name(metric)} over teacher", "tickCount": 4, "grid": True}
    x = channel("value:Q", axis=axis, scale={"nice": False, "padding": 10})
    dots = [
        mark("rule", GUIDE, rows[:1], x={"datum": 0}, y=0, y2={"value": "height"}, color="var(--faint)"),
        mark("rule", x="low:Q", x2="high"),
        mark("point", {"size": 80}, x=x, description="hint"),
    ]
    names, lines = row_names("name", [f"{selection} · ships"], "var(--main)"), {"height": {"step": 36}}
    panels = [
        chart("", rows, dots, {"width": 0.5 * (width - 170), **lines}, y=names, color="colour"),
        *(_bars(rows, *bar, {"width": 0.25 * width - 72, **lines}) for bar in _BARS),
    ]
    yield {"description": f"Size, latency and {metric_name(metric)} of the variants", "hconcat": panels}


def _bars(rows: Rows, field: str, words: str, title: str, lines: Specification) -> Specification:
    layers = [
        mark("bar", {"size": 10, "opacity": 0.75}, x=channel(f"{field}:Q", axis=None), description="hint"),
        mark("text", {"align": "left", "dx": 6}, x=f"{field}:Q", text=words, color="var(--ink)"),
    ]
    y = channel("name:N", axis=None, sort=None)
    return chart("", rows, layers, {**lines, "title": title}, y=y, color="colour")


def _metrics(chapter: ReportChapter) -> MetricList:
    """Those of the chapter's evaluation; a run that has none yet says nothing of its target."""
    return metrics_of(chapter.evaluation) if chapter.evaluation else metric_list(BINARY)
