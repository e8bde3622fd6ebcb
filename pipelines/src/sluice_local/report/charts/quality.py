"""How well one model ranks, and how honest its scores are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sluice.charts import GUIDE, NOTE, Specification, channel, chart, mark
from sluice.documents.evaluation import CalibrationBin, ConfusionTable, Curves, Evaluation, ReliabilityCurve, ValueBins
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
    for evaluation, curves in _curves_of(chapter):
        axes, note = ("false positive rate", "true positive rate"), f"AUC {_value(evaluation, 'auc')}"
        yield _curve(curves.roc, [(0, 0), (1, 1)], axes, note, width)


@chart_of(Section.QUALITY, 340)
def precision_recall(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """
    Precision and recall: how many alarms are right (up) when so many positive cases are caught (right); the dashed line
    is guessing.
    """
    for evaluation, curves in _curves_of(chapter):
        rate = (evaluation.positives or 0) / evaluation.n if evaluation.n else 0.0
        note = f"PR-AUC {_value(evaluation, 'pr_auc')}"
        yield _curve(curves.precision_recall, [(0, rate), (1, rate)], ("recall", "precision"), note, width)


@chart_of(Section.QUALITY, 340)
def calibration(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """
    Calibration: when the model says 30 %, does it happen 30 % of the time? On the diagonal it does; whiskers are 95 %
    Wilson intervals, bars count rows.
    """
    for _, curves in _curves_of(chapter):
        yield _reliability("Calibration: observed rate against mean score", curves.reliability, width)


@chart_of(Section.QUALITY, 340)
def calibration_by_class(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """
    Calibration of one class or label against all others: on the diagonal what the model says is what happens.
    """
    for picture in chapter.evaluation.pictures if chapter.evaluation else ():
        if isinstance(picture, ReliabilityCurve):
            yield _reliability(f"Calibration of {picture.name}", picture.bins, width)


@chart_of(Section.QUALITY, 460)
def confusion(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """
    Rows by label (down) and by what the model took for the likeliest (across); darker is a larger share of the label's
    rows. Right answers are on the diagonal.
    """
    for picture in chapter.evaluation.pictures if chapter.evaluation else ():
        if isinstance(picture, ConfusionTable):
            yield _table(picture, width)


@chart_of(Section.QUALITY, 340)
def actual_against_predicted(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """
    Actual against predicted, by tenths of the predictions: on the diagonal both are equal. Whiskers are 95 % intervals
    of the mean label.
    """
    for picture in chapter.evaluation.pictures if chapter.evaluation else ():
        if isinstance(picture, ValueBins) and picture.bins:
            yield _means(picture, width)


@chart_of(Section.QUALITY, 340)
def residuals(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """
    Residuals (label minus prediction) by tenths of the predictions: the point is the median, the thick line half of
    the rows, the thin one nine tenths.
    """
    for picture in chapter.evaluation.pictures if chapter.evaluation else ():
        if isinstance(picture, ValueBins) and picture.bins:
            yield _residuals(picture, width)


def _curves_of(chapter: ReportChapter) -> Iterator[tuple[Evaluation, Curves]]:
    """The evaluation with its curves, where it has some."""
    if (evaluation := chapter.evaluation) and evaluation.curves:
        yield evaluation, evaluation.curves


def _table(picture: ConfusionTable, width: int) -> Specification:
    rows = []
    for name, counts in zip(picture.classes, picture.rows, strict=True):
        for answer, n in zip(picture.classes, counts, strict=True):
            hint = f"{name}, taken for {answer}: {count(n)} rows"
            part = n / sum(counts) if n else 0.0
            rows.append({"label": name, "answer": answer, "n": count(n) if n else "", "share": part, "hint": hint})
    shade = channel("share:Q", scale={"domain": [0, 1], "range": [0, 0.75]}, legend=None)
    layers = [
        mark("rect", color="var(--main)", opacity=shade, description="hint"),
        mark("text", {"fontSize": 10}, text="n", color="var(--ink)"),
    ]
    axes = {
        "x": channel("answer:N", sort=None, axis={"title": "taken for", "labelAngle": -45}),
        "y": channel("label:N", sort=None, axis={"title": "label"}),
    }
    return chart("Rows by label and likeliest class", rows, layers, {"width": width - 90, "height": width - 90}, **axes)


def _means(picture: ValueBins, width: int) -> Specification:
    rows = []
    for each in picture.bins:
        hint = f"predicted {number(each.mean_prediction)}, actual {number(each.mean_label)}, {count(each.n)} rows"
        rows.append({**each.model_dump(exclude={"residuals"}), "hint": hint})
    values = [each.mean_prediction for each in picture.bins]
    guide = [{"mean_prediction": end, "mean_label": end} for end in (min(values), max(values))]
    layers = [
        mark("line", _GUESS, rows=guide),
        mark("rule", y="low:Q", y2="high"),
        mark("point", {"size": 44}, description="hint"),
    ]
    axes = {"x": _number("mean_prediction", "mean prediction"), "y": _number("mean_label", "mean label")}
    label = "Mean label against mean prediction"
    return chart(label, rows, layers, {"width": width - 64, "height": width - 76}, **axes)


def _residuals(picture: ValueBins, width: int) -> Specification:
    names = ("least", "low", "middle", "high", "most")
    rows = []
    for each in picture.bins:
        hint = f"predicted {number(each.mean_prediction)}: median residual {number(each.residuals[2])}"
        rows.append({"x": each.mean_prediction, **dict(zip(names, each.residuals, strict=True)), "hint": hint})
    layers = [
        mark("rule", GUIDE, [{"zero": 0}], y=channel("zero:Q"), x=0, x2={"value": "width"}),
        mark("rule", {"strokeWidth": 1.2}, y="least:Q", y2="most"),
        mark("rule", {"strokeWidth": 5}, y="low:Q", y2="high"),
        mark("point", {"size": 44}, y="middle:Q", description="hint"),
    ]
    axes = {"x": _number("x", "mean prediction"), "y": _number("middle", "label minus prediction")}
    label = "Residuals against mean prediction"
    return chart(label, rows, layers, {"width": width - 64, "height": width - 76}, **axes)


def _number(name: str, title: str) -> Specification:
    return channel(f"{name}:Q", axis={"title": title}, scale={"zero": False})


def _reliability(label: str, curve: Sequence[CalibrationBin], width: int) -> Specification:
    bins = []
    for each in curve:
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
    size = width - 64
    bare = _unit("x", None) | {"axis": {"labels": False, "ticks": False, "title": None}}
    above = chart(label, bins, rates, {"width": size, "height": size - 62}, x=bare, y=_unit("y", "observed rate"))
    below = chart("", bins, counts, {"width": size, "height": 40}, x=_unit("x", "mean score of the bin"))
    return {"description": label, "vconcat": [above, below], "spacing": 10}


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
