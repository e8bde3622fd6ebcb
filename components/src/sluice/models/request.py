"""
Requests of KServe's V1 and V2 protocols, parsed and checked against a feature manifest.

Nothing here does I/O. Whatever a client sends ends as an ``InferenceRequest`` or as a ``BadRequest`` that names the
first thing that is wrong, so that a bad client never looks like a bad model (plain kserve answers such requests with
500).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import orjson

from sluice.errors import BadInput
from sluice.features.manifest import Feature, FeatureManifest

MAX_BODY_BYTES = 1 << 20
MAX_INSTANCES = 1000
MAX_TEXT = 256
_FLOAT32_MAX = 3.4028234663852886e38
_INT64_MAX = 2**63 - 1

_FLOATS = frozenset({"FP16", "FP32", "FP64"})
_INTS = frozenset({"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"})
DATATYPES: Mapping[str, str] = {"float": "FP64", "int": "INT64", "string": "BYTES"}
"""The V2 datatype in which a feature is best sent."""
_ACCEPTED = {"float": _FLOATS | _INTS, "int": _INTS, "string": frozenset({"BYTES"})}
_EXPECTED = {
    "float": "a finite number",
    "int": "an integer of 64 bits",
    "string": f"a text of at most {MAX_TEXT} characters",
}
_V2_KEYS = frozenset({"id", "parameters", "inputs", "outputs"})
_TENSOR_KEYS = frozenset({"name", "shape", "datatype", "parameters", "data"})


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
        status: the HTTP status to answer with: 400, 413 (too large) or 415 (not JSON).
        part: of the contract; metrics count by it.
    """

    def __init__(self, thing: str, rule: str, fix: str, status: int = 400, part: Contract = "document") -> None:
        super().__init__(thing, rule, fix)
        self.status = status
        self.part: Contract = part


@dataclass(frozen=True)
class InferenceRequest:
    """
    A checked request.

    Attributes:
        instances: rows as they were sent, every value of its declared type and finite.
        online: the rows are entity keys and request inputs, so features must be read; else they are all features.
        id: the client's own id (V2), to be repeated in the answer.
    """

    instances: tuple[Mapping[str, Any], ...]
    online: bool
    id: str | None = None


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
    document = _json_object(body)
    if set(document) != {"instances"}:
        keys = ", ".join(sorted(excerpt(key) for key in document)) or "nothing"
        raise BadRequest("body", f"has {keys}", 'send exactly {"instances": [...]}')
    instances = document["instances"]
    if not isinstance(instances, list):
        raise BadRequest("instances", f"is {_kind(instances)}, not a list", "send a list of objects", part="rows")
    _check_count("instances", len(instances))
    for i, instance in enumerate(instances):
        if not isinstance(instance, dict):
            rule = f"is {_kind(instance)}, not an object"
            raise BadRequest(f"instances[{i}]", rule, "send {name: value, ...}", part="rows")
    online = _is_online(instances[0], manifest, "instances[0]")
    fields = _fields(manifest, online=online)
    for i, instance in enumerate(instances):
        if instance.keys() != fields.keys():
            _refuse_names(instance, manifest, f"instances[{i}]", online=online)
        for name, value in instance.items():
            _check_value(value, fields[name], f"instances[{i}].{name}", online=online)
    return _readable(InferenceRequest(tuple(instances), online), reads_online=reads_online)


def parse_v2(body: bytes, manifest: FeatureManifest, *, reads_online: bool = True) -> InferenceRequest:
    """
    ``{"inputs": [{"name", "shape": [n] or [n, 1], "datatype", "data": [...]}, ...]}``, one tensor a column.

    ``null`` in ``data`` means missing, an extension of the protocol that has no word for it.

    Raises:
        BadRequest: names the tensor and what is wrong with it.
    """
    document = _json_object(body)
    for key in document.keys() - _V2_KEYS:
        raise BadRequest(f"body: {excerpt(key)}", "is not a key of the V2 protocol", "send id and inputs")
    request_id, tensors = document.get("id"), document.get("inputs")
    if request_id is not None and (not isinstance(request_id, str) or len(request_id) > MAX_TEXT):
        raise BadRequest("id", f"is not a text of at most {MAX_TEXT} characters", "send a short text or leave it out")
    if not isinstance(tensors, list) or not tensors:
        rule = f"is {_kind(tensors)}, not a list of tensors"
        raise BadRequest("inputs", rule, "send one tensor a column", part="rows")
    columns: dict[str, tuple[str, list[Any]]] = {}
    for i, tensor in enumerate(tensors):
        name, datatype, data = _tensor(tensor, f"inputs[{i}]")
        if name in columns:
            rule = f"names {excerpt(name)} a second time"
            raise BadRequest(f"inputs[{i}]", rule, "send each column once", part="names")
        columns[name] = (datatype, data)
    return _readable(InferenceRequest(*_rows_of(columns, manifest), request_id), reads_online=reads_online)


def _readable(request: InferenceRequest, *, reads_online: bool) -> InferenceRequest:
    if request.online and not reads_online:
        rule = "has entity keys, and this server reads no features"
        raise BadRequest("body", rule, "send all features of the model", part="names")
    return request


