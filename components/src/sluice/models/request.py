"""
Requests of KServe's V1 protocol, parsed and checked against a feature manifest, and what V2 shares with it.

Nothing here does I/O. Whatever a client sends ends as an ``InferenceRequest`` or as a ``BadRequest`` that names the
first thing that is wrong, so that a bad client never looks like a bad model (plain kserve answers such requests with
500).
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal, get_args

import orjson

from sluice.errors import BadInput
from sluice.features.manifest import FeatureManifest
from sluice.inputs.kind import InputKind, NotOfKindError
from sluice.inputs.request_limits import LONGEST_TEXT
from sluice.inputs.strings import StringColumn

MAX_BODY_BYTES = 1 << 20
MAX_INSTANCES = 1000
MAX_TEXT = LONGEST_TEXT
NOBODY_WAITS = 499
"""Status, as nginx has it, of a request whose sender left before its end: it says nothing about who was asked."""
_MOST_NAMES = 5

_KEY = StringColumn()
"""What an entity key is."""
OUTPUT_NAMES = ("score", "positive")
"""What an answer says of each row, where the target is binary; each kind has its own (``TargetKind.answers``)."""

Contract = Literal["envelope", "header", "document", "rows", "names", "values"]
"""
Which part of its contract a request breaks: size or media type, a header, the JSON document, the number or shape of
rows, the names of their fields, or their values.
"""
CONTRACTS: tuple[Contract, ...] = get_args(Contract)


class BadRequest(BadInput):
    """
    A request that breaks its contract.

    Args:
        status: the HTTP status to answer with: 400, 413 (too large), 415 (not JSON), or 499 where nobody waits for one.
        part: of the contract; metrics count by it.

    Attributes:
        rows: that get no score by it, where they could be counted; all of a request are refused with one of them.
    """

    def __init__(self, thing: str, rule: str, fix: str, status: int = 400, part: Contract = "document") -> None:
        super().__init__(thing, rule, fix)
        self.status = status
        self.part: Contract = part
        self.rows = 1


@dataclass(frozen=True)
class InferenceRequest:
    """
    A checked request.

    Attributes:
        instances: rows as they were sent, every value of its declared kind and read by it.
        online: the rows are entity keys and request inputs, so features must be read; else they are all features.
        id: the client's own id (V2), to be repeated in the answer.
        outputs: the only ones that are wanted (V2), in this order.
    """

    instances: tuple[Mapping[str, Any], ...]
    online: bool
    id: str | None = None
    outputs: tuple[str, ...] = OUTPUT_NAMES


def check_length(n_bytes: int) -> None:
    """
    Refuse a body over ``MAX_BODY_BYTES``.

    Raises:
        BadRequest: status 413.
    """
    if n_bytes > MAX_BODY_BYTES:
        fix = "send fewer instances a request"
        raise BadRequest("body", f"is larger than {MAX_BODY_BYTES} bytes", fix, status=413, part="envelope")


def parse_v1(body: bytes, manifest: FeatureManifest, *, reads_online: bool = True) -> InferenceRequest:
    """
    ``{"instances": [{name: value, ...}, ...]}``; ``reads_online``: the server can complete entity keys with features.

    Raises:
        BadRequest: names the instance and the field.
    """
    document = json_object(body)
    if set(document) != {"instances"}:
        keys = ", ".join(excerpt(key) for key in sorted(document)[:_MOST_NAMES]) or "nothing"
        raise BadRequest("body", f"has {keys}", 'send exactly {"instances": [...]}')
    instances = document["instances"]
    if not isinstance(instances, list):
        raise BadRequest("instances", f"is {kind_of(instances)}, not a list", "send a list of objects", part="rows")
    check_count("instances", len(instances))
    try:
        return readable(InferenceRequest(*_read_instances(instances, manifest)), reads_online=reads_online)
    except BadRequest as error:
        error.rows = len(instances)
        raise


def _read_instances(instances: list[Any], manifest: FeatureManifest) -> tuple[tuple[Mapping[str, Any], ...], bool]:
    """Rows as their kinds read them, and whether their features must be read online."""
    for i, instance in enumerate(instances):
        if not isinstance(instance, dict):
            rule = f"is {kind_of(instance)}, not an object"
            raise BadRequest(f"instances[{i}]", rule, "send {name: value, ...}", part="rows")
    online = is_online(instances[0], manifest, "instances[0]")
    fields, nullable = fields_of(manifest, online=online), nullable_of(manifest, online=online)
    for i, instance in enumerate(instances):
        if instance.keys() != fields.keys():
            _refuse_names(instance, manifest, f"instances[{i}]", online=online)
    try:
        return tuple(_read_rows(instances, fields, nullable)), online
    except NotOfKindError:
        _refuse_value(instances, fields, nullable)
        raise


def _read_rows(
    instances: Sequence[Mapping[str, Any]], fields: Mapping[str, InputKind], nullable: frozenset[str]
) -> Iterable[Mapping[str, Any]]:
    """Column by column where there are several rows; raises ``NotOfKindError`` for a value that is none of its kind."""
    if len(instances) == 1:
        return [
            {
                name: None if value is None and name in nullable else fields[name].read(value)
                for name, value in instances[0].items()
            }
        ]
    columns = list(zip(*map(_values_in_order(tuple(fields)), instances), strict=True))
    named = zip(fields.items(), columns, strict=True)
    read = [read_column(column, kind, nullable=name in nullable) for (name, kind), column in named]
    if all(new is old for new, old in zip(read, columns, strict=True)):
        return instances
    return (dict(zip(fields, row, strict=True)) for row in zip(*read, strict=True))


def _values_in_order(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    get = itemgetter(*names)
    return get if len(names) > 1 else lambda instance: (get(instance),)


def _refuse_value(
    instances: Sequence[Mapping[str, Any]], fields: Mapping[str, InputKind], nullable: frozenset[str]
) -> None:
    """Name the first value that is none of its kind; places are written here, and not for each that is."""
    for i, instance in enumerate(instances):
        for name, value in instance.items():
            read_value(value, fields[name], f"instances[{i}].{name}", nullable=name in nullable)


def readable(request: InferenceRequest, *, reads_online: bool) -> InferenceRequest:
    """The request, unless it wants features of a server that reads none."""
    if request.online and not reads_online:
        rule = "has entity keys, and this server reads no features"
        raise BadRequest("body", rule, "send all features of the model", part="names")
    return request


def json_object(body: bytes) -> dict[str, Any]:
    """The object that a body is; raises ``BadRequest`` for anything else."""
    check_length(len(body))
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest("body", f"is not JSON ({error})", "send one JSON object; JSON knows no NaN") from error
    if not isinstance(document, dict):
        raise BadRequest("body", f"is {kind_of(document)}, not an object", "send one JSON object")
    return document


def check_count(thing: str, n: int) -> None:
    """Refuse no rows, and too many."""
    if not 1 <= n <= MAX_INSTANCES:
        raise BadRequest(thing, f"has {n} rows", f"send 1 to {MAX_INSTANCES}", part="rows")


def _online_names(manifest: FeatureManifest) -> frozenset[str]:
    return frozenset(manifest.entity_keys) | {feature.name for feature in manifest.request_inputs}


def is_online(names: Mapping[str, Any], manifest: FeatureManifest, place: str) -> bool:
    """
    Which of the two field sets is meant. The complete feature vector wins where both are the same, unless there is no
    feature service: then everybody sends what a request carries.
    """
    if names.keys() == _online_names(manifest) and manifest.service is None:
        return True
    if names.keys() == set(manifest.names):
        return False
    if names.keys() == _online_names(manifest):
        return True
    # The message is about the set that the caller came closer to.
    common = len(names.keys() & set(manifest.names)), len(names.keys() & _online_names(manifest))
    return _refuse_names(names, manifest, place, online=common[0] <= common[1])


def _refuse_names(names: Mapping[str, Any], manifest: FeatureManifest, place: str, *, online: bool) -> bool:
    expected = _online_names(manifest) if online else set(manifest.names)
    fix = "send either the entity keys and request inputs, or all features of the model: see GET /-/sluice"
    unknown = sorted(names.keys() - expected)
    if unknown:
        raise BadRequest(f"{place}.{excerpt(unknown[0])}", "is not a field of this model's requests", fix, part="names")
    missing = sorted(expected - names.keys())
    raise BadRequest(f"{place}.{missing[0]}", "is missing", fix, part="names")


def fields_of(manifest: FeatureManifest, *, online: bool) -> Mapping[str, InputKind]:
    """The kind of each of the expected fields."""
    if not online:
        return {feature.name: feature.kind for feature in manifest.features}
    keys: dict[str, InputKind] = dict.fromkeys(manifest.entity_keys, _KEY)
    return keys | {feature.name: feature.kind for feature in manifest.request_inputs}


def nullable_of(manifest: FeatureManifest, *, online: bool) -> frozenset[str]:
    """Where ``null`` may stand: a missing feature, or a key or input that the task lets be missing."""
    if online:
        return frozenset(manifest.nullable)
    return frozenset(feature.name for feature in manifest.features if feature.kind.may_be_null)


def read_value(value: Any, kind: InputKind, place: str, *, nullable: bool) -> Any:
    """
    A value as its kind reads it.

    Raises:
        BadRequest: it is none of its kind.
    """
    if value is None and nullable:
        return None
    try:
        return kind.read(value)
    except NotOfKindError as error:
        text = kind_of(value) if kind.by_digest else excerpt(value)  # refusals are logged, bodies are not
        rule = str(error) or f"is {text}, not {kind.expected}"
        fix = f"send {kind.expected}{' or null' if nullable else ''}"
        raise BadRequest(place, rule, fix, part="values") from error


def read_column(values: Sequence[Any], kind: InputKind, *, nullable: bool) -> Sequence[Any]:
    """
    Values as their kind reads them; ``values`` itself where that changes none.

    Raises:
        NotOfKindError: one is none of its kind.
    """
    if kind.takes_all(values):
        return values
    read = kind.read
    return [None if value is None and nullable else read(value) for value in values]


def columns_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    """Columns in the order of ``names``, from rows that have them all."""
    return {name: [row[name] for row in rows] for name in names}


def kind_of(value: Any) -> str:
    """Of a JSON value, for a message."""
    return {dict: "an object", list: "a list", str: "a text", bool: "a bool", type(None): "null"}.get(
        type(value), "a number"
    )


class _Excerpt(reprlib.Repr):
    """Looks at no more of a value than it shows: what is nested a thousand deep cannot be written out whole."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxdict = 8
        self.maxstring = self.maxlong = self.maxother = 60


_EXCERPT = _Excerpt()


def excerpt(value: Any) -> str:
    """A value for a message: never longer than 60 characters, whatever the client sent."""
    if isinstance(value, (dict, list)) and len(value) > 8:
        return f"{kind_of(value)} of {len(value)}"
    text = _EXCERPT.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
