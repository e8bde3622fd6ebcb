"""A table of orders, and it as a task: two hours between them, three shops, a label that follows the amount."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from sluice.tasks.table import TableTask

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = 600


def orders() -> pl.DataFrame:
    """50 days of orders: ``at`` (text), ``shop``, ``amount``, ``express`` (a truth), ``late`` (0 or 1)."""
    amounts = [((row * 37) % 101) / 10 for row in range(ROWS)]
    return pl.DataFrame(
        {
            "at": [(START + row * timedelta(hours=2)).isoformat() for row in range(ROWS)],
            "shop": [("ash", "birch", "cedar")[row % 3] for row in range(ROWS)],
            "amount": amounts,
            "express": [row % 4 == 0 for row in range(ROWS)],
            "late": [int(amount > 5) ^ int(row % 11 == 0) for row, amount in enumerate(amounts)],
        }
    )


def table_task(
    folder: Path, change: Callable[[pl.DataFrame], pl.DataFrame] = lambda frame: frame, **fields: Any
) -> TableTask:
    """The task over the orders, changed, in ``folder/orders.parquet``; ``fields`` instead of those that it has."""
    path = folder / "orders.parquet"
    change(orders()).write_parquet(path)
    return TableTask(**{"name": "orders", "table": path, "time": "at", "label": "late", "keys": ("shop",), **fields})
