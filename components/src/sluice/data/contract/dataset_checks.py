"""How many rows there are, by themselves and beside the span or the version before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sluice.data.contract.finding import Finding, plain
from sluice.data.contract.view import ControlSide, DatasetView

_COMPARATORS: tuple[tuple[str, ControlSide, str], ...] = (
    ("num_examples_drift_comparator", "previous", "the span before"),
    ("num_examples_version_comparator", "version", "the version before"),
)


def check_dataset(schema: Any, dataset: DatasetView) -> Iterator[Finding]:
    """Bounds on the number of rows, and on its ratio to earlier ones."""
    if not schema.HasField("dataset_constraints"):
        return
    constraints, rows = schema.dataset_constraints, dataset.examples
    if constraints.HasField("min_examples_count") and rows < constraints.min_examples_count:
        text = f"The table has {plain(rows)} rows, fewer than {constraints.min_examples_count}."
        yield Finding("DATASET_LOW_NUM_EXAMPLES", (), "Low num examples in dataset", text, rows)
        constraints.min_examples_count = int(rows)
    if constraints.HasField("max_examples_count") and rows > constraints.max_examples_count:
        text = f"The table has {plain(rows)} rows, more than {constraints.max_examples_count}."
        yield Finding("DATASET_HIGH_NUM_EXAMPLES", (), "High num examples in dataset", text, rows)
        constraints.max_examples_count = int(rows)
    for name, side, before in _COMPARATORS:
        control = dataset.controls.get(side)
        if control is not None and constraints.HasField(name):
            yield from _ratio(getattr(constraints, name), rows, control.examples, before)


def _ratio(bounds: Any, rows: float, control: float, before: str) -> Iterator[Finding]:
    ratio_text = f"The table has {plain(rows)} rows, and {before} has {plain(control)}"
    ratio = rows / control if control else float("inf")
    if bounds.HasField("max_fraction_threshold") and rows and ratio > bounds.max_fraction_threshold:
        text = f"{ratio_text}: a ratio above {bounds.max_fraction_threshold:g}."
        yield Finding("COMPARATOR_HIGH_NUM_EXAMPLES", (), "High num examples", text, rows)
        if control:
            bounds.max_fraction_threshold = ratio
        else:
            bounds.ClearField("max_fraction_threshold")
    if bounds.HasField("min_fraction_threshold") and control and ratio < bounds.min_fraction_threshold:
        text = f"{ratio_text}: a ratio below {bounds.min_fraction_threshold:g}."
        yield Finding("COMPARATOR_LOW_NUM_EXAMPLES", (), "Low num examples", text, rows)
        bounds.min_fraction_threshold = ratio
