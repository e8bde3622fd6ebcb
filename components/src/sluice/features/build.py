"""The features step: a span becomes a frame, every row with what was known at its time."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from feast import FeatureStore
from pydantic import Field

from sluice.content import write_json, written_whole
from sluice.data.span import content_digest, read_record, read_span
from sluice.documents.event_time import iso
from sluice.documents.model import FrozenDocument
from sluice.errors import BadInput
from sluice.features.manifest import REQUEST, Feature, FeatureManifest
from sluice.features.plan import NO_SERVICE, FeaturePlan, refuse_known_later
from sluice.features.store import historical, install_definitions, plan_of, service_views
from sluice.features.tables import code_of_tables, origin_of_tables, task_tables, write_tables
from sluice.tasks.task import Task

FRAME_FILE = "frame.parquet"
MANIFEST_FILE = "manifest.json"
RECORD_FILE = "frame.json"
_IDENTITY = ("example_id", "event_time", "label_time", "label", "split")


class FrameRecord(FrozenDocument):
    """What a frame is: kept beside its rows."""

    digest: str
    """``sluice.data.span.content_digest`` of the frame."""
    span: str
    """Digest of the span that it was made of."""
    service_digest: str | None
    """``None``: made of the span alone."""
    tables: str | None = Field(default=None, exclude_if=lambda code: code is None)
    """``code_of_tables`` of what it was joined with; frames of before do not say."""
    rows: int
    unlabelled: int
    """Rows of the span that are left out because no label ever comes."""
    window: tuple[str, str]
    """Half-open interval of event time (ISO 8601, ``Z``)."""


def build_features(task: Task, span_dir: Path, repo: Path, store: Path, out: Path) -> FrameRecord:
    """
    Build the feature tables of ``[train, live)``, apply the definitions, and join every row of the span with them.

    Of a task without a feature service the frame is the span's own columns; ``repo`` and ``store`` are left alone.

    Args:
        span_dir: what ingest wrote.
        repo: the feature definitions.
        store: folder of the feature store; made or brought up to date.
        out: gets ``frame.parquet``, ``manifest.json`` and ``frame.json``.

    Raises:
        Refused: a feature or request input is known only later.
        BadInput: definitions and task do not fit together, or the table of a view is missing or not what it says.
        BadArtifact: the span is not what its record says.
    """
    span = read_span(span_dir)
    feast, plan = _service(task, repo, store)
    manifest = manifest_of(task, plan)
    frame = _frame(task, span, historical(feast, plan, span))
    record = FrameRecord(
        digest=content_digest(frame),
        span=read_record(span_dir).digest,
        service_digest=plan.digest,
        tables=code_of_tables(task) if plan.service else None,
        rows=frame.height,
        unlabelled=span.height - frame.height,
        window=(iso(task.splits.train), iso(task.splits.live)),
    )
    with written_whole(out / FRAME_FILE) as beside:
        frame.write_parquet(beside, compression="zstd", compression_level=1)
    write_json(out / MANIFEST_FILE, manifest.model_dump(mode="json"))
    write_json(out / RECORD_FILE, record.model_dump(mode="json"))
    return record


def _service(task: Task, repo: Path, store: Path) -> tuple[FeatureStore | None, FeaturePlan]:
    """The store with the task's tables and definitions, and what its service asks for."""
    if task.feature_service is None:
        return None, NO_SERVICE
    views = service_views(repo, task.service, task.known_later)
    write_tables(task_tables(task, task.splits.live, views), store, origin_of_tables(task, task.splits.live))
    feast = install_definitions(repo, store, task.known_later)
    return feast, plan_of(feast, task.service)


def manifest_of(task: Task, plan: FeaturePlan) -> FeatureManifest:
    """
    The manifest of all that a model of this task may use: the service's features in their order, then what a request
    carries itself (view ``request``: request inputs and entity keys).

    Raises:
        Refused: one of them is known only later.
        BadInput: a join key or request input of the definitions is not in the task.
    """
    inputs = tuple(Feature.of_request(name, kind) for name, kind in task.inputs.items())
    keys = tuple(Feature(name=name, dtype="string", view=REQUEST) for name in task.entity_keys)
    read = [feature for view in plan.stored for feature in view.features]
    fields = [(feature.name, f"view {feature.view}") for feature in (*read, *plan.features, *inputs, *keys)]
    refuse_known_later(task.known_later, fields)
    for feature in plan.request_inputs:
        if feature.name not in (*task.request_inputs, *task.entity_keys):
            raise BadInput(f"request input {feature.name}", "is not in the task", "add it to Task.request_inputs")
    for key in plan.keys:
        if key not in task.entity_keys:
            raise BadInput(f"join key {key}", "is not in the task", "add it to Task.entity_keys")
    names = {feature.name for feature in plan.features}
    return FeatureManifest(
        service=plan.service,
        service_digest=plan.digest,
        entity_keys=task.entity_keys,
        request_inputs=inputs,
        nullable=tuple(sorted(task.nullable)),
        features=(*plan.features, *(feature for feature in (*inputs, *keys) if feature.name not in names)),
    )


def _frame(task: Task, span: pl.DataFrame, features: pl.DataFrame) -> pl.DataFrame:
    carried = dict.fromkeys((*_IDENTITY, *task.entity_keys, *task.request_inputs))
    rows = span.select(*carried).hstack(features.drop(carried, strict=False))
    sliced = rows.with_columns(
        pl.sql_expr(item.expression).cast(pl.String).alias(f"slice_{item.name}") for item in task.slices
    )
    return sliced.filter(pl.col("label").is_not_null())
