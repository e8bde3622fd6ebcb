"""
The one reader of online features.

It names every value by the model's manifest, applies each view's time to live itself (Feast does not), and takes null
for missing. Nothing depends on the order or the status of what the store answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from feast import FeatureStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from sluice.errors import BadArtifact, BadInput
from sluice.features.manifest import Feature, FeatureManifest
from sluice.features.on_demand import OnDemandView
from sluice.features.plan import StoredView
from sluice.features.request_reader import FeatureRows, Instance
from sluice.features.store import open_feature_store, plan_of

_INT64 = 2**63
_KEYS_A_QUERY = 5_000
"""SQLite takes 32,766 variables in a statement."""


class OnlineReader:
    """
    Reads the features of a manifest from an online store.

    Args:
        store: folder of the feature store, or Feast's own handle on one.
        manifest: of the model; may have fewer features than the service, in any order.

    Raises:
        BadInput: ``store`` is not a feature store.
        BadArtifact: the service there is not the one that the model was trained with, or lacks one of its features.
    """

    def __init__(self, store: Path | FeatureStore, manifest: FeatureManifest) -> None:
        self._feast = open_feature_store(store) if isinstance(store, Path) else store
        if manifest.service is None:
            raise BadArtifact("the model", "has no feature service", "serve it without a feature store")
        whole = plan_of(self._feast, manifest.service)
        where = str(store) if isinstance(store, Path) else "this image"
        if whole.digest != manifest.service_digest:
            raise BadArtifact(
                f"feature service {manifest.service}",
                f"is {whole.digest} in {where}, the model wants {manifest.service_digest}",
                "serve the model from a store with its own definitions, or train it again",
            )
        self._manifest = manifest
        self._plan = whole.reduced(manifest.names)
        self._views = {view.name: self._feast.get_feature_view(view.name) for view in self._plan.stored}
        self._carried = manifest.carried
        known = {feature.name for feature in (*self._plan.features, *self._carried)}
        for name in manifest.names:
            if name not in known:
                raise BadArtifact(f"feature {name}", f"is not in service {manifest.service}", "train the model again")

    @property
    def feast(self) -> FeatureStore:
        """Feast's own handle on the store."""
        return self._feast

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the stored views that the manifest's features need."""
        return tuple(view.name for view in self._plan.stored)

    def read(self, instances: Sequence[Instance], now: datetime) -> FeatureRows:
        """
        The features of each instance as they may be used at ``now``.

        Args:
            instances: entity keys and request inputs by name, nothing else.
            now: event time of the prediction, with a zone.

        Raises:
            BadInput: an instance lacks a field, has one too many or one of the wrong type, or a transform says that a
                value means nothing; names it.
            Unavailable: the store does not answer, or what is there is no store.
        """
        columns = self._input_columns(instances)
        stale: dict[str, list[bool]] = {}
        as_of: list[dict[str, datetime]] = [{} for _ in instances]
        for view in self._plan.stored:
            stamps = self._read_view(view, now, columns, stale)
            for times, stamp in zip(as_of, stamps, strict=True):
                if stamp:
                    times[view.name] = stamp
        failures: dict[int, str] = {}
        for derived in self._plan.on_demand:
            result = derived.apply(columns)
            columns |= result.columns
            stale |= _inherit_staleness(derived, stale, len(instances))
            sources = self._plan.stored_inputs(derived)
            for number, reason in result.failures.items():
                if all(_has(view, as_of[number], stale, number) for view in sources):
                    failures.setdefault(number, f"on-demand view {derived.name} cannot be computed ({reason})")
        names = self._manifest.names
        rows = [
            dict(zip(names, values, strict=True)) for values in zip(*(columns[name] for name in names), strict=True)
        ]
        old = [tuple(name for name in names if name in stale and stale[name][i]) for i in range(len(rows))]
        return FeatureRows(
            rows=rows,
            stale=[tuple(name for name in marked if row[name] is None) for row, marked in zip(rows, old, strict=True)],
            missing=[tuple(name for name, value in row.items() if value is None) for row in rows],
            as_of=as_of,
            failures=failures,
        )

    def _input_columns(self, instances: Sequence[Instance]) -> dict[str, Sequence[Any]]:
        allowed = {feature.name for feature in self._carried}
        for number, instance in enumerate(instances):
            for name in instance:
                if name not in allowed:
                    raise BadInput(
                        f"instances[{number}].{name}", "is not an input", f"send {', '.join(sorted(allowed))}"
                    )
        return {
            feature.name: [
                _input(feature, instance, number, nullable=feature.name in self._manifest.nullable)
                for number, instance in enumerate(instances)
            ]
            for feature in self._carried
        }

    def _read_view(
        self, view: StoredView, now: datetime, columns: dict[str, Sequence[Any]], stale: dict[str, list[bool]]
    ) -> list[datetime | None]:
        """
        Add the view's features to ``columns`` and say in ``stale`` which of their values are too old; returns the time
        of each row.
        """
        keys = list(zip(*(columns[key] for key in view.keys), strict=True))
        stored = self._answers(view, [key for key in dict.fromkeys(keys) if None not in key])
        lifetime, answers = view.lifetime, [stored.get(key, (None, None)) for key in keys]
        expired = [bool(lifetime and stamp and now - stamp > lifetime) for stamp, _ in answers]
        for feature in view.features:
            columns[feature.name] = [
                None if old or cells is None else _plain(feature, cells.get(feature.name))
                for (_, cells), old in zip(answers, expired, strict=True)
            ]
            stale[feature.name] = expired
        return [stamp for stamp, _ in answers]

    def _answers(
        self, view: StoredView, keys: list[tuple[str, ...]]
    ) -> dict[tuple[str, ...], tuple[datetime | None, Mapping[str, Value] | None]]:
        stored: dict[tuple[str, ...], tuple[datetime | None, Mapping[str, Value] | None]] = {}
        for start in range(0, len(keys), _KEYS_A_QUERY):
            part = keys[start : start + _KEYS_A_QUERY]
            messages = [
                EntityKey(join_keys=view.keys, entity_values=[Value(string_val=value) for value in key]) for key in part
            ]
            feast = self._feast
            answers = feast.provider.online_read(feast.config, self._views[view.name], messages)
            stored |= dict(zip(part, answers, strict=True))
        return stored


