"""The JSON schemas that tasks commit, in TFDV's words: what these can say, and a list of what they cannot."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2

from sluice.data.schema import FeatureRule, read_schema

_TYPES = (("float", "FLOAT"), ("decimal", "FLOAT"), ("string", "BYTES"), ("list[string]", "BYTES"), ("binary", "BYTES"))


def schema_of_json(path: Path) -> tuple[Any, tuple[str, ...]]:
    """
    The ``Schema`` message of a committed JSON schema, and a line for each rule that it has no words for; these stand
    as comments in the message too.

    Presence, ranges, domains, the least number of rows and the largest divergence have words. The divergence is then
    TFDV's, over ten buckets of one width; in JSON it is over twenty bins of equal mass.

    Raises:
        BadInput: the file cannot be read, or is no schema.
    """
    committed = read_schema(path)
    schema = schema_pb2.Schema()
    schema.dataset_constraints.min_examples_count = committed.minimum_rows
    if committed.note:
        schema.annotation.comment.append(committed.note)
    general = [f"values of {name} are unique" for name in committed.unique]
    general += [f"{first} is not after {second}" for first, second in committed.order]
    schema.annotation.comment.extend(general)
    left_out = list(general)
    for name, rule in committed.features.items():
        feature = schema.feature.add(name=name, type=_type(rule.type))
        left_out += [f"{name}: {line}" for line in _fill(feature, rule)]
    return schema, tuple(left_out)


def _type(name: str) -> int:
    kind = next((kind for beginning, kind in _TYPES if name.startswith(beginning)), "INT")
    return int(schema_pb2.FeatureType.Value(kind))


def _fill(feature: Any, rule: FeatureRule) -> list[str]:
    """Give the feature what the rule says; what cannot be said is a comment, and in the list."""
    feature.presence.min_fraction, feature.presence.min_count = rule.presence, int(rule.presence > 0)
    left_out = []
    if rule.pattern is not None:
        left_out.append(f"matches {rule.pattern}")
    if rule.longest is not None:
        left_out.append(f"has at most {rule.longest} characters")
    if rule.max_divergence is not None:
        feature.drift_comparator.jensen_shannon_divergence.threshold = rule.max_divergence
    if rule.domain is not None and feature.type == schema_pb2.BYTES:
        feature.string_domain.value.extend(map(str, rule.domain))
        if rule.unseen_share:
            feature.distribution_constraints.min_domain_mass = 1 - rule.unseen_share
    elif rule.domain is not None:
        whole = [int(value) for value in rule.domain]
        feature.int_domain.min, feature.int_domain.max = min(whole), max(whole)
        left_out += [] if len(whole) == max(whole) - min(whole) + 1 else [f"is one of {whole}"]
    elif feature.type == schema_pb2.FLOAT:
        feature.float_domain.disallow_nan = feature.float_domain.disallow_inf = True
        _bound(feature.float_domain, rule, float)
    elif feature.type == schema_pb2.INT and (rule.minimum is not None or rule.maximum is not None):
        _bound(feature.int_domain, rule, math.trunc)
    feature.annotation.comment.extend([*([rule.note] if rule.note else []), *left_out])
    return left_out


def _bound(domain: Any, rule: FeatureRule, to: Any) -> None:
    if rule.minimum is not None:
        domain.min = to(rule.minimum)
    if rule.maximum is not None:
        domain.max = to(rule.maximum)
