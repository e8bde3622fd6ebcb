"""Feature tables in a folder or on object storage, and the marks that say what a folder was made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from sluice.content import digest_of_file, digest_of_value, write_json, written_whole
from sluice.errors import BadInput
from sluice.features.plan import StoredView
from sluice.features.table_contract import MOMENT, TableContract
from sluice.installation.source_code import reached_sources
from sluice.object_store import NoSuchObject, open_location
from sluice.tasks.answers import feature_tables_of, source_digest
from sluice.tasks.task import Task

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset, Expression

TABLES_MARK = "tables.json"
"""Beside the folder of the tables: what they were made of."""
_ROOT: ContextVar[str | None] = ContextVar("tables", default=None)


@contextmanager
def tables_at(root: str) -> Iterator[None]:
    """Definitions that are loaded inside find their tables in ``root``: a folder, or ``s3://bucket/prefix``."""
    token = _ROOT.set(root)
    try:
        yield
    finally:
        _ROOT.reset(token)


def table_path(definitions: str, name: str) -> str:
    """
    Where the table of a view lies, for its definition.

    Args:
        definitions: ``__file__`` of the definitions. They lie in ``<store>/repo/`` and the tables in
            ``<store>/offline/``, unless ``tables_at`` says otherwise.
        name: of the view.
    """
    # Absolute: Feast's DuckDB store reads relative paths from the current directory.
    root = _ROOT.get() or str(Path(definitions).resolve().parents[1] / "offline")
    return f"{root}/{name}.parquet"


def origin_of_tables(task: Task, end: datetime) -> dict[str, str]:
    """What the feature tables of ``[train, end)`` are made of: raw files, window, and all code that builds them."""
    return {
        "source": source_digest(task),
        "from": task.splits.train.isoformat(),
        "to": end.isoformat(),
        "code": code_of_tables(task),
    }


def code_of_tables(task: Task) -> str:
    """Digest of all code that builds the task's feature tables: what a value in them means hangs on it."""
    code = getattr(task.read_feature_tables, "__code__", None)
    return digest_of_value(
        [digest_of_file(Path(code.co_filename)) if code else "unknown", reached_sources(task.modules)]
    )


def known_code(root: str) -> str | None:
    """
    ``code_of_tables`` as whoever wrote the tables below ``root`` left it there; ``None`` where nobody did.

    Raises:
        Unavailable: the store does not answer.
    """
    try:
        mark = json.loads((open_location(root) / TABLES_MARK).read())
    except (NoSuchObject, ValueError):
        return None
    code = mark.get("code") if isinstance(mark, dict) else None
    return code if isinstance(code, str) else None


def has_tables(store: Path, made_of: Mapping[str, str]) -> bool:
    """Whether ``write_tables`` finished in this store with tables of this origin."""
    return bool(read_mark(store / TABLES_MARK) == dict(made_of))


def write_tables(tables: Mapping[str, pl.DataFrame], store: Path, made_of: Mapping[str, str]) -> None:
    """Write each table to ``store/offline/<name>.parquet``, then their origin: it is missing after an interruption."""
    (store / TABLES_MARK).unlink(missing_ok=True)
    for name, table in tables.items():
        with written_whole(store / "offline" / f"{name}.parquet") as beside:
            table.write_parquet(beside, compression="zstd", compression_level=1)
    write_json(store / TABLES_MARK, dict(made_of))


def task_tables(task: Task, end: datetime, views: Iterable[StoredView]) -> dict[str, pl.DataFrame]:
    """
    The feature tables of ``[train, end)`` as the task builds them.

    Raises:
        BadInput: building fails, or the table of one of ``views`` is missing or not what the view says; names it.
    """
    mend = "mend read_feature_tables of the task or its source"
    source = f"read_feature_tables of task {task.name!r}"
    tables: Any = feature_tables_of(task, end)
    if not isinstance(tables, Mapping):
        raise BadInput(source, f"gives a {type(tables).__name__}, not tables by the names of their views", mend)
    for name, table in tables.items():
        if not isinstance(table, pl.DataFrame):
            kind = f"{type(table).__module__.partition('.')[0]}.{type(table).__name__}"
            raise BadInput(source, f"gives a {kind} for view {name!r}, not a polars.DataFrame", mend)
    distinct = dict(tables)
    for view in views:
        if view.name not in tables:
            raise BadInput(source, f"gives no table for view {view.name!r}, only for {sorted(tables)}"[:200], mend)
        contract = TableContract(view, f"table {view.name!r} of task {task.name!r}", mend)
        contract.require_rows(tables[view.name].height)
        distinct[view.name] = contract.distinct(tables[view.name])
    return distinct


def table_rows(address: str, view: StoredView, condition: Expression) -> pl.DataFrame:
    """
    What a view reads of those rows of its table that ``condition`` keeps.

    Raises:
        BadInput: the table has no rows at all, or is not what the view says.
        Unavailable: the store does not answer, refuses, or has no such object.
    """
    from pyarrow.compute import field

    table, contract = open_table(address, view)
    with open_location(address).refusals("read"):
        contract.require_rows(table.count_rows())
        # A row without a time is in no stretch of it, and is to be named all the same.
        condition |= field(MOMENT).is_null()
        rows = arrow_frame(table.to_table(columns=contract.columns, filter=condition))
    return contract.distinct(rows.select(contract.columns))


def open_table(address: str, view: StoredView) -> tuple[Dataset, TableContract]:
    """The table of a view, with columns of the right types, and what its rows have to be; raises as ``table_rows``."""
    contract = TableContract(view, address, "write what its view defines")
    table = open_location(address).dataset()
    contract.require_types(arrow_frame(table.schema.empty_table()).schema)
    return table, contract


def arrow_frame(table: Any) -> pl.DataFrame:
    """An Arrow table as polars has it."""
    return pl.DataFrame(pl.from_arrow(table))


def read_mark(path: Path) -> Any:
    """The JSON in ``path``, or None where there is none that can be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
