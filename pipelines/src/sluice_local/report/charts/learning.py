"""How the models learned: one line a split over the epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sluice.charts import GUIDE, NOTE, Specification, channel, chart, mark
from sluice_local.report.charts import Section, chart_of
from sluice_local.report.inputs import ReportChapter
from sluice_local.report.wording import metric_name

_UNITS = {"log_loss": " (nats)"}


@chart_of(Section.LEARNING, 440)
def loss(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """
    Loss after each pass over the data: lower is better, and tune rising while train falls would be learning by heart.
    """
    name = str((chapter.history or {}).get("loss", "log_loss"))
    return _curves(chapter, ("loss", "log_loss"), metric_name(name) + _UNITS.get(name, ""), width)


@chart_of(Section.LEARNING, 440)
def ranking(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """Ranking quality after each pass: 0.5 is guessing, 1 is perfect."""
    return _curves(chapter, ("auc",), "AUC", width)


def _values(history: dict[str, Any], keys: Sequence[str]) -> Iterator[tuple[int, float]]:
    """Epochs and values, by the first of the keys that a point has."""
    for row in history.get("history") or ():
        value = next((row[key] for key in keys if row.get(key) is not None), None)
        if value is not None:
            yield row["epoch"], value


def _curves(chapter: ReportChapter, metrics: Sequence[str], title: str, width: int) -> Iterator[Specification]:
    """``train_`` and ``tune_`` of a metric by epoch, under any of its names, and the epoch whose weights were kept."""
    history: dict[str, Any] = chapter.history or {}
    points: list[dict[str, Any]] = []
    names: list[dict[str, Any]] = []
    for split, above in (("train", 7), ("tune", -7)):
        epochs = list(_values(history, [f"{split}_{metric}" for metric in metrics]))
        for epoch, value in epochs:
            hint = f"epoch {epoch}, {split}: {value:.4f}"
            points.append({"epoch": epoch, "value": value, "split": split, "colour": f"var(--{split})", "hint": hint})
        end = {"align": "left", "dx": 8, "dy": above, "fontWeight": 600}
        names += [mark("text", end, points[-1:], text="split")] if epochs else []
    if not points:
        return
    last, best = max(point["epoch"] for point in points), history.get("best_epoch")
    best_epoch = [] if best is None else [{"epoch": best, "hint": f"epoch {best} was kept"}]
    layers = [
        mark("rule", GUIDE, best_epoch, y=0, y2={"value": "height"}, color="var(--faint)", description="hint"),
        mark("text", NOTE, best_epoch, y=-7, text={"value": "kept"}, color="var(--soft)"),
        mark("line", detail="split:N"),
        mark("point", {"size": 16, "strokeWidth": 0}, description="hint"),
        *names,
    ]
    ticks = {"values": list(range(1, last + 1, max(1, -(-last // 8)))), "tickCount": last}
    x = channel("epoch:Q", axis=ticks, scale={"nice": False, "domain": [0.5, max(last, 2) + 0.2]})
    y = channel("value:Q", axis={"title": title}, scale={"zero": False, "nice": False, "padding": 16})
    yield chart(title, points, layers, {"width": width - 110, "height": 195}, x=x, y=y, color="colour")
