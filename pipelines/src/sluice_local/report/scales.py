"""From data to positions on the page: scales with ticks at round values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise


@dataclass(frozen=True)
class Scale:
    """
    Maps ``[low, high]`` onto ``[start, end]`` (SVG units); values outside are drawn at the nearer end.

    ``low < high``; with ``logarithmic`` both are positive.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The position of a value."""
        low, high, at = (self._at(item) for item in (self.low, self.high, value))
        part = min(1.0, max(0.0, (at - low) / (high - low)))
        return self.start + part * (self.end - self.start)

    def contains(self, value: float) -> bool:
        """Whether the value lies on the scale."""
        return self.low <= value <= self.high

    def ticks(self, wanted: int = 5) -> list[float]:
        """About ``wanted`` round values inside the scale."""
        return _log_ticks(self.low, self.high) if self.logarithmic else _round_ticks(self.low, self.high, wanted)

    def _at(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.logarithmic else value


def spanning(
    values: Iterable[float], start: float, end: float, *, pad: float = 0.06, around: Iterable[float] = ()
) -> Scale:
    """A linear scale over all ``values`` and ``around``, with ``pad`` of their spread added on both sides."""
    known = [value for value in (*values, *around) if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if high - low < 1e-12:
        low, high = low - max(1e-6, abs(low) * 0.1), high + max(1e-6, abs(high) * 0.1)
    more = (high - low) * pad
    return Scale(low - more, high + more, start, end)


def tick_labels(ticks: Iterable[float]) -> list[str]:
    """Ticks with exactly the decimals that tell them apart."""
    known = list(ticks)
    step = min((b - a for a, b in pairwise(known)), default=1.0)
    decimals = max(0, min(6, -math.floor(math.log10(step) + 1e-9)))
    if any(abs(round(value, decimals) - value) > step * 1e-3 for value in known):
        decimals += 1
    return [f"{value:,.{decimals}f}".replace(",", "\u202f").replace("-", "−") for value in known]


def time_ticks(scale: Scale, wanted: int) -> list[tuple[float, str]]:
    """Midnights (UTC) of a scale in epoch seconds, at most about ``wanted``, like ``3 Aug``; hours on a short one."""
    if scale.high - scale.low < 2.5 * 86400:
        return _hour_ticks(scale, wanted)
    days = max(1, math.ceil((scale.high - scale.low) / 86400 / max(1, wanted)))
    step = next((width for width in (1, 2, 3, 5, 7, 14, 28, 56, 91) if width >= days), days)
    first = datetime.fromtimestamp(scale.low, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    found = []
    at = first if first.timestamp() >= scale.low else first + timedelta(days=1)
    while at.timestamp() <= scale.high:
        found.append((at.timestamp(), f"{at.day} {at:%b}"))
        at += timedelta(days=step)
    return found


def _hour_ticks(scale: Scale, wanted: int) -> list[tuple[float, str]]:
    hours = (scale.high - scale.low) / 3600
    step = next((width for width in (1, 3, 6, 12) if hours / width <= wanted), 24) * 3600
    found = []
    for index in range(math.ceil(scale.low / step), math.floor(scale.high / step) + 1):
        at = datetime.fromtimestamp(index * step, UTC)
        found.append((float(index * step), f"{at.day} {at:%b}" if at.hour == 0 else f"{at:%H:%M}"))
    return found


def _round_ticks(low: float, high: float, wanted: int) -> list[float]:
    rough = (high - low) / max(1, wanted)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step + 0.0 for index in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 4 else (1,)
    return [10.0**power * factor for power in powers for factor in factors if low <= 10.0**power * factor <= high]
