"""
Bring a cluster's online store up to date: every key's newest row whose time has come.

    python -m sluice.features.materialize --task T --feature_repo /app/feature_repo [--until …] [--since …] [--tables]

A run writes rows first and its mark last, view by view: where one was cut off, the next begins at the old mark and
writes the same rows again. Every row that is there is whole and true of its own time, whichever run wrote it. The marks
lie in Redis, beside the rows: a Redis that was emptied is filled again from the start by the next run.

A mark also knows what the table said up to it, as far back as a value lives: where a row came late or was corrected,
the next run writes all of that again, for a join of the past sees it too.

Environment: see ``sluice.features.cluster``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from feast import FeatureStore

from sluice.content import digest_of_files, digest_of_value, write_json
from sluice.data.span import content_digest
from sluice.documents.event_time import iso
from sluice.documents.model import FrozenDocument
from sluice.errors import BadInput, SluiceError
from sluice.features.cluster import CLUSTER, apply_definitions, cluster_store
from sluice.features.plan import StoredView, refuse_known_later
from sluice.features.publish import messages
from sluice.features.store import plan_of
from sluice.features.table_contract import MOMENT
from sluice.features.tables import TABLES_MARK, code_of_tables, table_rows, task_tables
from sluice.object_store import NoSuchObject, ObjectLocation, open_location
from sluice.tasks.task import Task, load_task

_ROWS_A_WRITE = 10_000
_WRITING: Mapping[str, Any] = {"timeout_seconds": 10.0, "retries": 3}
"""A writer can wait longer than somebody who asks."""


class ViewMark(FrozenDocument):
    """What the online store holds of one view; written after its rows."""

    until: datetime
    """Every row whose ``event_timestamp`` is not younger was written, or a younger one of its key."""
    newest: datetime | None
    """The youngest row of all; None where there is no row yet."""
    definition: str
    """Digest of keys, features and types: rows of other definitions do not count."""
    content: str = ""
    """Digest of the table's rows that could be seen at ``until``; empty in marks from before it was kept."""


@dataclass(frozen=True)
class ViewLoad:
    """What one run did to one view."""

    view: str
    rows: int
    """Keys that were written."""
    mark: ViewMark


def materialize(
    task: Task,
    repo: Path,
    environment: Mapping[str, str],
    until: datetime,
    since: datetime | None = None,
    tables: bool = False,
) -> tuple[ViewLoad, ...]:
    """
    Write the newest row of every key into Redis, for all views of the task's feature service, if it has one.

    Args:
        task: the use case.
        repo: the feature definitions, with ``feature_store.cluster.yaml``.
        environment: see ``sluice.features.cluster``.
        until: event time up to which rows may be used, with a zone; not in the future.
        since: write the rows from this time on again, whatever the mark says.
        tables: also build the task's tables, up to ``until``, and put them into the shared place first.

    Raises:
        BadInput: settings, definitions or times do not fit together, or a table lacks a column.
        Refused: a feature is known only later.
        Unavailable: Redis or the object store does not answer; no mark has moved past what was written.
    """
    if task.feature_service is None:
        return ()  # a request brings all that its models read
    root = environment.get("SLUICE_FEATURES", "")
    if not root:
        raise BadInput("environment variable SLUICE_FEATURES", "is not set", "name the tables' s3://bucket/prefix")
    if until > datetime.now(UTC):
        raise BadInput(f"until {iso(until)}", "lies in the future, whose rows nobody may see yet", "leave it out")
    with cluster_store(repo, environment, **_WRITING) as feast:
        plan = plan_of(feast, task.service)
        refuse_known_later(task.known_later, [(f.name, f"view {v.name}") for v in plan.stored for f in v.features])
        marks = read_marks(feast)  # before anything is written anywhere: is Redis there?
        if tables:
            _publish_tables(task, plan.stored, until, open_location(root))
        _publish_registry(repo, environment, open_location(root))
        run = _Run(feast, root, until, since)
        return tuple(run.load(view, marks.get(view.name)) for view in plan.stored)


