"""
Where feature tables lie: a folder, or ``s3://bucket/prefix`` on any S3-compatible store.

The store's address and credentials are the environment's (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, …), as boto3,
Feast's registry and Arrow read them. Every call gives up after a few tries; an object is there whole or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sluice.content import written_whole
from sluice.errors import BadInput, Unavailable, one_line

if TYPE_CHECKING:
    import polars as pl
    from pyarrow.dataset import Dataset, Expression

SCHEME = "s3://"
_CONNECT_SECONDS = 5
_READ_SECONDS = 60
_TRIES = 3


def is_remote(address: str) -> bool:
    """Whether an address names an object and not a file."""
    return address.startswith(SCHEME)


def parquet(address: str) -> Dataset:
    """
    The table at ``address``, read when it is scanned.

    Raises:
        Unavailable: the store does not answer, refuses, or has no such object.
    """
    from pyarrow import dataset

    try:
        if is_remote(address):
            return dataset.dataset(address.removeprefix(SCHEME), format="parquet", filesystem=_filesystem())
        return dataset.dataset(address, format="parquet")
    except OSError as error:
        raise unavailable(address, error) from error


def table_rows(address: str, columns: Sequence[str], condition: Expression) -> pl.DataFrame:
    """
    These columns of the rows of a table that ``wanted`` keeps.

    Raises:
        BadInput: the table lacks a column.
        Unavailable: as of ``parquet``.
    """
    import polars as pl

    table = parquet(address)
    for name in columns:
        if name not in table.schema.names:
            raise BadInput(address, f"has no column {name}", "write what its view defines")
    try:
        rows = pl.DataFrame(pl.from_arrow(table.to_table(columns=list(columns), filter=condition)))
    except OSError as error:
        raise unavailable(address, error) from error
    return rows.select(columns)


def read_object(address: str) -> bytes | None:
    """
    What lies at ``address``; None where there is nothing.

    Raises:
        Unavailable: the store does not answer, or refuses.
    """
    try:
        if not is_remote(address):
            return Path(address).read_bytes()
        bucket, key = _parts(address)
        content: bytes = _client().get_object(Bucket=bucket, Key=key)["Body"].read()
    except FileNotFoundError:
        return None
    except _refusals() as error:
        if getattr(error, "response", {}).get("Error", {}).get("Code") == "NoSuchKey":
            return None
        raise unavailable(address, error) from error
    return content


def put_file(path: Path, address: str) -> None:
    """
    Copy a local file to ``address``: readers see the old object or the new one.

    Raises:
        Unavailable: the store does not answer, or refuses; nothing has changed there.
    """
    if not is_remote(address):
        with written_whole(Path(address)) as beside:
            shutil.copyfile(path, beside)
        return
    from boto3.exceptions import S3UploadFailedError

    bucket, key = _parts(address)
    try:
        _client().upload_file(str(path), bucket, key)
    except (S3UploadFailedError, *_refusals()) as error:
        raise unavailable(address, error) from error


def unavailable(address: str, error: Exception) -> Unavailable:
    """What to raise for an error of a store."""
    says = one_line(error, 300)
    return Unavailable(address, f"cannot be used ({says})", "check AWS_ENDPOINT_URL, the bucket and its credentials")


def _parts(address: str) -> tuple[str, str]:
    parts = urlsplit(address)
    return parts.netloc, parts.path.lstrip("/")


def _refusals() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError

    return (OSError, BotoCoreError, ClientError)


def _client() -> Any:
    import boto3
    from botocore.config import Config

    retries = {"total_max_attempts": _TRIES, "mode": "standard"}
    return boto3.client(
        "s3", config=Config(connect_timeout=_CONNECT_SECONDS, read_timeout=_READ_SECONDS, retries=retries)
    )


def _filesystem() -> Any:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))
    return S3FileSystem(
        endpoint_override=endpoint.netloc or None,
        scheme=endpoint.scheme or "https",
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_READ_SECONDS,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_TRIES),
    )
