"""Quality by slice, as forest plots: one line a slice, its interval, and the bound that the policy holds it against."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from sluice.charts import BOUND, GUIDE, NOTE, Specification, by_verdict, channel, chart, mark, row_names
from sluice.documents.evaluation import Estimate, SliceEvaluation
from sluice.targets.metric import LOSS, Metric
from sluice.targets.registry import metrics_of
from sluice_local.report.charts import ChartRow, Section, chart_of
from sluice_local.report.inputs import ReportChapter
from sluice_local.report.wording import count, interval, metric_name, number, signed

_RULE = re.compile(r"^\w+ (?P<metric>\S+) vs production\[(?P<place>.+)\]$")


class SliceLine(NamedTuple):
    """A slice with what is drawn of it; ``verdict`` where a rule singled it out."""

    slice: SliceEvaluation
    estimate: Estimate
    verdict: str | None


@chart_of(Section.SLICES, 460)
def forests(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """
    Each line is one slice with its 95 % interval: its gain over production (right of 0 is better), or the metric itself
    where there was no production to compare with; then the upright line is the value over all rows. An interval wholly
    left of the policy's dashed bound refuses the candidate; such slices are marked ✕.
    """
    evaluation, reasons = chapter.evaluation, chapter.offline.reasons if chapter.offline else ()
    slices = evaluation.slices if evaluation else ()
    rules = [(match, reason) for reason in reasons if (match := _RULE.match(reason.rule))]
    if not evaluation:
        return
    metrics = metrics_of(evaluation)
    metric = metrics.find(rules[0][0]["metric"] if rules else LOSS) or metrics.known[0]
    verdicts = {match["place"]: reason.verdict.value for match, reason in rules}
    versus = any(metric.name in part.versus_production for part in slices)
    metric = metric if versus else metrics.find(metrics.ranking) or metric
    estimates = [(part, _estimate(part, metric, versus)) for part in slices]
    parts = [SliceLine(part, value, verdicts.get(f"{part.slice}={part.value}")) for part, value in estimates if value]
    if not parts or not (versus or metric.name in evaluation.metrics):
        return
    reference = 0.0 if versus else evaluation.metrics[metric.name].value
    bound = next((reason.bound for _, reason in rules if versus and reason.bound is not None), None)
    domain = _domain([part.estimate for part in parts], [reference, reference if bound is None else bound])
    title = f"gain in {metric_name(metric.name)} over production" if versus else metric_name(metric.name)
    side = "right" if versus or metric.higher else "left"
    axis = {"title": f"{title} ({side} is better)", "grid": True, "tickCount": 4}
    x = channel("value:Q", axis=axis, scale={"nice": False, "zero": False, "domain": domain})
    tall = {"y": 0, "y2": {"value": "height"}}
    guides = [mark("rule", GUIDE, [{"value": reference}], color="var(--faint)", **tall)]
    guides += [mark("rule", BOUND, [{"value": bound}], color="var(--fail)", **tall)] if bound is not None else []
    for name, mine in groupby(parts, key=lambda part: part.slice.slice):
        picture = _picture([_row(part, domain, versus) for part in mine], guides, x, width - 150)
        yield {**picture, "description": f"{title}, by {name}", "title": name.replace("_", " ").capitalize()}


def _estimate(part: SliceEvaluation, metric: Metric, versus: bool) -> Estimate | None:
    estimate = (part.versus_production if versus else part.metrics).get(metric.name)
    return -estimate if estimate and versus and not metric.higher else estimate


def _domain(estimates: Sequence[Estimate], guides: Sequence[float]) -> tuple[float, float]:
    """Every value; whiskers of tiny slices may run off the scale rather than squeeze all the others."""
    usual = 2.5 * sorted(item.high - item.low for item in estimates)[len(estimates) // 2]
    ends = [*guides, *(max(item.low, item.value - usual) for item in estimates)]
    ends += [min(item.high, item.value + usual) for item in estimates]
    pad = 0.05 * (max(ends) - min(ends)) or 0.01
    return min(ends) - pad, max(ends) + pad


def _picture(rows: Sequence[ChartRow], guides: list[Specification], x: Specification, width: int) -> Specification:
    cut = [{**row, "end": row[end], "arrow": arrow} for row in rows for end, arrow in row["cut"]]
    side = {"align": "right", "xOffset": 54}
    layers = [
        *guides,
        mark("rule", x="low:Q", x2="high"),
        mark("point", rows=[row for row in rows if not row["verdict"]], description="hint"),
        mark("point", rows=[row for row in rows if row["verdict"]], description="hint", **by_verdict()),
        mark("text", rows=cut, x="end:Q", text="arrow", color="var(--soft)"),
        mark("text", side, x=width, text="n", color="var(--ink)"),
        mark("text", {**side, **NOTE}, rows[:1], x=width, y=-8, text={"value": "rows"}, color="var(--soft)"),
    ]
    y = row_names("name", [row["name"] for row in rows if row["verdict"] == "FAIL"])
    return chart("", rows, layers, {"width": width, "height": {"step": 21}}, x=x, y=y, color="colour")


def _row(part: SliceLine, domain: tuple[float, float], versus: bool) -> ChartRow:
    at, n = part.estimate, count(part.slice.n)
    figures = f"{(signed if versus else number)(at.value)} ({interval(at.low, at.high, difference=versus)})"
    row: ChartRow = {"name": part.slice.value or "–", "verdict": part.verdict, "value": at.value, "n": n}
    row["hint"] = f"{part.slice.slice} {part.slice.value}: {figures}, {n} rows"
    row |= {"low": max(domain[0], at.low), "high": min(domain[1], at.high)}
    row["cut"] = [("low", "‹")] * (at.low < domain[0]) + [("high", "›")] * (at.high > domain[1])
    return {**row, "colour": "var(--fail)" if part.verdict == "FAIL" else "var(--main)"}
