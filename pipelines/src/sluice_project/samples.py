"""
A made-up table for each kind of target, so that a new repository works at once: orders of a shop, drawn from a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from sluice.errors import BadInput
from sluice.tasks.table_declaration import SEPARATOR

ROWS, SEED = 1000, 20240101
TABLE = "orders.csv"
_START = datetime(2024, 1, 1, tzinfo=UTC)
_EVERY = timedelta(hours=3)
_SHOPS = ("ash", "birch", "cedar", "elm")
_Draw = Callable[[np.random.Generator, Any], list[object]]
"""Labels of rows, of what they are like: around 0, above it for what is likelier."""


@dataclass(frozen=True)
class SampleTable:
    """
    One of them.

    Attributes:
        module: of the target's class, in ``sluice.targets``.
        target: its expression, as it stands in the task.
        label: name of the column.
        question: what the model answers.
        margin: of the target's loss, by which two models of a few hundred rows may differ.
        wrong: a label that is none of the kind, for a test.
        draw: the labels.
    """

    module: str
    target: str
    label: str
    question: str
    margin: float
    wrong: str
    draw: _Draw

    @property
    def target_class(self) -> str:
        """The name to import."""
        return self.target.partition("(")[0]


def _chances(random: np.random.Generator, level: Any, shift: float) -> Any:
    return random.random(len(level)) < 1 / (1 + np.exp(-(level + shift)))


def _binary(random: np.random.Generator, level: Any) -> list[object]:
    return [int(each) for each in _chances(random, 2 * level, -0.5)]


def _classes(random: np.random.Generator, level: Any) -> list[object]:
    noisy = level + random.normal(0, 0.6, len(level))
    return ["returned" if each > 0.7 else "exchanged" if each > -0.2 else "kept" for each in noisy]


def _several(random: np.random.Generator, level: Any) -> list[object]:
    late, damaged = _chances(random, 2 * level, -0.5), _chances(random, -1.5 * level, -1.0)
    pairs = zip(late, damaged, strict=True)
    return [SEPARATOR.join(["late"] * bool(one) + ["damaged"] * bool(other)) for one, other in pairs]


def _hours(random: np.random.Generator, level: Any) -> list[object]:
    return [round(float(each), 2) for each in 24 + 6 * level + random.normal(0, 2, len(level))]


def _calls(random: np.random.Generator, level: Any) -> list[object]:
    return [int(each) for each in random.poisson(np.exp(0.2 + 0.6 * level))]


SAMPLES: Mapping[str, SampleTable] = {
    "binary": SampleTable("binary", "Binary()", "returned", "Will this order be returned?", 0.2, '"perhaps"', _binary),
    "multi-class": SampleTable(
        "multi_class",
        'MultiClass(classes=("kept", "exchanged", "returned"), top=2)',
        "outcome",
        "What becomes of this order?",
        0.3,
        '"lost"',
        _classes,
    ),
    "multi-label": SampleTable(
        "multi_label",
        'MultiLabel(names=("late", "damaged"))',
        "complaints",
        "What will a customer complain of?",
        0.2,
        '"late|blue"',
        _several,
    ),
    "regression": SampleTable(
        "regression",
        'Regression(unit="hours", tolerance=3)',
        "hours",
        "How many hours until this order is delivered?",
        20.0,
        '"soon"',
        _hours,
    ),
    "counts": SampleTable("counts", "Counts()", "calls", "How many calls will this order cause?", 0.6, "-1", _calls),
}


def sample_of(kind: str) -> SampleTable:
    """
    The table for a kind of target.

    Raises:
        BadInput: there is no such kind.
    """
    if kind not in SAMPLES:
        raise BadInput(f"--target {kind!r:.60}", "is no kind of target", f"choose from {', '.join(SAMPLES)}")
    return SAMPLES[kind]


def sample_table(kind: str) -> pl.DataFrame:
    """``ROWS`` orders: ``ordered_at`` (text in ISO 8601), ``shop``, ``channel``, ``items``, ``amount``, the label."""
    sample = sample_of(kind)
    random = np.random.default_rng(SEED)
    shop, channel = random.integers(0, len(_SHOPS), ROWS), random.integers(0, 2, ROWS)
    items = random.integers(1, 9, ROWS)
    amount = np.round(items * random.lognormal(2.5, 0.4, ROWS), 2)
    level = 0.35 * (shop - 1.5) + 0.8 * channel - 0.4 + 0.25 * (items - 4.5)
    return pl.DataFrame(
        {
            "ordered_at": [(_START + row * _EVERY).strftime("%Y-%m-%dT%H:%M:%SZ") for row in range(ROWS)],
            "shop": [_SHOPS[each] for each in shop],
            "channel": [("web", "phone")[each] for each in channel],
            "items": items,
            "amount": amount,
            sample.label: sample.draw(random, level),
        }
    )
