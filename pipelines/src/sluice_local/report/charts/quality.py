"""How well one model ranks, and how honest its scores are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sluice.charts import GUIDE, NOTE, Specification, channel, chart, mark
from sluice.documents.evaluation import Evaluation
from sluice_local.report.charts import Section, chart_of
from sluice_local.report.inputs import ReportChapter
from sluice_local.report.wording import count, number

_GUESS = {**GUIDE, "strokeDash": [3, 4]}
Points = Sequence[tuple[float, float]]


@chart_of(Section.QUALITY, 340)
def roc(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """
    ROC: of all positive cases, how many are caught (up) at the cost of how many false alarms (right); the diagonal is
    guessing.
    """
    if evaluation := chapter.evaluation:
        axes, note = ("false positive rate", "true positive rate"), f"AUC {_value(evaluation, 'auc')}"
        yield _curve(evaluation.curves.roc, [(0, 0), (1, 1)], axes, note, width)


@chart_of(Section.QUALITY, 340)
def precision_recall(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """
    Precision and recall: how many alarms are right (up) when so many positive cases are caught (right); the dashed line
    is guessing.
    """
    if evaluation := chapter.evaluation:
        rate = evaluation.positives / evaluation.n if evaluation.n else 0.0
        note = f"PR-AUC {_value(evaluation, 'pr_auc')}"
        yield _curve(evaluation.curves.precision_recall, [(0, rate), (1, rate)], ("recall", "precision"), note, width)


@chart_of(Section.QUALITY, 340)
def calibration(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """
    Calibration: when the model says 30 %, does it happen 30 % of the time? On the diagonal it does; whiskers are 95 %
    Wilson intervals, bars count rows.
    """
    if not (evaluation := chapter.evaluation):
        return
    bins = []
    for each in evaluation.curves.reliability:
        hint = f"mean score {number(each.mean_score)}, observed {number(each.rate)}, {count(each.n)} rows"
        bins.append({**each.model_dump(), "x": each.mean_score, "y": each.rate, "hint": hint})
    most = max([1, *(each["n"] for each in bins)])
    rates = [
        mark("line", _GUESS, rows=_rows([(0, 0), (1, 1)])),
        mark("line", {"strokeWidth": 1.2}),
        mark("rule", y="low:Q", y2="high"),
        mark("point", {"size": 44}, description="hint"),
    ]
    rows = channel("n:Q", axis=None, scale={"domain": [0, most]})
    counts = [
        mark("bar", {"size": 8, "color": "var(--other)", "opacity": 0.55}, y=rows, description="hint"),
        mark(
            "text", {"align": "right", **NOTE}, rows=[{"x": 1}], y=4, text={"value": f"rows a bin, up to {count(most)}"}
        ),
    ]
    label, size = "Calibration: observed rate against mean score", width - 64
    bare = _unit("x", None) | {"axis": {"labels": False, "ticks": False, "title": None}}
    above = chart(label, bins, rates, {"width": size, "height": size - 62}, x=bare, y=_unit("y", "observed rate"))
    below = chart("", bins, counts, {"width": size, "height": 40}, x=_unit("x", "mean score of the bin"))
    yield {"description": label, "vconcat": [above, below], "spacing": 10}


def _value(evaluation: Evaluation, metric: str) -> str:
    estimate = evaluation.metrics.get(metric)
    return number(estimate.value if estimate else None)


def _curve(points: Points, guess: Points, titles: tuple[str, str], note: str, width: int) -> Specification:
    corner = [{"x": 0.97, "y": 0.95 if titles[0] == "recall" else 0.05}]
    words = {"align": "right", "fontWeight": 600, "color": "var(--main)"}
    layers = [
        mark("line", _GUESS, rows=_rows(guess)),
        mark("line", order="place:Q"),
        mark("text", words, rows=corner, text={"value": note}),
    ]
    axes = {"x": _unit("x", titles[0]), "y": _unit("y", titles[1])}
    label = f"{titles[1]} against {titles[0]}, {note}"
    return chart(label, _rows(points), layers, {"width": width - 64, "height": width - 76}, **axes)


def _rows(points: Points) -> list[dict[str, float]]:
    return [{"x": x, "y": y, "place": place} for place, (x, y) in enumerate(points)]


def _unit(name: str, title: str | None) -> Specification:
    axis = {"title": title, "values": [0, 0.25, 0.5, 0.75, 1], "labelExpr": "datum.value"}
    return channel(f"{name}:Q", axis=axis, scale={"domain": [0, 1]})
