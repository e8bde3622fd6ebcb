"""
Where predictions and labels are kept: objects that are written whole and never changed, in S3 or a directory.

    <root>/predictions/task=TASK/environment=dev/date=2026-11-21/hour=19/<time>-<sha256>.parquet
    <root>/labels/task=TASK/environment=dev/date=2026-11-21/hour=19/<time>-<sha256>.parquet
    <root>/releases/task=TASK/environment=dev/000042.json

Date and hour are those at which the batch was begun or the label received, UTC: a batch is one object, and the same
batch sent again is the same object. Readers prune by them and filter by the rows' own times.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import polars as pl

from sluice.documents.state import ReleaseState
from sluice.errors import BadArtifact, BadInput, one_line
from sluice.feedback.batch import LABEL_SCHEMA, Batch
from sluice.models.fetch import open_store
from sluice.models.store import write_object
from sluice.predictions.log import WINDOW_SCHEMA

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

BatchKind = Literal["predictions", "labels"]
SCHEMAS: Mapping[BatchKind, Mapping[str, pl.DataType | type[pl.DataType]]] = {
    "predictions": WINDOW_SCHEMA,
    "labels": LABEL_SCHEMA,
}


@dataclass(frozen=True)
class FeedbackStore:
    """
    The objects of one task in one environment.

    All methods raise ``BadInput`` where the store does not answer, so that a caller can try again.
    """

    files: FileSystem
    root: str
    task: str
    environment: str

    @classmethod
    def open(cls, address: str, task: str, environment: str, settings: Mapping[str, str]) -> FeedbackStore:
        """At ``s3://bucket/…`` or ``file:///…``; ``settings`` as of ``sluice.models.fetch``."""
        files, root = open_store(address, settings)
        return cls(files, root.rstrip("/"), task, environment)

    def _folder(self, kind: str) -> str:
        return f"{self.root}/{kind}/task={self.task}/environment={self.environment}"

    def put(self, kind: BatchKind, batch: Batch, frame: pl.DataFrame) -> None:
        """Write a batch, whole or not at all; a batch that is there already is written again, the same."""
        folder = f"{self._folder(kind)}/date={batch.start:%Y-%m-%d}/hour={batch.start:%H}"
        data = io.BytesIO()
        frame.write_parquet(data, statistics=False)
        self._write(f"{folder}/{batch.name}.parquet", data.getvalue())

    def put_release(self, state: ReleaseState) -> None:
        """Remember a release state, by its sequence."""
        self._write(f"{self._folder('releases')}/{state.sequence:06d}.json", state.model_dump_json().encode())

    def releases(self) -> tuple[ReleaseState, ...]:
        """All that were remembered, in their order."""
        names = sorted(name for name in self._list(self._folder("releases"), folders=False))
        return tuple(ReleaseState.model_validate_json(self._read(name)) for name in names)

    def names(self, kind: BatchKind, since: datetime) -> list[str]:
        """Paths of the batches that were begun on the day of ``since`` or later."""
        first = f"date={since.astimezone(UTC):%Y-%m-%d}"
        days = self._list(self._folder(kind), folders=True)
        recent = [day for day in days if day.rstrip("/").rpartition("/")[2] >= first]
        return sorted(name for day in recent for name in self._list(day, folders=False))

    def read(self, kind: BatchKind, name: str) -> pl.DataFrame:
        """
        The rows of a batch.

        Raises:
            BadArtifact: what is there is no such batch.
        """
        try:
            frame = pl.read_parquet(io.BytesIO(self._read(name)))
            if kind == "predictions" and "as_of" not in frame.columns:  # a batch from before it was written down
                frame = frame.with_columns(as_of=None)
            return frame.select(pl.col(column).cast(dtype) for column, dtype in SCHEMAS[kind].items())
        # A damaged page can end in a panic of the reader, which is no PolarsError.
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            rule = f"is no batch of {kind} ({str(error).splitlines()[0][:200]})"
            raise BadArtifact(name, rule, "move it away, and find out who wrote it") from error

    def _list(self, folder: str, *, folders: bool) -> list[str]:
        from pyarrow.fs import FileSelector, FileType

        file_type = FileType.Directory if folders else FileType.File
        selector = FileSelector(folder, recursive=not folders, allow_not_found=True)
        try:
            entries = self.files.get_file_info(selector)
        except OSError as error:
            raise _unanswered(folder, error) from error
        # What is still being written beside its name begins with a dot.
        return [one.path for one in entries if one.type == file_type and not one.base_name.startswith(".")]

    def _write(self, path: str, data: bytes) -> None:
        try:
            write_object(self.files, path, data)
        except OSError as error:
            raise _unanswered(path, error) from error

    def _read(self, path: str) -> bytes:
        try:
            with self.files.open_input_stream(path) as stream:
                data: bytes = stream.read()
        except OSError as error:
            raise _unanswered(path, error) from error
        return data


def _unanswered(path: str, error: OSError) -> BadInput:
    reason = one_line(error, 300)
    return BadInput(path, f"the store does not answer ({reason})", "check the store, its credentials and the network")
