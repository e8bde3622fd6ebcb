"""The contract between a model and whoever feeds it: names, order, types, defaults and lifetimes of its features."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sluice.documents.model import FrozenDocument


class Feature(FrozenDocument):
    """One input of a model, before encoding."""

    name: str
    dtype: Literal["float", "int", "string"]
    view: str
    """The feature view that owns it, or ``request`` where the caller sends it."""
    ttl_seconds: int | float | None = None
    """An online value older than this counts as missing; ``None`` means it never expires."""


class FeatureManifest(FrozenDocument):
    """Ordered features of one model and the feature service that they come from."""

    service: str
    service_digest: str
    """Digest of the service's definition: views, names, types, lifetimes, and the source of on-demand transforms."""
    entity_keys: tuple[str, ...]
    """Join keys that a request must carry."""
    request_inputs: tuple[Feature, ...]
    """What else a request must carry (inputs of on-demand transforms), with types."""
    nullable: tuple[str, ...] = Field(default=(), exclude_if=lambda names: not names)
    """Entity keys and request inputs that may be null. Left out of the document where there are none."""
    features: tuple[Feature, ...] = Field(min_length=1)

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in the model's order."""
        return tuple(feature.name for feature in self.features)
