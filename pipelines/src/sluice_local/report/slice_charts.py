"""Quality by slice, as forest plots: one line a slice, its interval, and the bound that the policy holds it against."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sluice.documents.evaluation import Estimate, Evaluation, SliceEvaluation
from sluice.documents.verdict import Reason, Verdict
from sluice.gates.policy import HIGHER_IS_BETTER
from sluice_local.report.scales import Scale, spanning
from sluice_local.report.svg import Plot, dot, line, picture, text, verdict_mark, x_axis
from sluice_local.report.wording import count, interval, metric_name, number, signed

_RULE = re.compile(r"^\w+ (?P<metric>\w+) vs production\[(?P<place>.+)\]$")
_ROW = 21.0


@dataclass(frozen=True)
class Forest:
    """
    What the forest plots of one evaluation show.

    Attributes:
        metric: the metric's key.
        versus: ``production``, or ``None`` where the metric itself is drawn.
        bound: the least gain allowed by the policy, where a rule speaks of slices.
        verdicts: by ``slice=value``, of the slices that a rule singled out.
        panels: for each slice its title and its picture.
    """

    metric: str
    versus: str | None
    bound: float | None
    verdicts: dict[str, Verdict]
    panels: tuple[tuple[str, Markup], ...]


def forest_of(evaluation: Evaluation, reasons: Sequence[Reason]) -> Forest | None:
    """The plots, on one scale; gains over production (right is better), or the metric where there is no production."""
    rules = [(match, reason) for reason in reasons if (match := _RULE.match(reason.rule))]
    metric = rules[0][0]["metric"] if rules else "log_loss"
    versus = "production" if any(metric in part.versus_production for part in evaluation.slices) else None
    if versus is None:
        metric = "auc"
    rows = [(part, found) for part in evaluation.slices if (found := _estimate(part, metric, versus)) is not None]
    if not rows:
        return None
    verdicts = {match["place"]: reason.verdict for match, reason in rules if match["place"] != "slices"}
    bound = next((reason.bound for _, reason in rules), None) if versus else None
    around = [0.0, *([] if bound is None else [bound])] if versus else [evaluation.metrics[metric].value]
    x = _common_scale([estimate for _, estimate in rows], around)
    names = list(dict.fromkeys(part.slice for part, _ in rows))
    reference = 0.0 if versus else evaluation.metrics[metric].value
    longest = max(len(part.value) for part, _ in rows)
    panels = []
    for name in names:
        mine = [(part, estimate) for part, estimate in rows if part.slice == name]
        panels.append(
            (name.replace("_", " "), _panel(mine, (metric, versus), x, (reference, bound, longest), verdicts))
        )
    return Forest(metric, versus, bound, verdicts, tuple(panels))


def _estimate(part: SliceEvaluation, metric: str, versus: str | None) -> Estimate | None:
    if versus is None:
        return part.metrics.get(metric)
    found = part.versus_production.get(metric)
    if found is None or metric in HIGHER_IS_BETTER:
        return found
    return Estimate(value=-found.value, low=-found.high, high=-found.low, n=found.n)


def _common_scale(estimates: Sequence[Estimate], around: Sequence[float]) -> Scale:
    """Over every value; whiskers of tiny slices may run off the scale rather than squeeze all the others."""
    widths = sorted(item.high - item.low for item in estimates)
    usual = 2.5 * widths[len(widths) // 2]
    ends = [max(item.low, item.value - usual) for item in estimates]
    ends += [min(item.high, item.value + usual) for item in estimates]
    return spanning(ends, 0, 1, around=around, pad=0.05)


def _panel(
    rows: Sequence[tuple[SliceEvaluation, Estimate]],
    shown: tuple[str, str | None],
    common: Scale,
    guides: tuple[float, float | None, int],
    verdicts: dict[str, Verdict],
) -> Markup:
    (metric, versus), (reference, bound, longest) = shown, guides
    plot = Plot(460, 68 + _ROW * len(rows), left=min(170, 30 + 6.6 * longest), right=62, top=24)
    x = Scale(common.low, common.high, plot.left, plot.x1)
    parts = [line(x(tick), plot.top, x(tick), plot.y1, "grid") for tick in x.ticks(5)]
    parts.append(line(x(reference), plot.top - 4, x(reference), plot.y1, "zero"))
    if bound is not None:
        parts.append(line(x(bound), plot.top - 4, x(bound), plot.y1, "bound"))
    parts.append(text(plot.x1 + 54, plot.top - 8, "rows", "tick", anchor="end"))
    for place, (part, estimate) in enumerate(rows):
        at = plot.top + _ROW * (place + 0.5)
        parts += _row(part, estimate, (x, at, plot), verdicts.get(f"{part.slice}={part.value}"), versus)
    title = f"gain in {metric_name(metric)} over production" if versus else metric_name(metric)
    parts.append(x_axis(plot, x, f"{title} (right is better)"))
    return picture(plot, f"{title}, by {rows[0][0].slice}", parts)


def _row(
    part: SliceEvaluation,
    estimate: Estimate,
    where: tuple[Scale, float, Plot],
    verdict: Verdict | None,
    versus: str | None,
) -> list[Markup]:
    x, at, plot = where
    failed = verdict is Verdict.FAIL
    write = signed if versus else number
    ends = interval(estimate.low, estimate.high, difference=bool(versus))
    hint = f"{part.slice} {part.value}: {write(estimate.value)} ({ends}), {count(part.n)} rows"
    whisker = line(x(estimate.low), at, x(estimate.high), at, "whisker " + ("v-fail" if failed else "w-main"))
    if verdict is None:
        mark = dot(x(estimate.value), at, "point f-main", 4, hint)
    else:
        mark = verdict_mark(x(estimate.value), at, verdict, hint)
    cut = [
        text(x(end) + (-2 if end == estimate.low else 2), at + 4, arrow, "note", anchor="middle")
        for end, arrow in ((estimate.low, "‹"), (estimate.high, "›"))
        if not x.contains(end)
    ]
    tone = " t-fail strong" if failed else ""
    return [
        text(plot.left - 10, at + 4, part.value or "–", "row-name" + tone, anchor="end"),
        whisker,
        mark,
        *cut,
        text(plot.x1 + 54, at + 4, count(part.n), "value", anchor="end"),
    ]
