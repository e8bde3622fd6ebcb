"""
One folder that holds a feature store: ``repo/`` (definitions), ``registry.db``, ``online.db``, ``offline/*.parquet``.

The only place that turns Feast's objects into a ``FeaturePlan`` and asks Feast for history.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import polars as pl
from feast import Entity, FeatureService, FeatureStore, FeatureView
from feast.errors import FeatureServiceNotFoundException
from feast.feature_view import DUMMY_ENTITY_NAME
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.types import String

from sluice.content import digest_of_files, digest_of_value, write_json, written_whole
from sluice.errors import BadArtifact, BadInput, one_line
from sluice.features.definitions import apply_objects, load_definitions, named_fields, staged_definitions
from sluice.features.manifest import Feature
from sluice.features.on_demand import OnDemandView
from sluice.features.plan import FeaturePlan, StoredView, refuse_known_later
from sluice.features.sqlite_store import FollowingSqliteOnlineStore
from sluice.features.table_contract import MOMENT
from sluice.features.tables import read_mark
from sluice.installation.source_code import reached_sources

Dtype = Literal["float", "int", "string"]
_DTYPES: Mapping[str, Dtype] = {
    "Float32": "float",
    "Float64": "float",
    "Int32": "int",
    "Int64": "int",
    "String": "string",
}
POLARS_TYPES: Mapping[str, type[pl.DataType]] = {"float": pl.Float64, "int": pl.Int64, "string": pl.String}
"""How a frame holds a feature."""
_MARK = "applied.json"
_ROW = "sluice_row"


def install_definitions(repo: Path, store: Path, known_later: Collection[str]) -> FeatureStore:
    """
    Copy the definitions in ``repo`` to ``store/repo`` and apply them there (Feast's ``apply``, in this process).

    The offline tables have to be there already. Nothing happens where the same definitions are applied already, so
    servers that read this registry are left alone.

    Args:
        known_later: names that no feature and no request input may have.

    Raises:
        BadInput: ``repo`` has no ``feature_store.yaml`` or no definitions.
        Refused: a feature is known only later; nothing was applied.
    """
    _require_configuration(repo)
    files = {path.name: path for path in sorted(repo.iterdir()) if path.suffix in {".py", ".yaml"}}
    # Feast keeps absolute paths of the tables, so a store that was moved is applied again too.
    mark = {"definitions": digest_of_files(files), "store": str(store.resolve())}
    objects = staged_definitions(files, store)
    refuse_known_later(known_later, named_fields(objects))
    if read_mark(store / _MARK) == mark:
        return open_feature_store(store)
    copy = store / "repo"
    for name, path in files.items():
        with written_whole(copy / name) as beside:
            shutil.copyfile(path, beside)
    _prepare_online(store / "online.db")
    feast = open_feature_store(store)
    apply_objects(feast, objects, repo)
    write_json(store / _MARK, mark)
    return feast


def service_views(repo: Path, service: str, known_later: Collection[str]) -> tuple[StoredView, ...]:
    """
    The stored views that a feature service reads, by the definitions in ``repo`` and before anything is applied.

    Raises:
        BadInput: there are no definitions, no such service, or a view that cannot be served.
        Refused: a feature is known only later.
    """
    _require_configuration(repo)
    objects = load_definitions(repo)
    refuse_known_later(known_later, named_fields(objects))
    views = {value.name: value for value in objects if isinstance(value, FeatureView | OnDemandFeatureView)}
    services = {value.name: value for value in objects if isinstance(value, FeatureService)}
    if service not in services:
        raise BadInput(f"feature service {service!r}", f"is not in {repo}", f"choose from {sorted(services)}")
    projections = services[service].feature_view_projections
    derived = {name: view for name, view in views.items() if isinstance(view, OnDemandFeatureView)}
    for item in projections:
        if item.name in derived:
            _on_demand_view(derived[item.name])
    join_keys = {value.name: value.join_key for value in objects if isinstance(value, Entity)}
    return tuple(stored_view(views[name], join_keys) for name in _stored_names(projections, derived) if name in views)


def _require_configuration(repo: Path) -> None:
    if not (repo / "feature_store.yaml").is_file():
        raise BadInput(str(repo), "has no feature_store.yaml", "name the folder with the feature definitions")


def _stored_names(projections: Iterable[Any], derived: Mapping[str, Any]) -> list[str]:
    """Names of the stored views in a service's projections, and of those that its on-demand views read."""
    names = [item.name for item in projections if item.name not in derived]
    for view in (derived[item.name] for item in projections if item.name in derived):
        names += [item.name for item in view.source_feature_view_projections.values()]
    return list(dict.fromkeys(names))


def open_feature_store(store: Path) -> FeatureStore:
    """
    Feast's own handle on the store in this folder.

    Raises:
        BadInput: no definitions were ever applied there.
    """
    repo = store / "repo"
    if not (repo / "feature_store.yaml").is_file():
        raise BadInput(str(store), "is not a feature store", "run the features step first")
    logging.getLogger("feast").setLevel(logging.ERROR)
    feast = FeatureStore(repo_path=str(repo.resolve()))
    if feast.config.online_store.type == "sqlite":  # not named in the file: other tools of Feast read that too
        feast.provider._online_store = FollowingSqliteOnlineStore()
    return feast


def plan_of(feast: FeatureStore, service: str) -> FeaturePlan:
    """
    The plan of a feature service, read from the registry.

    Raises:
        BadInput: no such service, two features of one name, or a feature of a type that models cannot take.
    """
    try:
        projections = feast.get_feature_service(service).feature_view_projections
    except FeatureServiceNotFoundException as error:
        raise BadInput(f"feature service {service!r}", "is not in the registry", "apply definitions with it") from error
    known = {view.name: view for view in feast.list_on_demand_feature_views()}
    derived = [known[item.name] for item in projections if item.name in known]
    stored = tuple(stored_view(feast.get_feature_view(name)) for name in _stored_names(projections, known))
    on_demand = tuple(_on_demand_view(view) for view in derived)
    lifetimes = {view.name: view.ttl_seconds for view in stored}
    features = tuple(
        _feature(field, item.name, lifetimes.get(item.name)) for item in projections for field in item.features
    )
    _refuse_duplicates(features, stored)
    return FeaturePlan(
        service=service,
        digest=_service_digest(service, features, stored, on_demand),
        features=features,
        stored=stored,
        on_demand=on_demand,
        request_inputs=_request_inputs(derived),
    )


def historical(
    feast: FeatureStore | None, plan: FeaturePlan, rows: pl.DataFrame, *, served: bool = False
) -> pl.DataFrame:
    """
    What the plan's features were for each row at its time: point-in-time join of the stored views, then the on-demand
    transforms over the result, in the same way as online.

    Args:
        feast: may be left out where the plan reads no view.
        rows: ``event_time``, the plan's keys and request inputs; one row a request, in any order.
        served: they were answered by a server, or failed there: what a transform fails on is missing.

    Returns:
        ``plan.features`` as columns (Float64, Int64 or String), row for row in the order of ``rows``.

    Raises:
        BadInput: Feast gave back another number of rows than it got, or a transform fails on a row for which every
            view that it reads has something.
    """
    requests = rows.select(pl.int_range(pl.len()).alias(_ROW), pl.col("event_time").alias(MOMENT), *plan.keys)
    references = [f"{view.name}:{feature.name}" for view in plan.stored for feature in view.features]
    history = pl.DataFrame(_join(feast, requests, references)).sort(_ROW)
    if history.height != rows.height or not history[_ROW].is_unique().all():
        raise BadInput("historical features", f"{history.height} rows came back for {rows.height}", "report this store")
    # As an online store gives them: a transform must not see NaN here and None there.
    stored = [_column(feature, history[feature.name]) for view in plan.stored for feature in view.features]
    history = history.with_columns(stored)
    inputs = {name for view in plan.on_demand for name in view.inputs}
    known = {name: (rows if name in rows.columns else history)[name].to_list() for name in sorted(inputs)}
    derived: dict[str, list[Any]] = {}
    for view in plan.on_demand:
        result = view.apply(known)
        derived |= result.columns
        if not served:
            _refuse_failures(view, result.failures, _absent(plan, view, history))
    columns = [(feature, derived.get(feature.name)) for feature in plan.features]
    return pl.DataFrame(
        history[feature.name] if values is None else pl.Series(feature.name, values, POLARS_TYPES[feature.dtype])
        for feature, values in columns
    )


def _absent(plan: FeaturePlan, view: OnDemandView, history: pl.DataFrame) -> list[bool]:
    """For each row whether one of the stored views that a transform reads has nothing about it."""
    sources = [[f.name for f in stored.features] for stored in plan.stored_inputs(view)]
    if not sources:
        return [False] * history.height
    nothing = [pl.all_horizontal(pl.col(name).is_null() for name in names) for names in sources]
    return history.select(pl.any_horizontal(nothing).alias("absent"))["absent"].to_list()


def _refuse_failures(view: OnDemandView, failures: Mapping[int, str], absent: list[bool]) -> None:
    rows = [row for row in failures if not absent[row]]
    if rows:
        rule = f"cannot be computed in {len(rows)} rows (first: {failures[rows[0]]})"
        raise BadInput(f"on-demand view {view.name}", rule, "mend its transform; what nobody knows comes as None")


def _join(feast: FeatureStore | None, requests: pl.DataFrame, references: list[str]) -> Any:
    """Feast's join; it refuses to join nothing, which a model of request inputs alone asks for."""
    if feast is None or not references:
        return requests
    return feast.get_historical_features(requests.to_pandas(), references).to_arrow()


def _column(feature: Feature, values: pl.Series) -> pl.Series:
    column = values.cast(POLARS_TYPES[feature.dtype])
    return column.fill_nan(None) if feature.dtype == "float" else column


def _prepare_online(path: Path) -> None:
    """Let readers read while the publisher writes (the mode is kept in the file)."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.Error as error:
        raise BadArtifact(str(path), f"is no online store ({one_line(error, 200)})", "move it away") from error


def stored_view(view: Any, join_keys: Mapping[str, str] = {}) -> StoredView:
    """
    A feature view of Feast's in plain types.

    Args:
        join_keys: of the entities by name, for a view that was not applied yet.

    Raises:
        BadInput: something of it would be one thing in training and another in serving.
    """
    thing = f"view {view.name}"
    stamp = getattr(view.batch_source, "timestamp_field", "") or MOMENT
    if stamp != MOMENT:
        raise BadInput(thing, f"has its times in {stamp!r}", f"call the column {MOMENT!r} in table and source")
    if view.entities == [DUMMY_ENTITY_NAME]:
        raise BadInput(thing, "has no entity", "give it one, that its table has as a column")
    for column in view.entity_columns:
        if column.dtype != String:
            raise BadInput(f"key {column.name} of {thing}", f"has type {column.dtype}", "make it a String")
    columns = [column.name for column in view.entity_columns]
    keys = [join_keys.get(name, name) for name in view.entities] if join_keys else columns
    seconds = view.ttl.total_seconds() if view.ttl else 0.0
    if seconds < 0:
        raise BadInput(thing, f"has a lifetime of {seconds:g} seconds", "choose a positive one, or 0: never expires")
    lifetime = (int(seconds) if seconds.is_integer() else seconds) or None
    return StoredView(
        name=view.name,
        keys=tuple(keys),
        features=tuple(_feature(field, view.name, lifetime) for field in view.features),
        ttl_seconds=lifetime,
    )


def _on_demand_view(view: Any) -> OnDemandView:
    requested = [field.name for source in view.source_request_sources.values() for field in source.schema]
    read = [field.name for item in view.source_feature_view_projections.values() for field in item.features]
    transform = view.feature_transformation
    if view.mode != "python" or view.singleton:
        rule = f"has mode {view.mode}{' for single rows' if view.singleton else ''}"
        raise BadInput(f"on-demand view {view.name}", rule, 'write mode="python": lists of values in, lists out')
    return OnDemandView(
        name=view.name,
        inputs=(*requested, *read),
        features=tuple(_feature(field, view.name, None) for field in view.features),
        source=transform.udf_string,
        transform=transform.udf,
    )


def _feature(field: Any, view: str, ttl_seconds: float | None) -> Feature:
    name = str(field.dtype).split(".")[-1].removeprefix("PrimitiveFeastType.")
    if name not in _DTYPES:
        raise BadInput(f"feature {field.name} of view {view}", f"has type {field.dtype}", f"use one of {list(_DTYPES)}")
    return Feature(name=field.name, dtype=_DTYPES[name], view=view, ttl_seconds=ttl_seconds)


def _request_inputs(derived: list[Any]) -> tuple[Feature, ...]:
    fields = [field for view in derived for source in view.source_request_sources.values() for field in source.schema]
    inputs = {field.name: _feature(field, "request", None) for field in fields}
    return tuple(inputs[name] for name in sorted(inputs))


def _refuse_duplicates(features: tuple[Feature, ...], stored: tuple[StoredView, ...]) -> None:
    owners: dict[str, str] = {}
    for feature in (*features, *(feature for view in stored for feature in view.features)):
        if owners.setdefault(feature.name, feature.view) != feature.view:
            raise BadInput(
                f"feature {feature.name}",
                f"is in views {owners[feature.name]} and {feature.view}",
                "rename one of them",
            )


def _service_digest(
    service: str, features: tuple[Feature, ...], stored: tuple[StoredView, ...], on_demand: tuple[OnDemandView, ...]
) -> str:
    """Over everything that decides a value's meaning, and nothing that says where the store lies."""
    return digest_of_value(
        {
            "service": service,
            "features": [feature.model_dump(mode="json") for feature in features],
            "stored": {view.name: [view.keys, [feature.name for feature in view.features]] for view in stored},
            "on_demand": {
                view.name: [view.inputs, view.source, reached_sources(texts=[view.source])] for view in on_demand
            },
        }
    )