def _input(feature: Feature, instance: Instance, number: int, *, nullable: bool) -> Any:
    """One field of a request, checked: strings, 64-bit integers, finite numbers, or None where it may be."""
    where = f"instances[{number}].{feature.name}"
    if feature.name not in instance:
        raise BadInput(where, "is missing", f"send a {feature.dtype}")
    value = instance[feature.name]
    if value is None and nullable:
        return None
    if feature.kind.by_digest or (feature.dtype == "string" and isinstance(value, str)):
        return value  # what a log keeps by its digest was read by its kind when the request was parsed
    number_given = isinstance(value, int | float) and not isinstance(value, bool)
    if feature.dtype == "int" and isinstance(value, int) and number_given and -_INT64 <= value < _INT64:
        return value
    if feature.dtype == "float" and number_given and abs(value) < _INT64 and math.isfinite(value):
        return float(value)
    raise BadInput(where, f"is {value!r}"[:80], f"send a {feature.dtype}")


def _plain(feature: Feature, value: Value | None) -> Any:
    if value is None or value.WhichOneof("val") in (None, "null_val"):
        return None
    if feature.dtype == "float":
        return None if math.isnan(value.double_val) else value.double_val
    return value.int64_val if feature.dtype == "int" else value.string_val


def _has(view: StoredView, as_of: Mapping[str, datetime], stale: Mapping[str, list[bool]], number: int) -> bool:
    """Whether there is a row of the view for a request, and of an age that may be used."""
    return view.name in as_of and not any(stale[feature.name][number] for feature in view.features)


def _inherit_staleness(view: OnDemandView, stale: Mapping[str, list[bool]], count: int) -> dict[str, list[bool]]:
    inputs = [stale[name] for name in view.inputs if name in stale]
    marks = [any(values[i] for values in inputs) for i in range(count)]
    return {feature.name: marks for feature in view.features}
