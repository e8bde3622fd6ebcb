"""
Features of a model that has no feature service: what a request carries. No store is read, and Feast is not imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sluice.errors import BadArtifact
from sluice.features.manifest import FeatureManifest

Instance = Mapping[str, Any]


@dataclass(frozen=True)
class FeatureRows:
    """Features of n requests."""

    rows: list[dict[str, Any]]
    """For each request the manifest's features in its order; None is missing."""
    stale: list[tuple[str, ...]]
    """For each request the features that are missing because what the store holds, or what they derive from, is older
    than its time to live."""
    missing: list[tuple[str, ...]]
    """For each request all features that are None, the stale ones too."""
    as_of: list[dict[str, datetime]]
    """For each request and view the ``event_timestamp`` of the row that the store held, expired or not; a view whose
    row was not there is left out."""
    failures: dict[int, str] = field(default_factory=dict)
    """By the number of the request: why an on-demand view has no value, though there was something to compute it from.
    Where the store has nothing, what is derived from it is missing instead."""


class FeatureReader(Protocol):
    """Completes what requests carry with features."""

    def read(self, instances: Sequence[Instance], now: datetime) -> FeatureRows:
        """The features of each instance as they may be used at ``now``."""


class RequestReader:
    """
    Gives a model what the request carries.

    Args:
        manifest: of the model; may have fewer features than a request carries, in any order.

    Raises:
        BadArtifact: a feature is none that a request carries.
    """

    def __init__(self, manifest: FeatureManifest) -> None:
        self._names = manifest.names
        if others := sorted(set(self._names) - {feature.name for feature in manifest.carried}):
            raise BadArtifact(
                f"feature {others[0]}", "is in no request, and there is no service", "train the model again"
            )

    def read(self, instances: Sequence[Instance], now: datetime) -> FeatureRows:  # noqa: ARG002  nothing gets old
        """
        The features of each instance.

        Args:
            instances: request inputs by name, checked.
            now: event time of the prediction.
        """
        rows = [{name: instance[name] for name in self._names} for instance in instances]
        missing = [tuple(name for name, value in row.items() if value is None) for row in rows]
        return FeatureRows(rows, [()] * len(rows), missing, [{} for _ in rows])
