"""The card's pictures of kinds other than binary: what the template draws, by the picture's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_SIDE = 200
"""Of a picture, in units of its SVG paths; y grows downwards."""


def across(share: float) -> str:
    """A share of the width, from the left."""
    return f"{share * _SIDE:.1f}"


def up(share: float) -> str:
    """A share of the height, from below."""
    return f"{(1 - share) * _SIDE:.1f}"


def calibration_dots(bars: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """One dot with its interval for each bar of a reliability curve."""
    return [
        {"x": across(bar["mean_score"]), "y": up(bar["rate"]), "low": up(bar["low"]), "high": up(bar["high"])}
        for bar in bars
    ]


def _confusion(picture: Mapping[str, Any]) -> dict[str, Any]:
    """A row a class; shares of the row shade its cells."""
    rows = [
        {"name": name, "cells": [{"n": n, "share": round(n / sum(counts), 3) if n else 0} for n in counts]}
        for name, counts in zip(picture["classes"], picture["rows"], strict=True)
    ]
    return {"picture": "confusion", "classes": picture["classes"], "rows": rows}


def _reliability(picture: Mapping[str, Any]) -> dict[str, Any]:
    return {"picture": "reliability", "name": picture["name"], "dots": calibration_dots(picture["bins"])}


def _values(picture: Mapping[str, Any]) -> dict[str, Any]:
    """Means with intervals on one scale of both axes; boxes of residuals on another."""
    bins = picture["bins"]
    place = _scale([end for each in bins for end in (each["mean_prediction"], each["low"], each["high"])])
    height = _scale([0.0, *(end for each in bins for end in each["residuals"])])
    dots = [
        {"x": across(place(each["mean_prediction"])), "y": up(place(each["mean_label"]))}
        | {"low": up(place(each["low"])), "high": up(place(each["high"]))}
        for each in bins
    ]
    boxes = [
        {"x": across(place(each["mean_prediction"])), "ends": [up(height(end)) for end in each["residuals"]]}
        for each in bins
    ]
    return {"picture": "values", "dots": dots, "boxes": boxes, "zero": up(height(0.0)), **_ends(bins)}


def _ends(bins: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    values = [end for each in bins for end in (each["mean_prediction"], each["low"], each["high"])]
    residuals = [0.0, *(end for each in bins for end in each["residuals"])]
    names = ("least", "most", "below", "above")
    ends = (min(values, default=0.0), max(values, default=1.0), min(residuals), max(residuals))
    return {name: f"{end:.4g}" for name, end in zip(names, ends, strict=True)}


def _scale(values: Sequence[float]) -> Callable[[float], float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    width = (high - low) or 1.0
    return lambda value: (value - low) / width


PICTURES: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "confusion": _confusion,
    "reliability": _reliability,
    "values": _values,
}
