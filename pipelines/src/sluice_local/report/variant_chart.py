"""The size-latency-quality picture of a model's variants."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from sluice.documents.evaluation import Estimate, VariantMeasurement
from sluice.gates.policy import HIGHER_IS_BETTER
from sluice_local.report.scales import Scale, spanning
from sluice_local.report.svg import Plot, dot, line, path, picture, text, x_axis, y_axis
from sluice_local.report.wording import interval, metric_name, signed, size

_NEAR = 70.0
"""Discs closer than this (SVG units) share one column of labels."""
_LINE = 31.0


def can_draw(variants: Sequence[VariantMeasurement], metric: str) -> bool:
    """Whether some variant was compared with the teacher in this metric."""
    return any(metric in variant.versus_teacher for variant in variants)


def variant_picture(
    variants: Sequence[VariantMeasurement], chosen: str | None, metric: str, width: float = 620
) -> Markup:
    """Each variant: file size (log) against its gain over the teacher, by interval; a disc's area is its latency."""
    plot = Plot(width, 330, left=68, right=24, top=20)
    sizes = [float(variant.bytes) for variant in variants]
    x = Scale(min(sizes) / 9, max(sizes) * 1.8, plot.left, plot.x1, logarithmic=True)
    gains = {variant.name: _gain(variant, metric) for variant in variants}
    y = spanning((end for gain in gains.values() for end in (gain.low, gain.high)), plot.y1, plot.top, pad=0.15)
    parts = [
        y_axis(plot, y, f"gain in {metric_name(metric)} over teacher (up is better)"),
        line(plot.left, y(0), plot.x1, y(0), "zero"),
        x_axis(plot, x, "file size (bytes, logarithmic)", [(tick, size(tick)) for tick in x.ticks()]),
    ]
    slowest = max(variant.latency_p50_us for variant in variants)
    for column in _columns(variants, x):
        for variant in sorted(column, key=lambda item: item.name == chosen):
            radius = 4 + 11 * math.sqrt(variant.latency_p50_us / slowest)
            parts += _disc(
                variant, gains[variant.name], (x, y), radius, "chosen" if variant.name == chosen else "other"
            )
        parts += _labels(column, gains, (x, y), chosen, plot)
    return picture(plot, f"Size, latency and {metric_name(metric)} of the variants", parts)


def _gain(variant: VariantMeasurement, metric: str) -> Estimate:
    found = variant.versus_teacher.get(metric)
    if found is None:
        return Estimate(value=0.0, low=0.0, high=0.0, n=0)
    if metric in HIGHER_IS_BETTER:
        return found
    return Estimate(value=-found.value + 0.0, low=-found.high + 0.0, high=-found.low + 0.0, n=found.n)


def _columns(variants: Sequence[VariantMeasurement], x: Scale) -> list[list[VariantMeasurement]]:
    """Variants of about the same size, from left to right."""
    columns: list[list[VariantMeasurement]] = []
    for variant in sorted(variants, key=lambda item: item.bytes):
        if columns and x(variant.bytes) - x(columns[-1][0].bytes) < _NEAR:
            columns[-1].append(variant)
        else:
            columns.append([variant])
    return columns


def _disc(
    variant: VariantMeasurement, gain: Estimate, scales: tuple[Scale, Scale], radius: float, kind: str
) -> list[Markup]:
    x, y = scales
    hint = (
        f"{variant.name}: {size(variant.bytes)}, {signed(gain.value)} "
        f"({interval(gain.low, gain.high, difference=True)}), p50 {variant.latency_p50_us:.0f} µs a row"
    )
    at = x(variant.bytes)
    return [
        line(at, y(gain.low), at, y(gain.high), f"whisker k-{kind}"),
        dot(at, y(gain.value), f"bubble k-{kind}", radius, hint),
    ]


def _labels(
    column: Sequence[VariantMeasurement],
    gains: dict[str, Estimate],
    scales: tuple[Scale, Scale],
    chosen: str | None,
    plot: Plot,
) -> list[Markup]:
    """Names in a column beside the discs, spread so that none overlaps, with a thin line to each disc."""
    x, y = scales
    rows = spread([y(gains[item.name].value) for item in column], _LINE, plot.top + 12, plot.y1 - 14)
    left, edge = len(column) > 1, x(column[0].bytes) - 38
    if not left and x(column[0].bytes) > plot.x1 - 120:
        left, edge, rows = True, plot.x1, [rows[0] + 30 if rows[0] < plot.top + 50 else rows[0] - 34]
    elif not left:
        edge = x(column[0].bytes) + 22
    parts = []
    for item, row in zip(column, rows, strict=True):
        anchor, tip = ("end", edge + 4) if left else ("start", edge - 4)
        if len(column) > 1:
            parts.append(path([(tip, row), (x(item.bytes), y(gains[item.name].value))], "leader"))
        name = item.name + (" · ships" if item.name == chosen else "")
        strong = " strong t-main" if item.name == chosen else ""
        parts.append(text(edge, row - 1, name, f"direct{strong}", anchor=anchor))
        parts.append(text(edge, row + 12, f"{size(item.bytes)}, {item.latency_p50_us:.0f} µs", "note", anchor=anchor))
    return parts


def spread(wanted: Sequence[float], gap: float, top: float, bottom: float) -> list[float]:
    """Positions in the order of ``wanted``, at least ``gap`` apart, moved as little as a sweep down and up needs."""
    order = sorted(range(len(wanted)), key=lambda index: (wanted[index], index))
    placed = list(wanted)
    floor = top
    for index in order:
        placed[index] = floor = max(wanted[index], floor)
        floor += gap
    ceiling = bottom
    for index in reversed(order):
        placed[index] = ceiling = min(placed[index], ceiling)
        ceiling -= gap
    return placed
