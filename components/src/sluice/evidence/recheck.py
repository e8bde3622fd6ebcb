"""
Compare served feature vectors with an offline read of the same cells, asked for the same moments.

A request is compared where the online store held the row that the offline read finds. Where the offline row became
available to the online store only after the request, or nobody knows what it held, its cells say nothing about how
features are served: they are counted as excluded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from sluice.documents.event_time import moment_of
from sluice.documents.evidence import WORST_CELLS, Cells, WrongCells
from sluice.errors import BadArtifact
from sluice.features.manifest import FeatureManifest
from sluice.features.parity import FeatureHistory, OfflineCells, offline_cells
from sluice.inputs.kind import InputKind, NotOfKindError
from sluice.models.bundle import BundleManifest
from sluice.predictions.contents import contents_of
from sluice.tasks.task import Task
from sluice.training.frame import as_trained

_DIGEST = "sha256:"
_SHOWN_DIGITS = 12
_NOT_OF_KIND = "what no request can carry"
_RELATIVE = 1e-6
"""Feast stores doubles; only the last bits may differ between its two paths."""


def recheck_cells(rows: pl.DataFrame, manifest: BundleManifest, history: FeatureHistory) -> Cells:
    """
    Rows of the prediction log against the training path: that of the model's own frame, or nothing is compared.

    Raises:
        BadArtifact: the definitions are not the ones that the model was trained with.
        Unavailable: the tables cannot be read.
    """
    features = manifest.features
    if history.plan.digest != features.service_digest:
        rule = f"is {history.plan.digest} here, the model wants {features.service_digest}"
        raise BadArtifact(f"feature service {features.service}", rule, "compare by the definitions of its servers")

    if history.plan.reduced(features.names).stored and _are_others(manifest.provenance.tables, history.code()):
        return Cells(compared=0, different=0, excluded=len(features.names) * rows.height, other_tables=True)

    def read(requests: pl.DataFrame) -> OfflineCells:
        offline = offline_cells(history, requests, features.names)
        return OfflineCells(_as_logged(as_trained(offline.cells, manifest.recipe), features), offline.as_of)

    views = {feature.name: feature.view for feature in features.features}
    return compare_cells(rows, features.names, history.task, read, views)


def _as_logged(cells: pl.DataFrame, features: FeatureManifest) -> pl.DataFrame:
    """Cells as a log has them: digests of what it keeps by one."""
    kinds = {feature.name: feature.kind for feature in features.features if feature.kind.by_digest}
    return cells.with_columns(pl.Series(name, _digests(cells[name], kind), pl.String) for name, kind in kinds.items())


def _digests(values: pl.Series, kind: InputKind) -> list[str]:
    """Of each value; a transform can make of it what is none of the kind, which no served one equals."""
    if values.dtype == kind.column_type:
        return [kind.digest(value) for value in values]
    digests = []
    for value in values.to_list():
        try:
            digests.append(kind.digest(kind.read(value)))
        except NotOfKindError:  # a digest rounds to the kind's type: halves of grey levels would be served ones
            digests.append(_NOT_OF_KIND)
    return digests


def _are_others(ours: str | None, theirs: str | None) -> bool:
    """Whether tables are known to be built by other code than the frame's."""
    return ours is not None and theirs is not None and ours != theirs


def compare_cells(
    rows: pl.DataFrame,
    names: Sequence[str],
    task: Task,
    read: Callable[[pl.DataFrame], OfflineCells],
    views: Mapping[str, str] | None = None,
) -> Cells:
    """
    Count the cells that differ.

    Args:
        rows: of the prediction log, with ``contents`` where the task has images or texts.
        names: the model's features.
        task: says which keys and inputs a request carries.
        read: reads the cells of requests offline, as of their event time; it is not asked about none.
        views: of the features, by name.
    """
    carried = tuple(task.carried)
    request_keys = _with_contents(rows, task)
    read_online = pl.Series([all(name in row for name in carried) for row in request_keys], dtype=pl.Boolean)
    comparable = rows.filter(read_online & rows["as_of"].is_not_null())
    if comparable.is_empty():
        return Cells(compared=0, different=0, excluded=len(names) * rows.height)
    keys = _with_contents(comparable, task)
    requests = pl.DataFrame(
        {"event_time": comparable["event_time"]} | {name: [row[name] for row in keys] for name in carried},
        schema_overrides=dict(task.carried),
    )
    offline = read(requests)
    moments = [{view: moment_of(text) for view, text in json.loads(row).items()} for row in comparable["as_of"]]
    vectors = zip(comparable["features"], offline.cells.to_dicts(), moments, offline.as_of, strict=True)
    pairs = [(json.loads(online), row) for online, row, then, now in vectors if not _came_later(then, now)]
    wrong, total = _wrong_cells(pairs, names, views or {}), len(names) * len(pairs)
    different, excluded = sum(each.different for each in wrong), len(names) * rows.height - total
    worst = wrong[0].feature if wrong else None
    return Cells(compared=total, different=different, excluded=excluded, worst=worst, wrong=wrong[:WORST_CELLS])


def _with_contents(rows: pl.DataFrame, task: Task) -> list[dict[str, Any]]:
    """What each request carried; an image or text of which the log has the digest alone is left out."""
    requests: list[dict[str, Any]] = [json.loads(text or "{}") for text in rows["keys"]]
    kinds = {name: kind for name, kind in task.inputs.items() if kind.by_digest}
    if not kinds:
        return requests
    contents = contents_of(rows["contents"])
    for request in requests:
        for name in kinds.keys() & request.keys():
            content = contents.get(request.pop(name))
            if content is not None:
                request[name] = kinds[name].from_content(content)
    return requests


def _wrong_cells(
    pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], names: Sequence[str], views: Mapping[str, str]
) -> tuple[WrongCells, ...]:
    """By feature, the worst first."""
    wrong: dict[str, list[tuple[Any, Any]]] = {}
    for online, row in pairs:
        for name in names:
            if not _same(online.get(name), row[name]):
                wrong.setdefault(name, []).append((online.get(name), row[name]))
    return tuple(
        WrongCells(feature=name, different=len(cells), view=views.get(name), example=_example(*cells[0]))
        for name, cells in sorted(wrong.items(), key=lambda each: (-len(each[1]), each[0]))
    )


def _example(online: Any, offline: Any) -> str:
    return f"{_shown(online)} was served, {_shown(offline)} is what training would read"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str) and value.startswith(_DIGEST):
        return value[: len(_DIGEST) + _SHOWN_DIGITS]
    if value == _NOT_OF_KIND:
        return _NOT_OF_KIND
    return f"{value:.7g}" if isinstance(value, float | int) else "a text"


def _came_later(online: Mapping[str, datetime], offline: Mapping[str, datetime]) -> bool:
    """Whether a row that the offline read finds is younger than the one that the online store had, if it had any."""
    return any(view not in online or online[view] < moment for view, moment in offline.items())


def _same(online: Any, offline: Any) -> bool:
    if online is None or offline is None:
        return online is offline
    if isinstance(online, str) or isinstance(offline, str):
        return bool(online == offline)
    return math.isclose(online, offline, rel_tol=_RELATIVE, abs_tol=1e-9)
