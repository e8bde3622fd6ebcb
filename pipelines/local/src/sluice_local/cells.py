"""Compare served feature vectors with an offline read of the same cells."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from sluice.features.parity import offline_cells
from sluice.models.bundle import BundleManifest
from sluice.monitoring.evidence import Cells
from sluice.tasks.task import Task
from sluice.training.frame import as_trained

_SAMPLE = 200
"""Requests of a look whose served features are read again offline."""
_RELATIVE = 1e-6
"""Feast stores doubles; only the last bits may differ between its two paths."""


def recheck_cells(served: pl.DataFrame, manifest: BundleManifest, task: Task, features: Path) -> Cells:
    """A sample of the served rows against the training path, asked for the same moments."""
    names = manifest.features.names
    sample = served.sort(pl.col("request_id").hash(seed=0), "request_id").head(_SAMPLE)

    def read(requests: pl.DataFrame) -> pl.DataFrame:
        return as_trained(offline_cells(task, features, requests, names), manifest.recipe)

    return compare_cells(sample, names, task, read)


def compare_cells(
    served: pl.DataFrame, names: Sequence[str], task: Task, read: Callable[[pl.DataFrame], pl.DataFrame]
) -> Cells:
    """
    Count the cells that differ.

    Args:
        served: rows of the prediction log.
        names: the model's features.
        task: says which keys and inputs a request carries.
        read: reads the cells of requests offline, as of their event time.
    """
    keys = [json.loads(row) for row in served["keys"]]
    requests = pl.DataFrame(
        {"event_time": served["event_time"]}
        | {name: [row[name] for row in keys] for name in (*task.entity_keys, *task.request_inputs)},
        schema_overrides=dict(task.request_inputs),
    )
    offline = read(requests).to_dicts()
    online = [json.loads(row) for row in served["features"]]
    wrong = Counter(
        name
        for was, should in zip(online, offline, strict=True)
        for name in names
        if not _same(was.get(name), should[name])
    )
    worst = min(wrong, key=lambda name: (-wrong[name], name)) if wrong else None
    return Cells(compared=len(names) * served.height, different=sum(wrong.values()), worst=worst)


def _same(served: Any, offline: Any) -> bool:
    if served is None or offline is None:
        return served is offline
    if isinstance(served, str) or isinstance(offline, str):
        return bool(served == offline)
    return math.isclose(served, offline, rel_tol=_RELATIVE, abs_tol=1e-9)
