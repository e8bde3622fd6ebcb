"""What is wrong with a feature of a schema by itself, whatever the data is."""

from __future__ import annotations

from collections.abc import Iterator

from tensorflow_metadata.proto.v0 import schema_pb2

from sluice.data.contract.finding import FeatureLook
from sluice.data.contract.lifecycle import deprecate

_FITTING = {
    None: {"INT", "FLOAT", "BYTES", "STRUCT"},
    "domain": {"BYTES"},
    "string_domain": {"BYTES"},
    "bool_domain": {"INT", "FLOAT", "BYTES"},
    "int_domain": {"INT", "BYTES"},
    "float_domain": {"FLOAT", "BYTES"},
    "struct_domain": {"STRUCT"},
    "natural_language_domain": {"BYTES", "INT"},
    "image_domain": {"BYTES"},
    "mid_domain": {"BYTES"},
    "url_domain": {"BYTES"},
    "time_domain": {"INT", "FLOAT", "BYTES"},
    "time_of_day_domain": {"INT", "BYTES"},
}
"""Types that a domain may have."""
_WITHOUT_MASS = "distribution constraints are of string domains only."


def check_itself(look: FeatureLook) -> None:
    """A name, a type, bounds that can hold, and a domain that fits the type."""
    feature = look.feature
    if not feature.HasField("name"):
        look.report("FEATURE_MISSING_NAME", "No name", "The feature has no name: find it, rather than deprecating it.")
        deprecate(feature)
        return
    if not feature.HasField("type") and not _give_type(look):
        return
    for rule in (*_bounds(look), *_mass(look)):
        look.report("INVALID_SCHEMA_SPECIFICATION", "Invalid schema", rule)
    _check_domain(look)


def _give_type(look: FeatureLook) -> bool:
    feature = look.feature
    if feature.WhichOneof("domain_info") in ("domain", "string_domain"):
        look.report("FEATURE_MISSING_TYPE", "No type", "The feature has no type: its domain says that it is BYTES.")
        feature.type = schema_pb2.BYTES
        return True
    look.report("FEATURE_MISSING_TYPE", "No type", "The feature has no type: set it, rather than deprecating it.")
    deprecate(feature)
    return False


def _bounds(look: FeatureLook) -> Iterator[str]:
    feature = look.feature
    share = feature.presence.min_fraction
    if share < 0:
        feature.presence.ClearField("min_fraction")
        yield f"presence.min_fraction {share:g} should not be negative."
    if share > 1:
        feature.presence.min_fraction = 1.0
        yield f"presence.min_fraction {share:g} should not be above 1."
    shape = feature.WhichOneof("shape_type")
    counts = {"value_count": [feature.value_count], "value_counts": feature.value_counts.value_count}
    for count in counts.get(shape, ()):
        if count.min < 0:
            count.ClearField("min")
            yield "value_count.min should not be negative."
        if count.HasField("max") and count.max < count.min:
            count.max = count.min
            yield "value_count.max should not be below its min."
    if shape == "shape" and any(dim.size <= 0 for dim in feature.shape.dim):
        feature.ClearField("shape")
        yield "each size of shape.dim should be above 0."


def _mass(look: FeatureLook) -> Iterator[str]:
    feature = look.feature
    domain = feature.WhichOneof("domain_info")
    if feature.HasField("distribution_constraints") and domain not in ("domain", "string_domain"):
        feature.ClearField("distribution_constraints")
        yield _WITHOUT_MASS if domain else "distribution constraints need a string domain."


def _check_domain(look: FeatureLook) -> None:
    feature = look.feature
    domain, kind = feature.WhichOneof("domain_info"), schema_pb2.FeatureType.Name(feature.type)
    if domain not in _FITTING:
        text = f"The domain {domain} is none that statistics can be held against."
        look.report("INVALID_DOMAIN_SPECIFICATION", "Unknown domain", text)
        feature.ClearField(domain)
    elif kind not in _FITTING[domain]:
        text = f"The domain {domain} does not match the type {kind}."
        look.report("DOMAIN_INVALID_FOR_TYPE", "The domain does not match the type", text)
        feature.ClearField(domain)
    elif domain == "domain" and feature.domain not in look.domains:
        text = f"The schema has no string_domain {feature.domain!r}."
        look.report("INVALID_DOMAIN_SPECIFICATION", "Missing domain", text)
        feature.ClearField("domain")
    elif domain == "bool_domain":
        _check_words(look)
    elif domain == "string_domain":
        _check_repeats(look)


def _check_words(look: FeatureLook) -> None:
    words = look.feature.bool_domain
    if words.HasField("true_value") and words.HasField("false_value") and words.true_value == words.false_value:
        text = f"True and false are both {words.true_value!r}: clearing false_value needs somebody who knows the data."
        look.report("INVALID_DOMAIN_SPECIFICATION", "Malformed bool_domain", text)
        words.ClearField("false_value")


def _check_repeats(look: FeatureLook) -> None:
    values = list(look.feature.string_domain.value)
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        text = f"string_domain repeats {', '.join(map(repr, repeated[:20]))}."
        look.report("INVALID_DOMAIN_SPECIFICATION", "Malformed string_domain", text, examples=repeated)
        del look.feature.string_domain.value[:]
        look.feature.string_domain.value.extend(dict.fromkeys(values))
