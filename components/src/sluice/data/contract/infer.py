"""A first schema from statistics, as TFDV infers it: for people to edit, and for a column that is new."""

from __future__ import annotations

from typing import Any

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from sluice.data.census.messages import COUNTED_AS
from sluice.data.contract.view import DatasetView, FeatureView
from sluice.errors import BadInput

LARGEST_DOMAIN = 100
"""Texts that a domain is inferred from, as in TFDV."""
TRUE_WORDS = {"TRUE", "true", "SET", "set", "1", ""}
FALSE_WORDS = {"FALSE", "false", "CLEAR", "clear", "0"}
_INT64 = 2**63
_DOMAIN_INFO = "domain_info"
_TYPES = {"STRING": "BYTES"}
_TIMES = {"microseconds since 1970": "UNIX_MICROSECONDS", "days since 1970": "UNIX_DAYS"}


def infer_schema_message(dataset: DatasetView) -> Any:
    """
    The ``Schema`` message that the statistics satisfy.

    Presence, valency or shape, type and domain of each column, as TFDV 1.16 infers them; times that we count get a
    time domain besides.

    Raises:
        BadInput: there are no rows.
    """
    if dataset.examples == 0:
        raise BadInput("schema", "cannot be inferred from no rows", "give a table with rows")
    schema = schema_pb2.Schema()
    domains: set[str] = set()
    features = {view.path: view for view in dataset.features()}
    for path, view in features.items():
        if len(path) == 1:
            infer_feature(schema, schema.feature.add(), view, domains)
    for path, view in sorted(features.items()):
        if len(path) > 1:
            around = feature_at(schema, path[:-1])
            if around is not None:
                infer_feature(schema, around.struct_domain.feature.add(), view, domains)
    return schema


def feature_at(schema: Any, path: tuple[str, ...]) -> Any | None:
    """The ``Feature`` message of that path; ``None`` where the schema has none."""
    match, inside = None, schema.feature
    for step in path:
        match = next((feature for feature in inside if feature.name == step), None)
        if match is None:
            return None
        inside = match.struct_domain.feature if match.WhichOneof(_DOMAIN_INFO) == "struct_domain" else ()
    return match


def infer_feature(schema: Any, feature: Any, view: FeatureView, domains: set[str]) -> None:
    """
    Fill in an empty ``Feature`` from its statistics; a domain of texts goes to the schema, which it is named in.

    Args:
        schema: the ``Schema`` message.
        feature: in it, or in a structure of it.
        view: its statistics.
        domains: names of the schema's domains; a new one is added.
    """
    feature.name = view.path[-1]
    feature.type = schema_pb2.FeatureType.Value(_TYPES.get(view.kind, view.kind))
    feature.presence.min_count = int(view.present >= 1)
    if view.present > 0:
        if not view.missing:
            feature.presence.min_fraction = 1.0
        set_valency(feature, view, with_shape=True)
    _infer_domain(schema, feature, view, domains)


def set_valency(feature: Any, view: FeatureView, *, with_shape: bool = False) -> None:
    """A shape where every row has equally many values, if it is asked for; else bounds on their number."""
    levels = view.valencies()
    fixed = all(least == most and least > 0 for least, most in levels) and not any(view.missing_by_level())
    if with_shape and fixed and view.kind != "STRUCT":
        for least, _ in levels:
            feature.shape.dim.add(size=least)
    elif len(levels) > 1:
        for least, most in levels:
            _bound(feature.value_counts.value_count.add(), least, most)
    elif levels[0][0] > 0:
        _bound(feature.value_count, *levels[0])


def take_semantic_domain(feature: Any, view: FeatureView) -> bool:
    """Give the feature the one domain that its statistics carry as ``domain_info``; whether they do."""
    claim = view.custom(_DOMAIN_INFO)
    if claim is None or feature.WhichOneof(_DOMAIN_INFO) is not None:
        return False
    domain = schema_pb2.Feature()
    try:
        text_format.Parse(claim.str, domain)
    except text_format.ParseError:
        return False
    fields = [field.name for field, _ in domain.ListFields()]
    if fields != [domain.WhichOneof(_DOMAIN_INFO)]:
        return False
    feature.MergeFrom(domain)
    return True


def is_whole(text: str) -> bool:
    """Whether a text is an integer of 64 bits."""
    try:
        return -_INT64 <= int(text) < _INT64 and "_" not in text
    except ValueError:
        return False


def _bound(count: Any, least: int, most: int) -> None:
    if least > 0:
        count.min = least if least == most else 1
        if least == most:
            count.max = most


def _infer_domain(schema: Any, feature: Any, view: FeatureView, domains: set[str]) -> None:
    if take_semantic_domain(feature, view) or view.kind in ("BYTES", "STRUCT") or view.invalid_utf8:
        return
    texts = list(view.counts())
    counted_as = view.custom(COUNTED_AS)
    if counted_as is not None:
        unit = _TIMES.get(counted_as.str.partition(",")[0])
        if unit is not None:
            feature.time_domain.integer_format = schema_pb2.TimeDomain.IntegerTimeFormat.Value(unit)
    elif _is_flag(view, texts):
        feature.bool_domain.SetInParent()
        for name, words in (("true_value", TRUE_WORDS), ("false_value", FALSE_WORDS)):
            match = [text for text in texts if text in words]
            if match and view.kind == "STRING":
                setattr(feature.bool_domain, name, match[0])
    elif view.kind == "STRING" and texts and all(map(is_whole, texts)):
        feature.int_domain.SetInParent()
    elif 0 < len(texts) <= LARGEST_DOMAIN:
        feature.domain = _new_domain(schema, ".".join(view.path), texts, domains)


def _is_flag(view: FeatureView, texts: list[str]) -> bool:
    if view.kind == "INT":
        stats = view.message.num_stats
        return bool(stats.min >= 0 and stats.max == 1)
    if view.kind != "STRING" or not 0 < len(texts) <= 2:
        return False
    words = [sum(text in known for text in texts) for known in (TRUE_WORDS, FALSE_WORDS)]
    return sum(words) == len(texts) and max(words) == 1


def _new_domain(schema: Any, candidate: str, texts: list[str], domains: set[str]) -> str:
    name, number = candidate, 1
    while name in domains:
        number += 1
        name = f"{candidate}{number}"
    domains.add(name)
    schema.string_domain.add(name=name).value.extend(texts)
    return name
