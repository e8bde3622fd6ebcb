"""What the transform of ``odd_visits_repo`` makes of an amount, and a store that it reads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sluice.errors import BadInput
from sluice.features.publish import FeaturePublisher
from sluice.features.store import open_feature_store, plan_of
from tests.support import shop_visits
from tests.support.tiny_bundle import write_tiny_bundle

REPO = Path(__file__).parent / "odd_visits_repo"
NOW = datetime(2024, 4, 10, 12, 20, tzinfo=UTC)
DOORS = {"oak": 3, "elm": None}
"""Of the shops that are known; of one it is known that nobody knows."""
TASK = dataclasses.replace(
    shop_visits.TASK, read_feature_tables=lambda *_: {"shops": _table()}, source_files=lambda: {"self": Path(__file__)}
)
FINE, NAN, NUMPY = 0.0, 5.0, 6.0
FAULTS: Mapping[float, Callable[[int], Any]] = {
    10.0: lambda doors: [][doors],
    11.0: lambda doors: doors.no_such_thing,  # type: ignore[attr-defined]
    12.0: lambda doors: doors / 0,
    13.0: lambda doors: DOORS[str(doors)],
    14.0: lambda _: math.inf,
    15.0: lambda _: -math.inf,
    16.0: lambda _: np.float32("inf"),
    17.0: lambda _: 3.5,
    18.0: lambda _: "many",
    19.0: lambda _: 2**70,
    20.0: lambda _: [1],
    21.0: lambda doors: int("no" * doors),
    22.0: lambda _: (_ for _ in ()).throw(RuntimeError("of its own")),
}
"""What goes wrong, by the amount."""
SENSELESS = 99.0
"""An amount that the transform itself refuses."""


def visits_of(amount: float, doors: int) -> Any:
    """Ten a door, and more for some amounts."""
    if amount == SENSELESS:
        raise BadInput("amount", "is 99.0, which no order has", "send the order's amount")
    if amount in FAULTS:
        return FAULTS[amount](doors)
    if amount == NUMPY:
        return np.int64(10 * doors)
    return math.nan if amount == NAN else 10 * abs(doors)


def _table() -> pl.DataFrame:
    rows = [{"shop": name, "doors": doors, "colour": "red", "event_timestamp": NOW} for name, doors in DOORS.items()]
    return pl.DataFrame(rows, schema_overrides={"doors": pl.Int64, "event_timestamp": pl.Datetime("us", "UTC")})


def write_odd_store(store: Path, bundles: Path) -> str:
    """The store, loaded up to ``NOW``, and a bundle that was trained with its definitions; returns its digest."""
    FeaturePublisher(TASK, store, REPO).reset(NOW)
    return write_tiny_bundle(bundles, service_digest=plan_of(open_feature_store(store), "shop_visits").digest)
