"""Coordinates of the card's pictures: SVG paths in a unit square of 200 by 200, y downwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SIDE = 200


def roc_sketch(points: Sequence[Sequence[float]]) -> str:
    """The SVG path of a ROC curve; empty without points."""
    return " ".join(f"{'L' if index else 'M'}{_across(x)} {_up(y)}" for index, (x, y) in enumerate(points))


def calibration_sketch(bars: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """One dot with its interval for each bar of the reliability curve."""
    return [
        {"x": _across(bar["mean_score"]), "y": _up(bar["rate"]), "low": _up(bar["low"]), "high": _up(bar["high"])}
        for bar in bars
    ]


def _across(share: float) -> str:
    return f"{share * SIDE:.1f}"


def _up(share: float) -> str:
    return f"{(1 - share) * SIDE:.1f}"
