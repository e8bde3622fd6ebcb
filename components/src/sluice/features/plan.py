"""What a feature service asks for, in plain types: views to read, transforms to run, and the order of the features."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta

from sluice.errors import Refused
from sluice.features.manifest import Feature
from sluice.features.on_demand import OnDemandView


@dataclass(frozen=True)
class StoredView:
    """A view that is read from a store: newest row of a key, no older than ``ttl_seconds`` (None: never expires)."""

    name: str
    keys: tuple[str, ...]
    features: tuple[Feature, ...]
    ttl_seconds: int | float | None

    @property
    def lifetime(self) -> timedelta | None:
        """``ttl_seconds``, to the microsecond."""
        return None if self.ttl_seconds is None else timedelta(seconds=self.ttl_seconds)


@dataclass(frozen=True)
class FeaturePlan:
    """A feature service: its features in its own order, and the views that give them."""

    service: str | None
    digest: str | None
    """``service_digest`` of the manifest."""
    features: tuple[Feature, ...]
    stored: tuple[StoredView, ...]
    """With every feature that is served or that an on-demand view needs."""
    on_demand: tuple[OnDemandView, ...]
    request_inputs: tuple[Feature, ...]
    """What the on-demand views take from the request."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Join keys of all stored views, sorted."""
        return tuple(sorted({key for view in self.stored for key in view.keys}))

    def stored_inputs(self, view: OnDemandView) -> tuple[StoredView, ...]:
        """The stored views that an on-demand view reads."""
        return tuple(each for each in self.stored if set(view.inputs) & {feature.name for feature in each.features})

    def reduced(self, names: Iterable[str]) -> FeaturePlan:
        """The part of the plan that the features called ``names`` need, with whole views."""
        targets = set(names)
        derived = tuple(view for view in self.on_demand if targets & {feature.name for feature in view.features})
        needed = targets | {name for view in derived for name in view.inputs}
        return FeaturePlan(
            service=self.service,
            digest=self.digest,
            features=tuple(feature for feature in self.features if feature.name in targets),
            stored=tuple(view for view in self.stored if needed & {feature.name for feature in view.features}),
            on_demand=derived,
            request_inputs=self.request_inputs,
        )


NO_SERVICE = FeaturePlan(service=None, digest=None, features=(), stored=(), on_demand=(), request_inputs=())
"""Of a task without a feature service."""


def refuse_known_later(known_later: Collection[str], fields: Iterable[tuple[str, str]]) -> None:
    """
    Refuse a feature or request input whose name says that nobody knows it at prediction time.

    Args:
        known_later: the forbidden names.
        fields: (name, where it is defined) pairs.

    Raises:
        Refused: names the first such field and its owner.
    """
    for name, owner in fields:
        if name in known_later:
            raise Refused(
                f"feature {name} of {owner}",
                "is known only after the prediction",
                "remove it, or build one from events before the prediction",
            )
