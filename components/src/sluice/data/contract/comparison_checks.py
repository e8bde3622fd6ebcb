"""Skew against the serving side and drift against the span before, by the thresholds of the schema."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sluice.data.contract.comparators import (
    infinity_norm,
    jensen_shannon_of_counts,
    jensen_shannon_of_histograms,
    normalized_absolute_difference,
)
from sluice.data.contract.finding import FeatureLook
from sluice.data.contract.view import ControlSide, FeatureView

Comparator = Literal["infinity_norm", "normalized_abs_difference", "jensen_shannon_divergence"]
COMPARATORS: tuple[Comparator, ...] = ("infinity_norm", "normalized_abs_difference", "jensen_shannon_divergence")
_KINDS: dict[Comparator, tuple[str, str]] = {
    "infinity_norm": ("COMPARATOR_L_INFTY_HIGH", "L-infinity distance"),
    "normalized_abs_difference": (
        "COMPARATOR_NORMALIZED_ABSOLUTE_DIFFERENCE_HIGH",
        "normalized absolute difference",
    ),
    "jensen_shannon_divergence": ("COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH", "Jensen-Shannon divergence"),
}
_SIDES: tuple[tuple[str, ControlSide], ...] = (("drift_comparator", "previous"), ("skew_comparator", "serving"))


@dataclass(frozen=True)
class Score:
    """What a comparator says of two features, and the value where they differ most, if it says that."""

    size: float
    value: str | None = None


def score(comparator: Comparator, one: FeatureView, other: FeatureView, source: str = "STANDARD") -> Score | None:
    """
    The comparator's score; ``None`` where it has none: a divergence without a histogram, or with an empty one.

    Args:
        comparator: its name in the schema.
        one: the feature here.
        other: the feature there.
        source: for numbers, which histogram is compared: STANDARD or QUANTILES.
    """
    counts, control = one.counts(), other.counts()
    if comparator == "jensen_shannon_divergence":
        if counts and control:
            return Score(jensen_shannon_of_counts(counts, control))
        histograms = [view.histogram("QUANTILES" if source == "QUANTILES" else "STANDARD") for view in (one, other)]
        if None in histograms:
            return None
        size = jensen_shannon_of_histograms(*histograms)
        return None if size is None else Score(size)
    difference = (infinity_norm if comparator == "infinity_norm" else normalized_absolute_difference)(counts, control)
    return Score(difference.size, difference.value)


def check_comparisons(look: FeatureLook) -> None:
    """Each threshold of the feature against each side that there is."""
    for name, side in _SIDES:
        control = look.dataset.controls.get(side)
        if control is None or not look.feature.HasField(name):
            continue
        comparator = getattr(look.feature, name)
        demands = [each for each in COMPARATORS if getattr(comparator, each).HasField("threshold")]
        if not demands:
            continue
        other = control.feature(look.view.path)
        if other is None:
            text = f"The {side} statistics do not have the feature."
            look.report("COMPARATOR_CONTROL_DATA_MISSING", f"{side} data missing", text)
            look.feature.ClearField(name)
            continue
        for each, size, value in _above(look.view, other, comparator, demands):
            threshold = getattr(comparator, each)
            kind, title = _KINDS[each]
            most = f", most at {value!r}" if value else ""
            text = f"The {title} to {side} is {size:.6g}, above {threshold.threshold:g}{most}."
            look.report(kind, f"High {title} to {side}", text, examples=[value] if value else [])
            threshold.threshold = size


def _above(
    view: FeatureView, other: FeatureView, comparator: Any, demands: list[Comparator]
) -> Iterator[tuple[Comparator, float, str | None]]:
    for each in demands:
        threshold = getattr(comparator, each)
        source = "STANDARD"
        if each == "jensen_shannon_divergence" and threshold.HasField("source"):
            source = type(threshold.source).Type.Name(threshold.source.type)
        result = score(each, view, other, source)
        if result is not None and result.size > threshold.threshold:
            yield each, result.size, result.value
