"""What a log writes of the features and keys of a row: images and texts by digest, with what they are like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice.content import digest_of_bytes
from sluice.features.manifest import FeatureManifest


class LoggedInputs:
    """
    The features and request inputs of a model that are kept by digest; a model of columns alone has none.

    Args:
        manifest: of the model.
    """

    def __init__(self, manifest: FeatureManifest) -> None:
        every = (*manifest.features, *manifest.request_inputs)
        self._kinds = {feature.name: feature.kind for feature in every if feature.kind.by_digest}

    def logged(self, features: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the log has as a row's features: digest and summary in place of a value."""
        if not self._kinds:
            return features
        cells: dict[str, Any] = {}
        for name, value in features.items():
            cells |= self._kinds[name].logged(name, value) if name in self._kinds else {name: value}
        return cells

    def keys(self, instance: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the log has as a row's keys: digests in place of values."""
        if not self._kinds:
            return instance
        return {
            name: self._kinds[name].digest(value) if name in self._kinds else value for name, value in instance.items()
        }

    def contents(self, features: Mapping[str, Any]) -> Mapping[str, bytes]:
        """The bytes of a row's values by digest."""
        contents = (kind.content(features[name]) for name, kind in self._kinds.items() if name in features)
        return {digest_of_bytes(content): content for content in contents}