@dataclass(frozen=True)
class _Run:
    feast: FeatureStore
    root: str
    until: datetime
    since: datetime | None

    def load(self, view: StoredView, mark: ViewMark | None) -> ViewLoad:
        definition = digest_of_value([view.keys, [[f.name, f.dtype] for f in view.features]])
        # A mark in the future is of a run that was told so, and speaks of rows that were not there yet.
        if mark is not None and (mark.definition != definition or mark.until > datetime.now(UTC)):
            mark = None
        if mark is not None and self.until < mark.until:
            if self.since is not None:
                raise BadInput(f"until {iso(self.until)}", f"lies before {iso(mark.until)}", "leave it out")
            return ViewLoad(view.name, 0, mark)
        rows = self._rows(view, mark)
        unchanged = mark is not None and self.since is None and _content(view, rows, mark.until) == mark.content
        newest = self._newest(view, rows, mark.until if mark is not None and unchanged else None)
        self._write(view, newest, over=not unchanged)
        before = None if mark is None else mark.newest
        moments = [stamp for stamp in (newest[MOMENT].max(), before) if isinstance(stamp, datetime)]
        new_mark = ViewMark(
            until=self.until,
            newest=max(moments, default=None),
            definition=definition,
            content=_content(view, rows, self.until),
        )
        self.feast.provider.online_store.write_mark(self.feast.config, view.name, new_mark.model_dump_json())
        return ViewLoad(view.name, newest.height, new_mark)

    def _rows(self, view: StoredView, mark: ViewMark | None) -> pl.DataFrame:
        """The rows up to ``until``: all, or those that can be seen at the mark or later, or were asked for."""
        import pyarrow as pa
        import pyarrow.compute as pc

        moment = pc.field(MOMENT)
        stamp = pa.timestamp("us", "UTC")
        condition = moment <= pa.scalar(self.until, stamp)
        if mark is not None and view.lifetime is not None:
            start = mark.until - view.lifetime
            condition &= moment >= pa.scalar(min(start, self.since or start), stamp)
        return table_rows(f"{self.root}/offline/{view.name}.parquet", view, condition)

    @staticmethod
    def _newest(view: StoredView, rows: pl.DataFrame, after: datetime | None) -> pl.DataFrame:
        """The newest row of every key that has one ``after`` that time."""
        late = rows if after is None else rows.filter(pl.col(MOMENT) > after)
        return late.sort(MOMENT, maintain_order=True).unique(view.keys, keep="last", maintain_order=True)

    def _write(self, view: StoredView, rows: pl.DataFrame, *, over: bool) -> None:
        """``over``: also over rows that are as old or younger, which corrected tables and new columns need."""
        config = self.feast.config
        config.online_store.skip_dedup = over
        defined = self.feast.get_feature_view(view.name)
        for part in rows.iter_slices(_ROWS_A_WRITE):
            self.feast.provider.online_write_batch(config, defined, list(messages(view, part)), None)


def _content(view: StoredView, rows: pl.DataFrame, at: datetime) -> str:
    """Digest of what a view's rows say to somebody who asks ``at`` that time."""
    visible = rows.filter(pl.col(MOMENT) <= at)
    if view.lifetime is not None:
        visible = visible.filter(at - pl.col(MOMENT) <= view.lifetime)
    return content_digest(visible.sort(*view.keys, MOMENT))


def read_marks(feast: FeatureStore) -> dict[str, ViewMark]:
    """
    The mark of each view in the online store; a view that never was loaded has none.

    Raises:
        Unavailable: Redis does not answer.
    """
    marks = feast.provider.online_store.read_marks(feast.config)
    return {view: ViewMark.model_validate_json(text) for view, text in marks.items()}


def _publish_tables(task: Task, views: tuple[StoredView, ...], until: datetime, root: ObjectLocation) -> None:
    end = min(until, task.splits.end)
    if end <= task.splits.train:
        raise BadInput(f"until {iso(until)}", f"lies before {iso(task.splits.train)}", "choose a later time")
    tables, mark = task_tables(task, end, views), root / TABLES_MARK
    with contextlib.suppress(NoSuchObject):
        mark.delete()  # until all of them are there
    with tempfile.TemporaryDirectory(prefix="sluice-tables-") as scratch:
        for name, table in tables.items():
            path = Path(scratch) / f"{name}.parquet"
            table.write_parquet(path, compression="zstd", compression_level=1)
            (root / "offline" / path.name).write(path)
        mark.write(json.dumps({"code": code_of_tables(task)}).encode())


def _publish_registry(repo: Path, environment: Mapping[str, str], root: ObjectLocation) -> None:
    """The shared registry, for Feast's other tools; only when the definitions have changed, and its mark last."""
    files = {path.name: path for path in sorted(repo.iterdir()) if path.suffix in {".py", ".yaml"}}
    mark, digest = root / "applied.json", digest_of_files(files)
    with tempfile.TemporaryDirectory(prefix="sluice-registry-") as scratch:
        path = Path(scratch) / "mark.json"
        write_json(path, {"definitions": digest})
        with contextlib.suppress(NoSuchObject):
            if mark.read() == path.read_bytes():
                return
        registry = Path(scratch) / "registry.db"
        apply_definitions(repo, environment, CLUSTER, {"registry_type": "file", "path": str(registry)})
        (root / "registry.db").write(registry)
        mark.write(path)


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line; a wrong one ends with exit code 2."""
    parser = argparse.ArgumentParser(description="Write the newest features into the online store.")
    parser.add_argument("--task", required=True, help="name of a module of sluice.tasks")
    parser.add_argument("--feature_repo", type=Path, required=True, help="folder with the feature definitions")
    parser.add_argument("--until", type=moment, default=None, help="event time, ISO 8601; now when left out")
    parser.add_argument("--since", type=moment, default=None, help="write again what came after; from the mark on else")
    parser.add_argument("--tables", action="store_true", help="build the task's tables first")
    return parser.parse_args(argv)


def moment(text: str) -> datetime | None:
    """
    A time of a command line or pipeline; None for an empty text.

    Raises:
        BadInput: it is no ISO 8601 time.
    """
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"time {text!r}", "is not ISO 8601", "write it like 2013-07-01T05:00:00Z") from error
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def main(argv: list[str] | None = None) -> int:
    """Entry point; one line a view, or one line that says what is wrong."""
    try:
        options = arguments(sys.argv[1:] if argv is None else argv)
        until = options.until or datetime.now(UTC)
        for load in materialize(
            load_task(options.task), options.feature_repo, os.environ, until, options.since, options.tables
        ):
            newest = iso(load.mark.newest) if load.mark.newest else "none"
            sys.stdout.write(f"{load.view}: {load.rows} keys, until {iso(load.mark.until)}, newest {newest}\n")
    except SluiceError as error:
        sys.stderr.write(f"materialize: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
