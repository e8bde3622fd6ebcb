"""
Files where they really lie: in a folder, or in object storage (``s3://BUCKET/KEY``, ``gs://…``, ``abfs://…``).

The one adapter of object storage, by Arrow's file systems; Feast reads its registry on S3 by itself. An object is there
whole or not at all, and every call gives up after a few tries.

Environment:
    AWS_ACCESS_KEY_ID …      credentials, as Arrow's S3 client reads them
    AWS_ENDPOINT_URL         URL of an S3-compatible store, for example http://minio.storage:9000; else AWS
    AWS_DEFAULT_REGION       its region
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sluice.content import write_bytes
from sluice.errors import BadInput, Unavailable, one_line

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset
    from pyarrow.fs import FileSystem

S3 = "s3://"
_BLOCK = 1 << 20
_CONNECT_SECONDS = 5
_READ_SECONDS = 60
_ATTEMPTS = 3


class NoSuchObject(Unavailable):
    """The store answers, and has nothing there."""


def is_remote(address: str) -> bool:
    """Whether an address is a URL rather than a folder."""
    return "://" in address


def open_location(address: str, environment: Mapping[str, str] = os.environ) -> ObjectLocation:
    """
    The place at a folder or a URL; ``environment`` holds the variables that the module's docstring lists.

    Raises:
        BadInput: the address or the store's settings are wrong.
    """
    from pyarrow.fs import FileSystem, LocalFileSystem

    address = address.rstrip("/")
    try:
        if not is_remote(address):
            return ObjectLocation(address, LocalFileSystem(), str(Path(address).absolute()))
        if address.startswith(S3):
            return ObjectLocation(address, _s3(environment), address.removeprefix(S3))
        files, path = FileSystem.from_uri(address)
    except (OSError, ValueError) as error:
        raise BadInput(address, f"cannot be opened ({one_line(error, 300)})", "check the store's settings") from error
    return ObjectLocation(address, files, path)


def _s3(environment: Mapping[str, str]) -> FileSystem:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    endpoint = urlsplit(environment.get("AWS_ENDPOINT_URL", ""))
    return S3FileSystem(
        endpoint_override=endpoint.netloc or None,
        scheme=endpoint.scheme or "https",
        region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"),
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_READ_SECONDS,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        allow_delayed_open=True,  # a small object is one request
        allow_bucket_creation=True,  # by ``make_bucket`` alone; nothing else asks for a folder
    )


@dataclass(frozen=True)
class ObjectLocation:
    """
    A folder or an object: ``open_location("s3://bucket") / "a" / "b.json"``.

    All methods raise ``Unavailable`` where the store does not answer or refuses; ``NoSuchObject`` is one of that kind.

    Attributes:
        address: as people write it, for messages.
        path: within ``files``.
    """

    address: str
    files: FileSystem = field(repr=False, compare=False)
    path: str

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> ObjectLocation:
        return ObjectLocation(f"{self.address}/{name}", self.files, f"{self.path}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.path.rpartition("/")[2]

    def read(self, most: int | None = None) -> bytes:
        """The object's bytes, or the first ``most`` of them; raises ``NoSuchObject`` where there is none."""
        with self.refusals("read"), self.files.open_input_stream(self.path) as stream:
            return bytes(stream.read(most))

    def blocks(self) -> Iterator[bytes]:
        """The object's bytes, a piece at a time; raises as ``read``."""
        with self.refusals("read"), self.files.open_input_stream(self.path) as stream:
            while block := stream.read(_BLOCK):
                yield block

    def dataset(self) -> Dataset:
        """The parquet table here, which is read when it is scanned; raises ``BadInput`` where it is no such table."""
        from pyarrow import ArrowInvalid, dataset

        try:
            with self.refusals("read"):
                return dataset.dataset(self.path, format="parquet", filesystem=self.files)
        except ArrowInvalid as error:
            raise BadInput(self.address, f"is no parquet table ({one_line(error, 160)})", "write it again") from error

    def write(self, source: bytes | Path) -> None:
        """Put these bytes, or what a local file holds, here: who reads meanwhile sees the old object or the new one."""
        from pyarrow import memory_map

        with self.refusals("written"):
            data = source if isinstance(source, bytes) else memoryview(memory_map(str(source)).read_buffer())
            if self.files.type_name == "local":
                write_bytes(Path(self.path), data)
                return
            # In one piece, for Arrow makes an object even of a stream that an exception left half written.
            stream = self.files.open_output_stream(self.path)
            stream.write(data)
            stream.close()

    def make_bucket(self) -> None:
        """Make the bucket, or the container, that this is in; one that is there is left as it is."""
        with self.refusals("made"):
            self.files.create_dir(self.path.partition("/")[0] if is_remote(self.address) else self.path)

    def delete(self) -> None:
        """Remove the object; raises ``NoSuchObject`` where there is none."""
        with self.refusals("removed"):
            self.files.delete_file(self.path)

    def folders(self) -> list[ObjectLocation]:
        """The folders right in here."""
        return self._listed("Directory", recursive=False)

    def objects(self) -> list[ObjectLocation]:
        """All objects below here, at any depth; what is still being written beside its name begins with a dot."""
        return self._listed("File", recursive=True)

    def _listed(self, kind: str, *, recursive: bool) -> list[ObjectLocation]:
        from pyarrow.fs import FileSelector

        with self.refusals("listed"):
            entries = self.files.get_file_info(FileSelector(self.path, recursive=recursive, allow_not_found=True))
        names = [each.path for each in entries if each.type.name == kind and not each.base_name.startswith(".")]
        return [self / name.rstrip("/").removeprefix(f"{self.path}/") for name in names]

    @contextlib.contextmanager
    def refusals(self, done: str) -> Iterator[None]:
        """Arrow's errors in the block as ours: this cannot be ``done`` (read, written, …), and why."""
        try:
            yield
        except OSError as error:
            kind = NoSuchObject if isinstance(error, FileNotFoundError) else Unavailable
            fix = "check the store, AWS_ENDPOINT_URL, the credentials and the network"
            if not is_remote(self.address):
                fix = "write it first, or name another place" if kind is NoSuchObject else "check its permissions"
            raise kind(self.address, f"cannot be {done} ({one_line(error, 300)})", fix) from error
