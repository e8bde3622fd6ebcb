"""Features that are made of several: sparse and weighted ones, whose statistics say where their parts do not match."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sluice.data.contract.finding import Finding, plain
from sluice.data.contract.lifecycle import deprecate, is_resting
from sluice.data.contract.view import DatasetView


def check_groups(schema: Any, dataset: DatasetView) -> Iterator[Finding]:
    """Names that two features have, then what statistics say of sparse and of weighted features."""
    yield from _collisions(schema)
    for features, check in ((schema.sparse_feature, _sparse), (schema.weighted_feature, _weighted)):
        for feature in features:
            view = dataset.feature((feature.name,))
            if view is not None and not is_resting(feature):
                findings = list(check(feature.name, view.message.custom_stats))
                if findings:
                    deprecate(feature)
                yield from findings


def _collisions(schema: Any) -> Iterator[Finding]:
    plainly = {feature.name for feature in schema.feature if not is_resting(feature)}
    sparse = {feature.name for feature in schema.sparse_feature if not is_resting(feature)}
    for features, kind, occupied in (
        (schema.weighted_feature, "WEIGHTED_FEATURE_NAME_COLLISION", plainly | sparse),
        (schema.sparse_feature, "SPARSE_FEATURE_NAME_COLLISION", plainly),
    ):
        for feature in features:
            if not is_resting(feature) and feature.name in occupied:
                text = f"Another feature has the name {feature.name!r} too."
                yield Finding(kind, (feature.name,), "Name collision", text)
                deprecate(feature)


def _sparse(name: str, statistics: Any) -> Iterator[Finding]:
    for each in statistics:
        buckets = [bucket for bucket in each.rank_histogram.buckets if bucket.sample_count]
        if each.name == "missing_value" and each.num:
            text = f"{plain(each.num)} rows lack the values."
            yield Finding("SPARSE_FEATURE_MISSING_VALUE", (name,), "Missing value feature", text, each.num)
        elif each.name == "missing_index":
            for bucket in buckets:
                text = f"{plain(bucket.sample_count)} rows lack the index {bucket.label!r}."
                yield Finding(
                    "SPARSE_FEATURE_MISSING_INDEX", (name,), "Missing index feature", text, bucket.sample_count
                )
        elif each.name in ("min_length_diff", "max_length_diff"):
            for bucket in buckets:
                text = f"{each.name} between the index {bucket.label!r} and the values is {plain(bucket.sample_count)}."
                yield Finding("SPARSE_FEATURE_LENGTH_MISMATCH", (name,), "Lengths do not match", text)


def _weighted(name: str, statistics: Any) -> Iterator[Finding]:
    claims = {each.name: each.num for each in statistics if each.num}
    for key, what in (("missing_value", "VALUE"), ("missing_weight", "WEIGHT")):
        if key in claims:
            text = f"{plain(claims[key])} rows lack the {what.lower()}s."
            kind = f"WEIGHTED_FEATURE_MISSING_{what}"
            yield Finding(kind, (name,), f"Missing {what.lower()} feature", text, claims[key])
    differences = {key: claims[key] for key in ("min_weight_length_diff", "max_weight_length_diff") if key in claims}
    if differences:
        text = "Numbers of values and of weights differ: " + ", ".join(
            f"{key} is {plain(difference)}" for key, difference in differences.items()
        )
        yield Finding("WEIGHTED_FEATURE_LENGTH_MISMATCH", (name,), "Lengths do not match", text + ".")
