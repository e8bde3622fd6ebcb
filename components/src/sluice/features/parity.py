"""Were the served values the true ones? The same cells by a point-in-time join over the tables behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from sluice.errors import BadInput
from sluice.features.publish import publish_tables
from sluice.features.store import historical, plan_of
from sluice.tasks.task import Task


def offline_cells(task: Task, store: Path, requests: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """
    What the features called ``names`` were for each request at its time.

    Args:
        store: folder of the feature store that serves.
        requests: ``event_time`` (Datetime us UTC), entity keys and request inputs; n rows.
        names: features of the service, or entity keys and request inputs, which are passed through.

    Returns:
        n rows in the order of ``requests``: one column a name, in the order of ``names``.

    Raises:
        BadInput: a name or a column is not there.
    """
    for column in ("event_time", *task.entity_keys, *task.request_inputs):
        if column not in requests.columns:
            raise BadInput(f"column {column}", "is missing in the requests", "pass what the servers were asked")
    feast = publish_tables(task, store)
    plan = plan_of(feast, task.feature_service)
    known = {feature.name for feature in plan.features} | {*task.entity_keys, *task.request_inputs}
    for name in names:
        if name not in known:
            raise BadInput(f"feature {name}", f"is not in service {plan.service}", f"choose from {sorted(known)}")
    found = historical(feast, plan.reduced(names), requests)
    return requests.select(name for name in names if name not in found.columns).hstack(found).select(names)
