"""Inline SVG: escaped elements, one frame for every chart, marks for verdicts. Colours come from the page's CSS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from sluice.documents.verdict import Verdict
from sluice_local.report.scales import Scale, tick_labels

Points = Sequence[tuple[float, float]]
VERDICT_CLASSES = {Verdict.PASS: "v-pass", Verdict.FAIL: "v-fail", Verdict.INCONCLUSIVE: "v-wait"}


@dataclass(frozen=True)
class Plot:
    """A chart's drawing area, in SVG units, inside a figure of ``width`` by ``height``."""

    width: float
    height: float
    left: float = 48
    right: float = 14
    top: float = 14
    bottom: float = 42

    @property
    def x1(self) -> float:
        """Right edge of the drawing area."""
        return self.width - self.right

    @property
    def y1(self) -> float:
        """Lower edge of the drawing area."""
        return self.height - self.bottom


def _written(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def element(name: str, *inside: str, **attributes: object) -> Markup:
    """An element; ``cls`` becomes ``class``, underscores become hyphens, text that is not markup is escaped."""
    pairs = (
        (key.rstrip("_").replace("cls", "class").replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None
    )
    shown = Markup("").join(Markup(' {}="{}"').format(key, _written(value)) for key, value in pairs)
    body = Markup("").join(escape(part) for part in inside)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), shown, body)  # noqa: S704  names are ours


def text(
    x: float, y: float, words: str, cls: str = "", *, anchor: str = "start", turn: bool = False, hint: str | None = None
) -> Markup:
    """Text with its baseline at ``(x, y)``; ``turn`` writes it upwards."""
    inside = (words,) if hint is None else (words, element("title", hint))
    turned = f"rotate(-90 {_written(float(x))} {_written(float(y))})" if turn else None
    return element("text", *inside, x=float(x), y=float(y), cls=cls or None, text_anchor=anchor, transform=turned)


def line(x1: float, y1: float, x2: float, y2: float, cls: str) -> Markup:
    """A straight line."""
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), cls=cls)


def rect(x: float, y: float, width: float, height: float, cls: str, *, hint: str | None = None) -> Markup:
    """A rectangle."""
    inside = () if hint is None else (element("title", hint),)
    return element(
        "rect", *inside, x=float(x), y=float(y), width=max(0.0, float(width)), height=max(0.0, float(height)), cls=cls
    )


def path(points: Points, cls: str, *, closed: bool = False) -> Markup:
    """A line through points in SVG units."""
    steps = " L".join(f"{_written(float(x))} {_written(float(y))}" for x, y in points)
    return element("path", d=f"M{steps}" + ("Z" if closed else ""), cls=cls)


def dot(x: float, y: float, cls: str, radius: float = 3.5, hint: str | None = None) -> Markup:
    """A disc."""
    inside = () if hint is None else (element("title", hint),)
    return element("circle", *inside, cx=float(x), cy=float(y), r=float(radius), cls=cls)


def verdict_mark(x: float, y: float, verdict: Verdict, hint: str) -> Markup:
    """A disc for PASS, a cross for FAIL, a hollow diamond for INCONCLUSIVE: shape says it as well as colour."""
    title, cls = element("title", hint), f"mark {VERDICT_CLASSES[verdict]}"
    if verdict is Verdict.PASS:
        shape = element("circle", cx=float(x), cy=float(y), r=3.4, cls="fill")
    elif verdict is Verdict.FAIL:
        shape = element("path", d=f"M{x - 4:.2f} {y - 4:.2f}l8 8m0 -8l-8 8", cls="cross")
    else:
        shape = element("path", d=f"M{x:.2f} {y - 4.4:.2f}l4.4 4.4l-4.4 4.4l-4.4 -4.4Z", cls="hollow")
    return element("g", title, shape, cls=cls)


def x_axis(plot: Plot, scale: Scale, title: str, ticks: Iterable[tuple[float, str]] | None = None) -> Markup:
    """Tick labels and title below the drawing area."""
    values = scale.ticks()
    marks = list(ticks) if ticks is not None else list(zip(values, tick_labels(values), strict=True))
    parts = [line(plot.left, plot.y1, plot.x1, plot.y1, "axis")]
    for value, words in marks:
        parts.append(line(scale(value), plot.y1, scale(value), plot.y1 + 4, "axis"))
        parts.append(text(scale(value), plot.y1 + 16, words, "tick", anchor="middle"))
    parts.append(text((plot.left + plot.x1) / 2, plot.y1 + 34, title, "axis-title", anchor="middle"))
    return Markup("").join(parts)


def y_axis(plot: Plot, scale: Scale, title: str, ticks: Iterable[tuple[float, str]] | None = None) -> Markup:
    """Grid lines, tick labels and an upright title at the left."""
    values = scale.ticks(4)
    marks = list(ticks) if ticks is not None else list(zip(values, tick_labels(values), strict=True))
    parts = []
    for value, words in marks:
        parts.append(line(plot.left, scale(value), plot.x1, scale(value), "grid"))
        parts.append(text(plot.left - 6, scale(value) + 4, words, "tick", anchor="end"))
    parts.append(text(13, (plot.top + plot.y1) / 2, title, "axis-title", anchor="middle", turn=True))
    return Markup("").join(parts)


def picture(plot: Plot, label: str, parts: Iterable[Markup], cls: str = "chart") -> Markup:
    """The whole figure as one ``<svg>`` that scales with its column; ``label`` is read out by screen readers."""
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {_written(float(plot.width))} {_written(float(plot.height))}",
        cls=cls,
        role="img",
        aria_label=label,
    )
