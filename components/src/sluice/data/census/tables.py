"""Tables as files: typed rows in batches, so that memory does not grow with them, or a line that says what is wrong."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from sluice.errors import BadInput, one_line

_ROWS = 1 << 17
_BLOCK = 1 << 24
_MOST_COLUMNS = 100_000
_INT, _FLOAT, _TEXT = "INT", "FLOAT", "BYTES"
_FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "ipc",
    ".feather": "ipc",
    ".ipc": "ipc",
    ".jsonl": "lines",
    ".ndjson": "lines",
}


def batches_of(path: Path, types: Mapping[str, str] | None = None) -> Iterator[pl.DataFrame]:
    """
    The rows of a file, or of all such files of a folder in the order of their names.

    A CSV's fields are text: a column is INT where every field is a whole number as Python writes it, FLOAT where
    every field is a number, else BYTES; all fields are looked at before one is typed. An empty field is null, a
    quoted one is the empty text.

    Args:
        path: .csv, .tsv, .parquet, .arrow, .feather, .ipc, .jsonl or .ndjson, or a folder of them.
        types: names of TFDV's types (INT, FLOAT, BYTES) of columns that are declared; only CSV's are asked for.

    Raises:
        BadInput: the file is missing, truncated, ragged, not UTF-8, repeats its header or a column's name, holds NUL,
            has no column or more than 100,000, or a field that is not of its declared type.
    """
    for file in _files(path):
        try:
            yield from _READERS[_FORMATS[file.suffix.lower()]](file, types or {})
        except (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise BadInput(str(file), f"cannot be read ({one_line(error, 200)})", "mend or export it again") from error


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        kinds = sorted(each for each in path.rglob("*") if each.suffix.lower() in _FORMATS and each.is_file())
        if not kinds:
            raise BadInput(str(path), f"holds no file that ends in one of {' '.join(_FORMATS)}", "name a table")
        return kinds
    if not path.is_file():
        raise BadInput(str(path), "does not exist", "name a table: a file, or a folder of files")
    if path.suffix.lower() not in _FORMATS:
        raise BadInput(str(path), "has no ending that says what it is", f"rename it to one of {' '.join(_FORMATS)}")
    return [path]


def _parquet(path: Path, _types: Mapping[str, str]) -> Iterator[pl.DataFrame]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        _require_columns(path, file.schema_arrow.names)
        yield from _frames(file.schema_arrow, file.iter_batches(batch_size=_rows_for(len(file.schema_arrow))))


def _ipc(path: Path, _types: Mapping[str, str]) -> Iterator[pl.DataFrame]:
    from pyarrow import ipc

    with pa.memory_map(str(path)) as mapped, ipc.open_file(mapped) as file:
        _require_columns(path, file.schema.names)
        yield from _frames(file.schema, (file.get_batch(number) for number in range(file.num_record_batches)))


def _frames(schema: pa.Schema, batches: Any) -> Iterator[pl.DataFrame]:
    """Batches as frames; an empty one where there is none, for its columns are there."""
    empty = True
    for batch in batches:
        empty = False
        yield _frame(pa.Table.from_batches([batch], schema=schema))
    if empty:
        yield _frame(schema.empty_table())


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(type(frame))
    return frame


def _lines(path: Path, _types: Mapping[str, str]) -> Iterator[pl.DataFrame]:
    frame = pl.read_ndjson(path, infer_schema_length=None)
    _require_columns(path, frame.columns)
    yield from frame.iter_slices(_ROWS)
    if frame.is_empty():
        yield frame


def _csv(path: Path, types: Mapping[str, str]) -> Iterator[pl.DataFrame]:
    _require_no_nul(path)
    names = _header(path)
    declared = {name: types[name] for name in names if name in types}
    kinds = declared if len(declared) == len(names) else _found_types(path, names) | declared
    for frame in _text_batches(path, names):
        yield frame.with_columns(_typed(path, frame[name], kinds[name]) for name in names)


def _found_types(path: Path, names: list[str]) -> dict[str, str]:
    kinds = dict.fromkeys(names, _INT)
    for frame in _text_batches(path, names):
        for name, kind in kinds.items():
            kinds[name] = _kind_of(frame[name], kind)
    return kinds


def _kind_of(column: pl.Series, kind: str) -> str:
    """The narrowest type, from ``kind`` on, that takes all fields; 007 and +7 are names, not the number 7."""
    present = column.drop_nulls()
    if kind == _TEXT or present.str.contains(r"^[+-]?0[0-9]|^\+").any():
        return _TEXT
    if kind == _INT and present.cast(pl.Int64, strict=False).null_count() == 0:
        return _INT
    return _FLOAT if present.cast(pl.Float64, strict=False).null_count() == 0 else _TEXT


def _typed(path: Path, column: pl.Series, kind: str) -> pl.Series:
    dtype = {_INT: pl.Int64, _FLOAT: pl.Float64}.get(kind)
    if dtype is None:
        return column
    typed = column.cast(dtype, strict=False)
    odd = column.filter(typed.is_null() & column.is_not_null())
    if len(odd):
        rule = f"has {len(odd)} fields that are no {kind}, for example {odd[0]!r:.60}"
        raise BadInput(f"column {column.name!r} of {path}", rule, "mend them, or declare the column as BYTES")
    return typed


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            names = next(csv.reader(file, delimiter=_delimiter(path)), [])
        except (csv.Error, UnicodeDecodeError) as error:
            rule = f"has a header that cannot be read ({one_line(error, 100)})"
            raise BadInput(str(path), rule, "write it as CSV in UTF-8") from error
    _require_columns(path, names)
    return names


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _text_batches(path: Path, names: list[str]) -> Iterator[pl.DataFrame]:
    """All fields as text. Raises where a row repeats the header: two files were put one after the other."""
    import pyarrow.csv as pa_csv

    block = max(_BLOCK, 64 * len(names))
    with pa_csv.open_csv(
        path,
        read_options=pa_csv.ReadOptions(block_size=block, use_threads=False),
        parse_options=pa_csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    ) as reader:
        for batch in reader:
            frame = _frame(pa.Table.from_batches([batch]))
            again = frame.filter(frame[names[0]] == names[0]) if frame.height else frame
            if any(row == tuple(names) for row in again.iter_rows()):
                raise BadInput(str(path), "repeats its header among the rows", "take that line out")
            yield frame


def _require_no_nul(path: Path) -> None:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            if b"\0" in block:
                raise BadInput(str(path), "holds NUL bytes: it is UTF-16, or damaged", "write it as CSV in UTF-8")


def _require_columns(path: Path, names: list[str]) -> None:
    if not names:
        raise BadInput(str(path), "has no column", "give a table with a header")
    if len(names) > _MOST_COLUMNS:
        raise BadInput(str(path), f"has {len(names):,} columns, more than {_MOST_COLUMNS:,}", "leave some out")
    before: set[str] = set()
    for name in names:
        if name in before:
            raise BadInput(str(path), f"has two columns of the name {name!r}", "rename one")
        before.add(name)


def _rows_for(columns: int) -> int:
    """Rows of a batch: fewer where there are many columns."""
    return max(1000, min(_ROWS, 4_000_000 // max(1, columns)))


_READERS = {"csv": _csv, "parquet": _parquet, "ipc": _ipc, "lines": _lines}
