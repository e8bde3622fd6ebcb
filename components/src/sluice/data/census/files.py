"""Statistics as files: binary and text messages, TFDV's records, and Parquet with a row for each feature."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import statistics_pb2

from sluice.content import write_bytes, written_whole
from sluice.errors import BadInput, one_line

TEXT_ENDINGS = (".pbtxt", ".textproto", ".txt")
_ENDINGS = (".pb", *TEXT_ENDINGS, ".parquet")
_SCALARS = ("mean", "std_dev", "min", "median", "max", "num_zeros", "unique", "avg_length", "avg_num_bytes")


def write_statistics(statistics: Any, path: Path) -> None:
    """
    Write a ``DatasetFeatureStatisticsList``; the ending says how: .pb, .pbtxt, .textproto, .txt or .parquet.

    Raises:
        BadInput: another ending, or the file cannot be written.
    """
    try:
        if path.suffix == ".pb":
            write_bytes(path, statistics.SerializeToString(deterministic=True))
        elif path.suffix in TEXT_ENDINGS:
            write_bytes(path, text_format.MessageToString(statistics, as_utf8=True).encode())
        elif path.suffix == ".parquet":
            with written_whole(path) as beside:
                _as_table(statistics).write_parquet(beside, compression="zstd")
        else:
            raise BadInput(
                str(path), "has no ending that says how to write it", f"end it in one of {' '.join(_ENDINGS)}"
            )
    except OSError as error:
        raise BadInput(str(path), f"cannot be written ({error.strerror})", "choose another place") from error


def read_statistics(path: Path) -> Any:
    """
    The ``DatasetFeatureStatisticsList`` of a file that this module or TFDV wrote (.tfrecord too).

    Raises:
        BadInput: it cannot be read, or holds no statistics.
    """
    statistics = statistics_pb2.DatasetFeatureStatisticsList()
    try:
        if path.suffix in TEXT_ENDINGS:
            text_format.Parse(path.read_text(encoding="utf-8"), statistics)
        elif path.suffix == ".parquet":
            _from_table(pl.read_parquet(path), statistics)
        elif path.suffix == ".tfrecord":
            for record in _records(path.read_bytes()):
                statistics.MergeFromString(record)
        else:
            statistics.ParseFromString(path.read_bytes())
    except (
        OSError,
        UnicodeDecodeError,
        DecodeError,
        text_format.ParseError,
        struct.error,
        pl.exceptions.PolarsError,
        KeyError,
    ) as error:
        rule = f"cannot be read as statistics ({one_line(error, 160)})"
        raise BadInput(str(path), rule, "make it with `sluice data stats`, or with TFDV") from error
    if not statistics.datasets:
        raise BadInput(str(path), "holds no statistics", "make it with `sluice data stats`, or with TFDV")
    return statistics


def is_statistics(path: Path) -> bool:
    """Whether the file's ending, or what its columns are, says that it holds statistics and not rows."""
    if path.suffix == ".parquet" and path.is_file():
        try:
            return {"slice", "feature", "message"} <= set(pl.read_parquet_schema(path))
        except (OSError, pl.exceptions.PolarsError):
            return False
    return path.suffix in (".pb", ".tfrecord", *TEXT_ENDINGS)


def stats_of(feature: Any) -> Any:
    """The numeric, string, bytes or structure statistics of a feature, whichever it has; ``None`` without any."""
    which = feature.WhichOneof("stats")
    return None if which is None else getattr(feature, which)


def path_of(feature: Any) -> tuple[str, ...]:
    """Steps to a feature; one that has only a name is of one step."""
    return tuple(feature.path.step) if feature.WhichOneof("field_id") == "path" else (feature.name,)


def _as_table(statistics: Any) -> pl.DataFrame:
    rows = [
        {
            "slice": dataset.name,
            "examples": dataset.num_examples,
            "weighted_examples": dataset.weighted_num_examples,
            "feature": ".".join(path_of(feature)),
            "type": statistics_pb2.FeatureNameStatistics.Type.Name(feature.type),
            **_scalars(stats_of(feature)),
            "message": feature.SerializeToString(deterministic=True),
        }
        for dataset in statistics.datasets
        for feature in dataset.features
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def _scalars(stats: Any) -> dict[str, float | None]:
    common = stats.common_stats
    common_counts = {name: getattr(common, name) for name in ("num_non_missing", "num_missing", "tot_num_values")}
    return common_counts | {name: float(getattr(stats, name)) if hasattr(stats, name) else None for name in _SCALARS}


def _from_table(table: pl.DataFrame, statistics: Any) -> None:
    datasets: dict[str, Any] = {}
    for row in table.iter_rows(named=True):
        if row["slice"] not in datasets:
            datasets[row["slice"]] = statistics.datasets.add(
                name=row["slice"], num_examples=row["examples"], weighted_num_examples=row["weighted_examples"]
            )
        datasets[row["slice"]].features.add().ParseFromString(row["message"])


def _records(data: bytes) -> Iterator[bytes]:
    """Records of a TFRecord file: a length (8 bytes) and its checksum (4), the data and its checksum (4)."""
    place = 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        record = data[place + 12 : place + 12 + length]
        if len(record) < length or place + 16 + length > len(data):
            raise DecodeError("the last record is cut off")
        yield record
        place += 16 + length
