"""Feast definitions of the history of each key of a table that is a task."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.types import Float64, Int64, String
from feast.value_type import ValueType

from sluice.errors import BadInput
from sluice.features.tables import table_path
from sluice.tasks.table import TableTask
from sluice.tasks.table_history import view_of

_TYPES = {pl.Int64: Int64, pl.Float64: Float64}
_LIFETIME = timedelta(days=2)
"""A history is written every midnight; one that is older was not renewed."""


def history_views(task: TableTask, definitions: str) -> dict[str, Any]:
    """
    An entity and a view for each key, and the feature service, by their names: what a module of definitions has.

    Args:
        definitions: ``__file__`` of that module.

    Raises:
        BadInput: the task has no history, or its table cannot be read.
    """
    if task.history is None or not task.keys:
        rule = "has no history of any key, and a feature service is made of it"
        raise BadInput(f"task {task.name!r}", rule, "say keys and history, or leave the feature definitions out")
    objects: dict[str, Any] = {}
    for key in task.keys:
        entity = Entity(name=key, join_keys=[key], value_type=ValueType.STRING)
        fields = [Field(name=name, dtype=_TYPES[kind]) for name, kind in task.history_fields(key).items()]
        view = view_of(key)
        objects[f"entity_{key}"] = entity
        objects[view] = FeatureView(
            name=view,
            entities=[entity],
            ttl=_LIFETIME,
            schema=[Field(name=key, dtype=String), *fields],
            source=FileSource(
                name=f"{view}_source", path=table_path(definitions, view), timestamp_field="event_timestamp"
            ),
        )
    views = [objects[view_of(key)] for key in task.keys]
    return {**objects, f"service_{task.name}": FeatureService(name=task.name, features=views)}
