"""From what a person names, a table or a file of statistics, to what schemas are held against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sluice.data.census.census import WHOLE, Census, census_of
from sluice.data.census.files import is_statistics, read_statistics
from sluice.data.census.messages import statistics_of
from sluice.data.census.tables import batches_of
from sluice.data.contract.from_json import schema_of_json
from sluice.data.contract.schema_file import declared_types, opaque_columns, read_schema_message
from sluice.data.contract.view import DatasetView
from sluice.errors import BadInput


def read_any_schema(path: Path) -> Any:
    """
    The ``Schema`` message of a file: TFDV's text or binary, or the JSON that tasks commit.

    Raises:
        BadInput: it cannot be read, or is no schema.
    """
    return schema_of_json(path)[0] if path.suffix == ".json" else read_schema_message(path)


def census_of_tables(
    paths: Sequence[Path], schema: Any = None, weight: str | None = None, slices: Sequence[str] = ()
) -> Census:
    """
    Count tables as one, the one after the other.

    Raises:
        BadInput: one is missing, damaged, or has a column of another type than the one before.
    """
    types = {} if schema is None else declared_types(schema)
    whole = Census(weight, tuple(slices))
    for path in paths:
        whole.merge(census_of(batches_of(path, types), weight, slices))
    return whole


def statistics_from(path: Path, schema: Any = None) -> Any:
    """The ``DatasetFeatureStatisticsList`` in a file, or of a table; raises as ``census_of_tables`` does."""
    if is_statistics(path):
        return read_statistics(path)
    opaque = frozenset() if schema is None else opaque_columns(schema)
    return statistics_of(census_of_tables([path], schema), opaque)


def view_from(path: Path, schema: Any = None, part: str | None = None) -> DatasetView:
    """
    Statistics of a file or of a table: of the whole, or of the slice that is named.

    Raises:
        BadInput: as ``census_of_tables``, or there is no such slice.
    """
    datasets = statistics_from(path, schema).datasets
    if part is None:
        return DatasetView(next((each for each in datasets if each.name in ("", WHOLE)), datasets[0]))
    for each in datasets:
        if each.name == part:
            return DatasetView(each)
    raise BadInput(f"slice {part!r} of {path}", "is not there", f"choose from {[each.name for each in datasets][:20]}")