def _rows_of(
    columns: Mapping[str, tuple[str, list[Any]]], manifest: FeatureManifest
) -> tuple[tuple[Mapping[str, Any], ...], bool]:
    """Rows of named tensors, and whether they must be read online."""
    lengths = {name: len(data) for name, (_, data) in columns.items()}
    n = next(iter(lengths.values()))
    _check_count("inputs", n)
    for name, length in lengths.items():
        if length != n:
            rule = f"has {length} values where the first tensor has {n}"
            raise BadRequest(f"input {excerpt(name)}", rule, "send columns of one length", part="rows")
    online = _is_online(columns, manifest, "inputs")
    fields = _fields(manifest, online=online)
    for name, (datatype, data) in columns.items():
        feature = fields[name]
        allowed = _ACCEPTED["string" if feature is None else feature.dtype]
        if datatype not in allowed:
            rule = f"has datatype {excerpt(datatype)}"
            raise BadRequest(f"input {excerpt(name)}", rule, f"send one of {', '.join(sorted(allowed))}", part="values")
        for i, value in enumerate(data):
            _check_value(value, feature, f"inputs[{i}].{name}", online=online)
    names = tuple(columns)
    rows = zip(*(data for _, data in columns.values()), strict=True)
    return tuple(dict(zip(names, row, strict=True)) for row in rows), online


def _tensor(tensor: Any, place: str) -> tuple[str, str, list[Any]]:
    """Name, datatype and flat data of one tensor."""
    if not isinstance(tensor, dict):
        rule = f"is {_kind(tensor)}, not an object"
        raise BadRequest(place, rule, "send name, shape, datatype and data", part="rows")
    for key in tensor.keys() - _TENSOR_KEYS:
        rule = "is not a key of a tensor"
        raise BadRequest(f"{place}: {excerpt(key)}", rule, "send name, shape, datatype and data", part="rows")
    name, datatype, shape, data = (tensor.get(key) for key in ("name", "datatype", "shape", "data"))
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise BadRequest(place, "has no name or no datatype", "send both as text", part="rows")
    if not isinstance(data, list):
        rule = f"has data that is {_kind(data)}"
        raise BadRequest(f"input {excerpt(name)}", rule, "send a flat list as data", part="rows")
    if shape not in ([len(data)], [len(data), 1]) or any(type(size) is not int for size in shape):
        rule = f"has shape {excerpt(shape)} and {len(data)} values"
        fix = f"send shape [{len(data)}] or [{len(data)}, 1] and flat data"
        raise BadRequest(f"input {excerpt(name)}", rule, fix, part="rows")
    return name, datatype, data


def _json_object(body: bytes) -> dict[str, Any]:
    check_length(len(body))
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest("body", f"is not JSON ({error})", "send one JSON object; JSON knows no NaN") from error
    if not isinstance(document, dict):
        raise BadRequest("body", f"is {_kind(document)}, not an object", "send one JSON object")
    return document


def _check_count(thing: str, n: int) -> None:
    if not 1 <= n <= MAX_INSTANCES:
        raise BadRequest(thing, f"has {n} rows", f"send 1 to {MAX_INSTANCES}", part="rows")


def _online_names(manifest: FeatureManifest) -> frozenset[str]:
    return frozenset(manifest.entity_keys) | {feature.name for feature in manifest.request_inputs}


def _is_online(names: Mapping[str, Any], manifest: FeatureManifest, place: str) -> bool:
    """Which of the two field sets is meant; the complete feature vector wins where both are the same."""
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


def _fields(manifest: FeatureManifest, *, online: bool) -> Mapping[str, Feature | None]:
    """The expected fields; ``None`` marks an entity key."""
    if not online:
        return {feature.name: feature for feature in manifest.features}
    keys: dict[str, Feature | None] = dict.fromkeys(manifest.entity_keys)
    return keys | {feature.name: feature for feature in manifest.request_inputs}


def _check_value(value: Any, feature: Feature | None, place: str, *, online: bool) -> None:
    """Refuse a value that is not of the field's type; ``null`` is a missing feature, but never a key or an input."""
    if value is None and not online:
        return
    kind = type(value)
    if feature is None or feature.dtype == "string":
        good = kind is str and len(value) <= MAX_TEXT
    elif feature.dtype == "int":
        good = (kind is int or (kind is float and value.is_integer())) and abs(value) <= _INT64_MAX
    else:
        good = (kind is float or kind is int) and math.isfinite(value) and abs(value) <= _FLOAT32_MAX
    if not good:
        expected = _EXPECTED[feature.dtype if feature else "string"]
        fix = f"send {expected}{'' if online else ' or null'}"
        raise BadRequest(place, f"is {excerpt(value)}, not {expected}", fix, part="values")


def columns_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    """Columns in the order of ``names``, from rows that have them all."""
    return {name: [row[name] for row in rows] for name in names}


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a text", bool: "a bool", type(None): "null"}.get(
        type(value), "a number"
    )


def excerpt(value: Any) -> str:
    """A value for a message: never longer than 60 characters, whatever the client sent."""
    if isinstance(value, (dict, list)) and len(value) > 8:
        return f"{_kind(value)} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
