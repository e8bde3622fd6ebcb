"""Whether a feature is there often enough, with as many values as it should have, of the type it should be."""

from __future__ import annotations

import math

from tensorflow_metadata.proto.v0 import schema_pb2

from sluice.data.contract.finding import FeatureLook, plain
from sluice.data.contract.infer import set_valency
from sluice.data.contract.lifecycle import deprecate, in_environment

_NEARLY_ALL = 0.9999
_TYPE_OF = {"STRING": "BYTES"}


def check_environment(look: FeatureLook) -> None:
    """A feature that is there although its environment should not have it."""
    environment, feature = look.dataset.environment, look.feature
    if environment is None or in_environment(look.schema, feature, environment):
        return
    if environment in feature.not_in_environment:
        feature.not_in_environment.remove(environment)
    if not in_environment(look.schema, feature, environment):
        feature.in_environment.append(environment)
    text = f"The column is in the data, but the schema has it not in the environment {environment}."
    look.report("SCHEMA_NEW_COLUMN", "Column missing in environment", text, count=look.view.present)


def check_valency(look: FeatureLook) -> None:
    """Numbers of values a row, at each level."""
    feature, levels = look.feature, look.view.valencies()
    shape = feature.WhichOneof("shape_type")
    if shape not in ("value_count", "value_counts"):
        return
    demands = [feature.value_count] if shape == "value_count" else list(feature.value_counts.value_count)
    if len(demands) != len(levels):
        text = f"Values are nested {len(levels)} deep, and the schema counts them {len(demands)} deep."
        look.report("VALUE_NESTEDNESS_MISMATCH", "Mismatched value nest level", text)
        feature.ClearField(shape)
        set_valency(feature, look.view)
        return
    for level, (count, (least, most)) in enumerate(zip(demands, levels, strict=True)):
        where = f" at level {level}" if len(levels) > 1 else ""
        if count.HasField("min") and least < count.min:
            text = f"Some rows have {least} values{where}, fewer than {count.min}."
            look.report("FEATURE_TYPE_LOW_NUMBER_VALUES", "Missing values", text, examples=[least])
            count.min = least
        if count.HasField("max") and most > count.max:
            text = f"Some rows have {most} values{where}, more than {count.max}."
            look.report("FEATURE_TYPE_HIGH_NUMBER_VALUES", "Superfluous values", text, examples=[most])
            count.max = most


def check_shape(look: FeatureLook) -> None:
    """A fixed shape: always there, always as many values as it has room for."""
    feature, levels = look.feature, look.view.valencies()
    if feature.WhichOneof("shape_type") != "shape":
        return
    room = math.prod(dim.size for dim in feature.shape.dim)
    if any(look.view.missing_by_level()) or any(least != most or least == 0 for least, most in levels):
        text = "The feature has a shape, but it is not always present, or its number of values varies."
    elif (content := math.prod(least for least, _ in levels)) != room:
        text = f"The feature always has {content} values, and its shape has room for {room}."
    else:
        return
    look.report("INVALID_FEATURE_SHAPE", "Feature shape dropped", text)
    feature.ClearField("shape")


def check_presence(look: FeatureLook) -> None:
    """Numbers and shares of rows that have the feature."""
    presence, view, examples = look.feature.presence, look.view, look.dataset.examples
    if look.feature.WhichOneof("presence_constraints") != "presence":
        return
    if presence.HasField("min_count") and view.present < presence.min_count:
        text = f"{plain(view.present)} rows have the feature, fewer than {presence.min_count}."
        look.report("FEATURE_TYPE_LOW_NUMBER_PRESENT", "Column dropped", text, count=view.present)
        presence.min_count = int(view.present)
    if not presence.HasField("min_fraction") or not examples:
        return
    share = view.present / examples if view.missing else 1.0
    where = f"{plain(view.missing)} of {plain(examples)} rows"
    if share < presence.min_fraction:
        text = f"The feature is missing in {where}; a share of {presence.min_fraction:g} should have it."
        presence.min_fraction = share
    elif presence.min_fraction == 1 and view.missing:
        text = f"The feature is missing in {where}; all should have it."
        presence.min_fraction = _NEARLY_ALL
    else:
        return
    look.report("FEATURE_TYPE_LOW_FRACTION_PRESENT", "Column dropped", text, count=view.missing)


def check_type(look: FeatureLook) -> None:
    """The type of the values."""
    expected, kind = schema_pb2.FeatureType.Name(look.feature.type), look.view.kind
    if _TYPE_OF.get(kind, kind) != expected:
        look.report("UNEXPECTED_DATA_TYPE", "Unexpected data type", f"Values are {kind}, not {expected}.")
        deprecate(look.feature)


def check_unique(look: FeatureLook) -> None:
    """How many values differ."""
    feature, stats = look.feature, look.view.message
    if not feature.HasField("unique_constraints"):
        return
    if stats.WhichOneof("stats") != "string_stats":
        text = "How many values differ is counted of texts and categories only."
        look.report("FEATURE_TYPE_NO_UNIQUE", "No unique values", text)
        feature.ClearField("unique_constraints")
        return
    bounds, unique = feature.unique_constraints, int(stats.string_stats.unique)
    if bounds.HasField("min") and unique < bounds.min:
        text = f"{unique} values differ, fewer than {bounds.min}."
        look.report("FEATURE_TYPE_LOW_UNIQUE", "Low number of unique values", text, count=unique)
        bounds.min = unique
    if bounds.HasField("max") and unique > bounds.max:
        text = f"{unique} values differ, more than {bounds.max}."
        look.report("FEATURE_TYPE_HIGH_UNIQUE", "High number of unique values", text, count=unique)
        bounds.max = unique


def check_derived(look: FeatureLook) -> None:
    """A feature that TFDV derived from others: its source and its stage."""
    feature, message = look.feature, look.view.message
    if message.HasField("validation_derived_source") and not feature.HasField("validation_derived_source"):
        text = "The statistics derive the feature from others, and the schema does not say so."
        look.report("DERIVED_FEATURE_INVALID_SOURCE", "Derived source not in the schema", text)
        feature.validation_derived_source.CopyFrom(message.validation_derived_source)
        feature.lifecycle_stage = schema_pb2.VALIDATION_DERIVED
    if feature.HasField("validation_derived_source") and feature.lifecycle_stage not in (
        schema_pb2.VALIDATION_DERIVED,
        schema_pb2.DISABLED,
        schema_pb2.DEPRECATED,
    ):
        text = "A derived feature has the stage VALIDATION_DERIVED or DISABLED."
        look.report("DERIVED_FEATURE_BAD_LIFECYCLE", "Derived feature has a wrong stage", text)
        feature.lifecycle_stage = schema_pb2.VALIDATION_DERIVED
