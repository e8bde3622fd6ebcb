"""
Where predictions and labels are kept: objects that are written whole and never changed, in S3 or a directory.

    <root>/predictions/task=TASK/environment=dev/date=2026-11-21/hour=19/<time>-<sha256>.parquet
    <root>/labels/task=TASK/environment=dev/date=2026-11-21/hour=19/<time>-<sha256>.parquet
    <root>/labels-by-hour/task=TASK/environment=dev/date=2026-11-21/hour=19-<sha256 of their names>.parquet
    <root>/releases/task=TASK/environment=dev/000042.json

Date and hour are those at which the batch was begun or the label received, UTC: a batch is one object, and the same
batch sent again is the same object. Readers prune by them and filter by the rows' own times. Labels come in many small
objects; those of an hour that is over are put together in one more, which counts in their place as long as its name
speaks of just them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Literal

import polars as pl

from sluice.content import digest_of_value
from sluice.documents.state import ReleaseState
from sluice.errors import BadArtifact
from sluice.feedback.batch import Batch, label_schema
from sluice.object_store import ObjectLocation, open_location
from sluice.predictions.log import WINDOW_SCHEMA, with_later
from sluice.targets.kind import TargetKind
from sluice.targets.registry import BINARY

BatchKind = Literal["predictions", "labels"]
_BY_HOUR = "labels-by-hour"
AT_ONCE = 16
"""Objects that are asked for at a time, since most of it is waiting."""


def _place_of(part: ObjectLocation) -> str:
    """Its folders below the environment's: date and hour."""
    return "/".join(part.path.split("/")[-3:-1])


@dataclass(frozen=True)
class PredictionStore:
    """
    The objects of one task in one environment.

    All methods raise ``Unavailable`` where the store does not answer, so that a caller can try again.
    """

    root: ObjectLocation
    task: str
    environment: str
    target: TargetKind = BINARY
    """Of the task: which labels there are."""

    @classmethod
    def open(
        cls, address: str, task: str, environment: str, settings: Mapping[str, str], target: TargetKind = BINARY
    ) -> PredictionStore:
        """At ``s3://bucket/…`` or ``file:///…``; ``settings`` as of ``sluice.object_store``."""
        return cls(open_location(address, settings), task, environment, target)

    def schema(self, kind: BatchKind) -> Mapping[str, pl.DataType | type[pl.DataType]]:
        """Columns of a batch."""
        return WINDOW_SCHEMA if kind == "predictions" else label_schema(self.target)

    def _folder(self, kind: str) -> ObjectLocation:
        return self.root / kind / f"task={self.task}" / f"environment={self.environment}"

    def put(self, kind: BatchKind, batch: Batch, frame: pl.DataFrame) -> None:
        """Write a batch, whole or not at all; a batch that is there already is written again, the same."""
        folder = self._folder(kind) / f"date={batch.start:%Y-%m-%d}" / f"hour={batch.start:%H}"
        self._write(folder / f"{batch.name}.parquet", frame)

    @staticmethod
    def _write(location: ObjectLocation, frame: pl.DataFrame) -> None:
        data = io.BytesIO()
        frame.write_parquet(data, statistics=False)
        location.write(data.getvalue())

    def put_release(self, state: ReleaseState) -> None:
        """Remember a release state, by its sequence."""
        (self._folder("releases") / f"{state.sequence:06d}.json").write(state.model_dump_json().encode())

    def releases(self) -> tuple[ReleaseState, ...]:
        """All that were remembered, in their order."""
        documents = sorted(self._folder("releases").objects(), key=str)
        return tuple(ReleaseState.model_validate_json(document.read()) for document in documents)

    def batches(self, kind: BatchKind, since: datetime) -> list[ObjectLocation]:
        """Those that were begun on the day of ``since`` or later, the oldest first; of labels whole hours, if any."""
        parts = self._recent(kind, since)
        if kind != "labels":
            return parts
        wholes = set(self._recent(_BY_HOUR, since))
        batches: list[ObjectLocation] = []
        for place, group in groupby(parts, key=_place_of):
            some = list(group)
            whole = self._whole(place, some)
            batches += [whole] if whole in wholes else some
        return batches

    def _recent(self, kind: str, since: datetime) -> list[ObjectLocation]:
        first = f"date={since.astimezone(UTC):%Y-%m-%d}"
        recent = [day for day in self._folder(kind).folders() if day.name >= first]
        return sorted((batch for day in recent for batch in day.objects()), key=str)

    def _whole(self, place: str, parts: Sequence[ObjectLocation]) -> ObjectLocation:
        """Where all of these labels of an hour are together: a label that comes later makes another name of it."""
        names = digest_of_value([part.name for part in parts]).removeprefix("sha256:")
        return self._folder(_BY_HOUR) / f"{place}-{names}.parquet"

    def first_labels(self) -> datetime | None:
        """The beginning of the day on which the first labels came."""
        days = sorted(day.name for day in self._folder("labels").folders())
        return datetime.strptime(days[0], "date=%Y-%m-%d").replace(tzinfo=UTC) if days else None

    def compact(self, hour: datetime) -> bool:
        """Put the labels together that came in an hour, unless they are; whether there was something to do."""
        place = f"date={hour:%Y-%m-%d}/hour={hour:%H}"
        parts = sorted((self._folder("labels") / place).objects(), key=str)
        whole = self._whole(place, parts)
        if len(parts) < 2 or whole in (self._folder(_BY_HOUR) / f"date={hour:%Y-%m-%d}").objects():
            return False
        with ThreadPoolExecutor(AT_ONCE) as pool:
            frame = pl.concat(pool.map(partial(self.read, "labels"), parts))
        self._write(whole, frame)
        return True

    def read(self, kind: BatchKind, batch: ObjectLocation) -> pl.DataFrame:
        """
        The rows of a batch.

        Raises:
            BadArtifact: what is there is no such batch.
        """
        try:
            frame = pl.read_parquet(io.BytesIO(batch.read()))
            if kind == "predictions":
                frame = with_later(frame)
            return frame.select(pl.col(column).cast(dtype) for column, dtype in self.schema(kind).items())
        # A damaged page can end in a panic of the reader, which is no PolarsError.
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            rule = f"is no batch of {kind} ({str(error).splitlines()[0][:200]})"
            raise BadArtifact(str(batch), rule, "move it away, and find out who wrote it") from error
