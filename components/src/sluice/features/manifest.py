"""The contract between a model and whoever feeds it: names, order, types, defaults and lifetimes of its features."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Self

from pydantic import Field, model_validator

from sluice.documents.model import FrozenDocument
from sluice.errors import BadInput
from sluice.inputs.kind import InputKind
from sluice.inputs.registry import kind_of, settings_of

REQUEST = "request"


class Feature(FrozenDocument):
    """One input of a model, before encoding."""

    name: str
    dtype: str
    """Its kind, by a name of ``sluice.inputs.registry``: float, int, string, tensor, text."""
    view: str
    """The feature view that owns it, or ``REQUEST`` where the caller sends it."""
    ttl_seconds: int | float | None = None
    """An online value older than this counts as missing; ``None`` means it never expires."""
    settings: dict[str, Any] | None = Field(default=None, exclude_if=lambda settings: settings is None)
    """Of its kind, where that has some: shape and range of a tensor, say."""

    @model_validator(mode="after")
    def _of_a_kind(self) -> Self:
        try:
            _ = self.kind
        except BadInput as error:
            raise ValueError(str(error)) from error
        return self

    @classmethod
    def of_request(cls, name: str, kind: InputKind) -> Feature:
        """What a caller sends."""
        return cls(name=name, dtype=kind.kind, view=REQUEST, settings=settings_of(kind))

    @cached_property
    def kind(self) -> InputKind:
        """What it may be, and how it is read."""
        return kind_of(self.dtype, self.settings)


class FeatureManifest(FrozenDocument):
    """Ordered features of one model and the feature service that they come from, if any."""

    service: str | None
    """``None``: of what a request carries alone."""
    service_digest: str | None
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

    @property
    def carried(self) -> tuple[Feature, ...]:
        """What a request carries: entity keys, then request inputs."""
        keys = tuple(Feature(name=key, dtype="string", view=REQUEST) for key in self.entity_keys)
        return (*keys, *self.request_inputs)
