"""A span: the examples of one interval of event time, with a digest of what they say, not of how they lie on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import ValidationError

from sluice.content import canonical_json, write_json, written_whole
from sluice.documents.model import FrozenDocument, first_violation
from sluice.errors import BadArtifact, BadInput, one_line

EXAMPLES_FILE = "examples.parquet"
RECORD_FILE = "span.json"
_ENCODING = "sluice.span/1"
_NULL_LENGTH = 0xFFFFFFFF
_AGAIN = "run ingest again"


class SpanRecord(FrozenDocument):
    """What a span is: kept beside its rows, and enough to check them."""

    digest: str
    """``content_digest`` of the rows."""
    rows: int
    duplicates: int
    """Rows that were dropped because another row equals them in every column."""
    window: tuple[str, str]
    """Half-open interval of event time that was asked for (ISO 8601, ``Z``)."""
    splits: dict[str, int]
    """Rows of each split."""
    source: str
    """Digest of the source files."""
    columns: dict[str, str]
    """Type of each column, as ``type_name`` calls it."""


def type_name(dtype: pl.DataType) -> str:
    """A name for a column type that does not change with the version of polars: ``int8``, ``datetime[us, UTC]``."""
    if isinstance(dtype, pl.Array):
        return f"tensor[{str(_leaf(dtype)).lower()}, {'x'.join(map(str, dtype.shape))}]"
    if isinstance(dtype, pl.Datetime):
        return f"datetime[{dtype.time_unit}, {dtype.time_zone or 'no zone'}]"
    return str(dtype).lower()


def _leaf(dtype: Any) -> Any:
    """Type of a tensor's numbers."""
    return _leaf(dtype.inner) if isinstance(dtype, pl.Array) else dtype


def content_digest(frame: pl.DataFrame) -> str:
    """
    SHA-256 over names, types and values; the order of rows counts, the order of columns does not.

    Encoding: canonical JSON of the format, the number of rows and the sorted (name, type) pairs; then for every
    column in that order the packed bits of its nulls and its values, little-endian (floats with one NaN; strings
    as lengths followed by UTF-8; lists of strings as lengths followed by their strings as a column; tensors that are
    there as their numbers in the order of C, as a column). Parquet writers, polars versions and compression leave it
    alone.

    Raises:
        BadInput: a column of a type that has no encoding here.
    """
    names = sorted(frame.columns)
    types = [(name, type_name(frame.schema[name])) for name in names]
    sha = hashlib.sha256(canonical_json([_ENCODING, frame.height, types]))
    for name in names:
        column = frame.get_column(name)
        sha.update(np.packbits(column.is_null().to_numpy()).tobytes())
        for block in _value_blocks(column):
            sha.update(block)
    return "sha256:" + sha.hexdigest()


def _value_blocks(column: pl.Series) -> list[bytes]:
    dtype = column.dtype
    if isinstance(dtype, pl.Array):
        return _value_blocks(pl.Series(column.name, column.drop_nulls().to_numpy().ravel()))
    if dtype == pl.List(pl.String):
        lengths = column.list.len().fill_null(_NULL_LENGTH).to_numpy()
        inner = column.filter(column.list.len() > 0).explode()
        nulls = np.packbits(inner.is_null().to_numpy()).tobytes()
        return [lengths.astype("<u4").tobytes(), nulls, *_value_blocks(inner)]
    if dtype == pl.String:
        lengths = column.str.len_bytes().fill_null(_NULL_LENGTH).to_numpy()
        return [lengths.astype("<u4").tobytes(), (column.fill_null("").str.join("").item() or "").encode()]
    if dtype == pl.Boolean:
        return [column.fill_null(value=False).cast(pl.UInt8).to_numpy().tobytes()]
    if dtype.is_temporal():
        column = column.to_physical()
    elif dtype.is_float():
        column = column.fill_nan(float("nan"))
    elif not dtype.is_integer():
        raise BadInput(f"column {column.name!r}", f"has type {dtype}, which a span cannot hold", "cast it in the task")
    values = column.fill_null(0).to_numpy()
    return [values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()]


def write_span(frame: pl.DataFrame, record: SpanRecord, out: Path) -> None:
    """
    Write the rows, then the record; each file whole or not at all, so a span without its record is not a span yet.

    Raises:
        BadInput: the files cannot be written (a full disk, no permission); nothing half-written is left.
    """
    try:
        with written_whole(out / EXAMPLES_FILE) as beside:
            frame.write_parquet(beside, compression="zstd")
        write_json(out / RECORD_FILE, record.model_dump(mode="json"))
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = one_line(error, 160)
        raise BadInput(str(out), f"cannot be written ({reason})", "make room or choose another folder") from error


def read_record(directory: Path) -> SpanRecord:
    """
    The record of the span in ``directory``.

    Raises:
        BadInput: there is none.
        BadArtifact: it is not a span record.
    """
    path = directory / RECORD_FILE
    try:
        return SpanRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror})", _AGAIN) from error
    except ValidationError as error:
        key, rule, _ = first_violation(error)
        raise BadArtifact(str(path), f"is not a span record ({key or 'the file'}: {rule})", _AGAIN) from error


def read_span(directory: Path) -> pl.DataFrame:
    """
    The rows of the span in ``directory``, verified: columns and types as recorded, values as digested.

    Raises:
        BadInput: the span or its record is missing.
        BadArtifact: a file is truncated, unreadable, lacks a column, or differs from what was digested.
    """
    record = read_record(directory)
    path = directory / EXAMPLES_FILE
    frame = _read_parquet(path)
    columns = {name: type_name(dtype) for name, dtype in frame.schema.items()}
    if columns != record.columns:
        raise BadArtifact(str(path), _column_difference(columns, record.columns), _AGAIN)
    if frame.height != record.rows:
        raise BadArtifact(str(path), f"has {frame.height} rows, {record.rows} are recorded", _AGAIN)
    digest = content_digest(frame)
    if digest != record.digest:
        raise BadArtifact(str(path), f"has content {digest}, {record.digest} is recorded", _AGAIN)
    return frame


def _read_parquet(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise BadInput(str(path), "does not exist", _AGAIN)
    try:
        return pl.read_parquet(path, glob=False)
    # A damaged page can end in a panic of the reader, which is no PolarsError.
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise BadArtifact(str(path), f"is not a whole parquet file ({one_line(error, 160)})", _AGAIN) from error


def _column_difference(columns: dict[str, str], recorded: dict[str, str]) -> str:
    for name, dtype in recorded.items():
        if name not in columns:
            return f"lacks column {name!r}"
        if columns[name] != dtype:
            return f"has column {name!r} of type {columns[name]}, {dtype} is recorded"
    return f"has column {min(columns.keys() - recorded.keys())!r}, which is not recorded"
