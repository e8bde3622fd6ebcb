"""What a feature service asks for, in plain types: views to read, transforms to run, and the order of the features."""

from __future__ import annotations

import ast
import importlib.util
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sluice.content import digest_of_file
from sluice.errors import BadInput, Refused
from sluice.features.manifest import Feature

FeatureColumns = Mapping[str, Sequence[Any]]


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
class OnDemandView:
    """A view that is computed from request inputs and stored features: columns of values in, columns out."""

    name: str
    inputs: tuple[str, ...]
    features: tuple[Feature, ...]
    source: str
    """Source text of the transform."""
    transform: Callable[[dict[str, Sequence[Any]]], Mapping[str, Sequence[Any]]]

    def apply(self, columns: FeatureColumns) -> dict[str, list[Any]]:
        """
        Run the transform over n rows.

        Returns:
            One list of n values for each of the view's features; NaN becomes None.

        Raises:
            BadInput: the transform fails on these values, or does not return n values of every feature.
        """
        inputs = {name: columns[name] for name in self.inputs}
        count = len(next(iter(inputs.values()), ()))
        try:
            output = self.transform(inputs)
            result = {
                feature.name: [_none_for_nan(value) for value in output[feature.name]] for feature in self.features
            }
        except (ArithmeticError, KeyError, OSError, TypeError, ValueError) as error:
            raise BadInput(
                f"on-demand view {self.name}",
                f"cannot be computed ({type(error).__name__}: {error})",
                f"check the values of {', '.join(self.inputs)}",
            ) from error
        for name, values in result.items():
            if len(values) != count:
                raise BadInput(
                    f"on-demand view {self.name}", f"gives {len(values)} of {name} for {count} rows", "fix it"
                )
        return result


@dataclass(frozen=True)
class FeaturePlan:
    """A feature service: its features in its own order, and the views that give them."""

    service: str
    digest: str
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


def imported_sources(source: str) -> dict[str, str]:
    """
    Digests of the files of the modules of ``sluice`` that a function's text imports: they are part of what it does.

    Args:
        source: Python text of one function.
    """
    modules = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module}
    specs = {name: importlib.util.find_spec(name) for name in sorted(modules) if name.split(".")[0] == "sluice"}
    return {name: digest_of_file(Path(spec.origin)) for name, spec in specs.items() if spec and spec.origin}


def _none_for_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
