"""
The pictures of the report: a module here that defines a :class:`Chart` is all that a new one needs.

A chart is a function of a chapter's files and a width in pixels that yields Vega-Lite specifications, or none where the
chapter left no data; its docstring is the caption that people read below it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import Any, NamedTuple

from markupsafe import Markup

from sluice.charts import Specification, draw
from sluice_local.report.inputs import ReportChapter

ChartRow = dict[str, Any]
Specify = Callable[[ReportChapter, int], Iterator[Specification]]


class Section(StrEnum):
    """Where on the page; the first two are of the whole run's data, the others of a chapter."""

    DATA = "data"
    VALIDATION = "validation"
    LEARNING = "learning"
    VARIANTS = "variants"
    QUALITY = "quality"
    SLICES = "slices"
    ROLLOUT = "rollout"


@dataclass(frozen=True)
class Chart:
    """One kind of picture: where it stands, how wide it is in wide and in narrow columns, and what it draws."""

    section: Section
    widths: tuple[int, ...]
    specify: Specify

    @property
    def caption(self) -> str:
        """What is said below it."""
        return " ".join((self.specify.__doc__ or "").split())


class Figure(NamedTuple):
    """What a chart shows of a chapter: its pictures, each drawn for each width."""

    pictures: tuple[tuple[Markup, ...], ...]
    caption: str


def chart_of(section: Section, *widths: int) -> Callable[[Specify], Chart]:
    """Make a chart of a function."""
    return lambda specify: Chart(section, widths, specify)


def figures(chapter: ReportChapter, section: str) -> list[Figure]:
    """Everything that a section of a chapter shows."""
    rows = [(_pictures(chart, chapter), chart.caption) for chart in _charts() if chart.section == section]
    return [Figure(pictures, caption) for pictures, caption in rows if pictures]


def _pictures(chart: Chart, chapter: ReportChapter) -> tuple[tuple[Markup, ...], ...]:
    specifications = zip(*(chart.specify(chapter, width) for width in chart.widths), strict=True)
    return tuple(tuple(Markup(draw(one, inline=True)) for one in widths) for widths in specifications)  # noqa: S704  escaped


def _charts() -> Iterator[Chart]:
    """In the order of the modules' names, then as they stand there."""
    for name in sorted(each.name for each in pkgutil.iter_modules(__path__)):
        module = import_module(f"{__name__}.{name}")
        yield from (value for value in vars(module).values() if isinstance(value, Chart))
