"""Feature tables in a folder or on object storage, and the marks that say what a folder was made of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from sluice.content import digest_of_file, digest_of_files, write_json, written_whole
from sluice.errors import BadInput
from sluice.object_store import open_location
from sluice.tasks.task import Task

if TYPE_CHECKING:
    from pyarrow.dataset import Expression

_MARK = "tables.json"
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
    """What the feature tables of ``[train, end)`` are made of: raw files, window, and the code that builds them."""
    code = getattr(task.read_feature_tables, "__code__", None)
    return {
        "source": digest_of_files(task.source_files()),
        "from": task.splits.train.isoformat(),
        "to": end.isoformat(),
        "code": digest_of_file(Path(code.co_filename)) if code else "unknown",
    }


def has_tables(store: Path, made_of: Mapping[str, str]) -> bool:
    """Whether ``write_tables`` finished in this store with tables of this origin."""
    return bool(read_mark(store / _MARK) == dict(made_of))


def write_tables(tables: Mapping[str, pl.DataFrame], store: Path, made_of: Mapping[str, str]) -> None:
    """Write each table to ``store/offline/<name>.parquet``, then their origin: it is missing after an interruption."""
    (store / _MARK).unlink(missing_ok=True)
    for name, table in tables.items():
        with written_whole(store / "offline" / f"{name}.parquet") as beside:
            table.write_parquet(beside, compression="zstd", compression_level=1)
    write_json(store / _MARK, dict(made_of))


def table_rows(address: str, columns: Sequence[str], condition: Expression) -> pl.DataFrame:
    """
    These columns of the rows of a table that ``condition`` keeps.

    Raises:
        BadInput: the table lacks a column.
        Unavailable: the store does not answer, refuses, or has no such object.
    """
    location = open_location(address)
    table = location.dataset()
    for name in columns:
        if name not in table.schema.names:
            raise BadInput(address, f"has no column {name}", "write what its view defines")
    with location.refusals("read"):
        rows = pl.DataFrame(pl.from_arrow(table.to_table(columns=list(columns), filter=condition)))
    return rows.select(columns)


def read_mark(path: Path) -> Any:
    """The JSON in ``path``, or None where there is none that can be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
