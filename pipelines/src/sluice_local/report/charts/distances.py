"""How far the fresh rows moved from those of training."""

from __future__ import annotations

from collections.abc import Iterator

from sluice.charts import Specification, channel, chart, mark, row_names
from sluice_local.report.charts import Section, chart_of
from sluice_local.report.inputs import ReportChapter
from sluice_local.report.wording import number


@chart_of(Section.VALIDATION, 620, 420)
def feature_distances(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """
    How far each column's distribution in the test split lies from the one in training; a dot right of its bound would
    have stopped the run. Of many columns the 24 closest to their bound are shown.
    """
    rows = []
    for item in (chapter.validation or {}).get("comparisons") or ():
        feature, distance, bound = str(item["feature"]), float(item["divergence"]), item.get("limit")
        colour = "var(--fail)" if bound is not None and distance > bound else "var(--main)"
        hint = f"{feature}: distance {number(distance)}, bound {number(bound)}"
        row = {"feature": feature, "distance": distance, "zero": 0, "bound": bound, "share": distance / (bound or 1.0)}
        rows.append({**row, "words": f"{distance:.3f}", "colour": colour, "hint": hint})
    rows = sorted(rows, key=lambda row: (-row["share"], row["feature"]))[:24]
    grid = {"title": "Jensen–Shannon divergence (0 same, 1 disjoint)", "grid": True}
    inner = width - 60 - min(204, 16 + int(6.4 * max((len(row["feature"]) for row in rows), default=0)))
    most = max((max(row["distance"], row["bound"] or 0) for row in rows), default=1)
    tick = {"thickness": 1.3, "size": 18, "opacity": 1, "orient": "vertical"}
    layers = [
        mark("rule", {"strokeWidth": 2, "opacity": 0.45}, x="zero:Q", x2="distance"),
        mark(
            "point",
            x=channel("distance:Q", axis=grid, scale={"nice": False, "domainMax": 1.06 * most}),
            description="hint",
        ),
        mark("tick", tick, rows=[row for row in rows if row["bound"] is not None], x="bound:Q", color="var(--fail)"),
        mark("text", {"align": "left"}, x=inner + 8, text="words", color="var(--ink)"),
    ]
    if rows:
        label, size = "Distance of test from training, by feature", {"width": inner, "height": {"step": 21}}
        yield chart(label, rows, layers, size, y=row_names("feature"), color="colour")
