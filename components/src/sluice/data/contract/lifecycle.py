"""Where and when a feature of a schema counts: environments and stages of its life."""

from __future__ import annotations

from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2

_RESTING = {
    schema_pb2.LifecycleStage.Value(name) for name in ("PLANNED", "ALPHA", "DEPRECATED", "DEBUG_ONLY", "DISABLED")
}


def is_resting(feature: Any) -> bool:
    """Whether a ``Feature``, ``SparseFeature`` or ``WeightedFeature`` is at a stage at which nothing is asked of it."""
    return bool(getattr(feature, "deprecated", False)) or feature.lifecycle_stage in _RESTING


def deprecate(feature: Any) -> None:
    """Ask nothing of the feature from now on."""
    feature.lifecycle_stage = schema_pb2.LifecycleStage.Value("DEPRECATED")


def in_environment(schema: Any, feature: Any, environment: str | None) -> bool:
    """Whether the feature belongs to the environment; to ``None`` all belong."""
    if environment is None:
        return True
    if environment in feature.not_in_environment:
        return False
    return environment in feature.in_environment or environment in schema.default_environment


def is_required(schema: Any, feature: Any, environment: str | None) -> bool:
    """Whether some rows must have the feature."""
    demands = feature.presence.min_count > 0 or feature.presence.min_fraction > 0 or feature.group_presence.required
    return demands and not is_resting(feature) and in_environment(schema, feature, environment)
