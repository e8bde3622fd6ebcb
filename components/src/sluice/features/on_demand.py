"""
Features that are computed when they are asked for: a transform's columns, checked value by value.

Whoever asks cannot know what a transform makes of what it reads, so nothing that goes wrong in one is their fault, with
one exception: a transform may raise ``BadInput`` itself, for a value of the request that means nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sluice.errors import SluiceError, one_line
from sluice.features.manifest import Feature

FeatureColumns = Mapping[str, Sequence[Any]]
_INT64 = 2**63


@dataclass(frozen=True)
class DerivedColumns:
    """What a transform gives for n rows."""

    columns: dict[str, list[Any]]
    """n values of each feature; None is missing, and is all that a failed row has."""
    failures: dict[int, str]
    """By the number of the row: why there is no value."""


@dataclass(frozen=True)
class OnDemandView:
    """A view that is computed from request inputs and stored features: columns of values in, columns out."""

    name: str
    inputs: tuple[str, ...]
    features: tuple[Feature, ...]
    source: str
    """Source text of the transform."""
    transform: Callable[[dict[str, Sequence[Any]]], Mapping[str, Sequence[Any]]]

    def apply(self, columns: FeatureColumns) -> DerivedColumns:
        """
        Run the transform over n rows; where that fails, over each by itself, so that one takes no other with it.

        Raises:
            SluiceError: the transform raised it.
        """
        count = len(next((columns[name] for name in self.inputs), ()))
        if not isinstance(whole := self._try(columns, range(count)), str):
            return DerivedColumns(whole, {})
        derived = DerivedColumns({feature.name: [None] * count for feature in self.features}, {})
        for row in range(count):
            alone = self._try(columns, range(row, row + 1))
            if isinstance(alone, str):
                derived.failures[row] = alone
                continue
            for name, (value,) in alone.items():
                derived.columns[name][row] = value
        return derived

    def _try(self, columns: FeatureColumns, rows: range) -> dict[str, list[Any]] | str:
        """The values of these rows, or why there are none."""
        # Copies: a transform may sort what it is given.
        inputs: dict[str, Sequence[Any]] = {name: list(columns[name][rows.start : rows.stop]) for name in self.inputs}
        try:
            output = self.transform(inputs)
            return {feature.name: _values(feature, output[feature.name], len(rows)) for feature in self.features}
        except SluiceError:
            raise
        except Exception as error:  # noqa: BLE001 - a transform is anybody's code
            return f"{type(error).__name__}: {one_line(error, 160)}"


def _values(feature: Feature, values: Sequence[Any], count: int) -> list[Any]:
    if isinstance(values, str) or len(values) != count:
        raise ValueError(f"gives {len(values)} of {feature.name} for {count} rows")
    # Nearly all values are right as they are, and this is asked for each request.
    if feature.dtype == "float":
        return [v if type(v) is float and -math.inf < v < math.inf else _value(feature, v) for v in values]
    if feature.dtype == "int":
        return [v if type(v) is int and -_INT64 <= v < _INT64 else _value(feature, v) for v in values]
    return [v if type(v) is str else _value(feature, v) for v in values]


def _value(feature: Feature, value: Any) -> Any:
    """As the feature's type has it; None for null and NaN."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return None
    if feature.dtype == "string" and isinstance(value, str):
        return value
    finite = isinstance(value, int | float) and math.isfinite(value)
    if finite and feature.dtype == "float":
        return float(value)
    if finite and feature.dtype == "int" and value == int(value) and -_INT64 <= value < _INT64:
        return int(value)
    raise ValueError(f"gives {value!s:.40} for {feature.name}, no {feature.dtype}")
