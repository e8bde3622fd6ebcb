"""Pictures of one model: how it learned, how well it ranks, and how honest its scores are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sluice.documents.evaluation import CalibrationBin, Evaluation, Peer
from sluice.gates.policy import HIGHER_IS_BETTER
from sluice_local.report.scales import Scale, spanning
from sluice_local.report.svg import Plot, Points, dot, line, path, picture, rect, text, x_axis, y_axis
from sluice_local.report.wording import count, interval, number, signed

_UNIT = [(0.0, "0"), (0.25, "0.25"), (0.5, "0.5"), (0.75, "0.75"), (1.0, "1")]


def learning_curve(
    epochs: Sequence[Mapping[str, Any]], series: Mapping[str, tuple[str, str]], title: str, best: int | None
) -> Markup:
    """
    One line a series over the epochs.

    Args:
        epochs: records with ``epoch`` and the keys of ``series``.
        series: key -> (name on the line, CSS colour class).
        title: of the upright axis, with its unit.
        best: the epoch whose weights were kept.
    """
    plot = Plot(440, 250, left=58, right=64)
    found = {
        key: [(float(row["epoch"]), float(row[key])) for row in epochs if row.get(key) is not None] for key in series
    }
    last = max((point[0] for points in found.values() for point in points), default=1.0)
    x = Scale(0.5, max(last, 2.0) + 0.2, plot.left, plot.x1)
    y = spanning((point[1] for points in found.values() for point in points), plot.y1, plot.top, pad=0.1)
    parts = [y_axis(plot, y, title), x_axis(plot, x, "epoch", _epoch_ticks(int(last)))]
    ends = []
    if best is not None:
        parts.append(line(x(best), plot.top, x(best), plot.y1, "zero"))
        parts.append(text(x(best), plot.top - 4, "kept", "note", anchor="middle", hint=f"epoch {best} was kept"))
    for key, points in found.items():
        name, colour = series[key]
        if points:
            parts.append(path([(x(a), y(b)) for a, b in points], f"curve c-{colour}"))
            parts += [dot(x(a), y(b), f"f-{colour}", 2.2, f"epoch {a:.0f}, {name}: {b:.4f}") for a, b in points]
            ends.append((y(points[-1][1]), name, colour))
    parts += [text(plot.x1 + 6, at + 4, name, f"direct t-{colour}") for at, name, colour in apart(ends, 14)]
    return picture(plot, title, parts)


def _epoch_ticks(last: int) -> list[tuple[float, str]]:
    step = max(1, math.ceil(last / 8))
    return [(float(epoch), str(epoch)) for epoch in range(1, last + 1, step)]


def apart(labels: Sequence[tuple[float, str, str]], gap: float) -> list[tuple[float, str, str]]:
    """The same labels, moved down where they would overlap."""
    placed: list[tuple[float, str, str]] = []
    for at, name, colour in sorted(labels):
        lowest = placed[-1][0] + gap if placed else -math.inf
        placed.append((max(at, lowest), name, colour))
    return placed


def roc_curve(points: Points, auc: str) -> Markup:
    """True against false positive rate; the diagonal is guessing."""
    return _unit_curve(points, ("false positive rate", "true positive rate"), [(0, 0), (1, 1)], f"AUC {auc}")


def precision_recall_curve(points: Points, rate: float, area: str) -> Markup:
    """Precision against recall; the dashed line is the share of positives, what guessing gets."""
    return _unit_curve(points, ("recall", "precision"), [(0, rate), (1, rate)], f"PR-AUC {area}")


def _unit_curve(points: Points, titles: tuple[str, str], guess: Points, note: str) -> Markup:
    plot = Plot(340, 320, left=52, right=12)
    x, y = Scale(0, 1, plot.left, plot.x1), Scale(0, 1, plot.y1, plot.top)
    above = titles[0] == "recall"
    parts = [
        y_axis(plot, y, titles[1], _UNIT),
        x_axis(plot, x, titles[0], _UNIT),
        path([(x(a), y(b)) for a, b in guess], "guess"),
    ]
    if points:
        parts.append(path([(x(a), y(b)) for a, b in points], "curve c-main"))
    parts.append(text(plot.x1 - 8, plot.top + 18 if above else plot.y1 - 12, note, "direct t-main", anchor="end"))
    return picture(plot, f"{titles[1]} against {titles[0]}, {note}", parts)


def reliability_curve(bins: Sequence[CalibrationBin]) -> Markup:
    """Mean score against observed rate a bin, with Wilson whiskers, and how many rows each bin has."""
    plot = Plot(340, 320, left=52, right=12, bottom=92)
    x, y = Scale(0, 1, plot.left, plot.x1), Scale(0, 1, plot.y1, plot.top)
    counts = Plot(340, 320, left=52, right=12, top=plot.y1 + 10, bottom=42)
    height = Scale(0, max([1, *(bin_.n for bin_ in bins)]), counts.y1, counts.top)
    parts = [y_axis(plot, y, "observed rate", _UNIT), path([(x(0), y(0)), (x(1), y(1))], "guess")]
    parts.append(
        path([(x(bin_.mean_score), y(bin_.rate)) for bin_ in bins], "curve thin c-main") if bins else Markup("")
    )
    for bin_ in bins:
        at = x(bin_.mean_score)
        hint = f"mean score {number(bin_.mean_score)}, observed {number(bin_.rate)}, {count(bin_.n)} rows"
        parts.append(line(at, y(bin_.low), at, y(bin_.high), "whisker w-main"))
        parts.append(dot(at, y(bin_.rate), "point f-main", 3.6, hint))
        parts.append(
            rect(at - 4, height(bin_.n), 8, counts.y1 - height(bin_.n), "bar quiet", hint=f"{count(bin_.n)} rows")
        )
    parts.append(text(plot.x1, counts.top + 9, f"rows a bin, up to {count(height.high)}", "note", anchor="end"))
    parts.append(x_axis(counts, x, "mean score of the bin", _UNIT))
    return picture(plot, "Calibration: observed rate against mean score", parts)


def difference_strip(peer: Peer, metric: str, scale: Scale) -> Markup:
    """A peer's difference as a small interval around zero, for a table cell; to the right is better."""
    plot = Plot(180, 20, left=4, right=4, top=0, bottom=0)
    sign = 1.0 if metric in HIGHER_IS_BETTER else -1.0
    estimate = peer.difference[metric]
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    tone = "better" if low > 0 else "worse" if high < 0 else "even"
    hint = f"{signed(estimate.value)} ({interval(estimate.low, estimate.high, difference=True)})"
    return picture(
        plot,
        f"difference {hint}",
        [
            line(scale(0), 0, scale(0), 20, "zero"),
            line(scale(low), 10, scale(high), 10, f"whisker k-{tone}"),
            dot(scale(sign * estimate.value), 10, f"point k-{tone}", 4, hint),
        ],
        "strip",
    )


def strip_scale(peers: Sequence[Peer], metric: str) -> Scale:
    """One scale for all the strips of a table."""
    sign = 1.0 if metric in HIGHER_IS_BETTER else -1.0
    ends = [sign * end for peer in peers if metric in peer.difference for end in _ends(peer, metric)]
    return spanning(ends, 8, 172, around=[0.0])


def _ends(peer: Peer, metric: str) -> tuple[float, float]:
    return peer.difference[metric].low, peer.difference[metric].high


def base_rate(evaluation: Evaluation) -> float:
    """Share of positives on the holdout."""
    return evaluation.positives / evaluation.n if evaluation.n else 0.0
