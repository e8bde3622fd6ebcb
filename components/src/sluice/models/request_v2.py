"""
Requests of KServe's V2 protocol, parsed and checked against a feature manifest.

What a client asks for and does not get is refused: an output that there is not, a coding of the data that nobody here
reads, a value that its own datatype cannot hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sluice.features.manifest import Feature, FeatureManifest
from sluice.models.request import (
    MAX_INSTANCES,
    MAX_TEXT,
    OUTPUT_NAMES,
    BadRequest,
    InferenceRequest,
    check_count,
    check_value,
    excerpt,
    fields_of,
    is_online,
    json_object,
    kind_of,
    nullable_of,
    readable,
)

_RANGES: Mapping[str, tuple[float, float]] = {"FP16": (-65504.0, 65504.0)} | {
    f"{sign}INT{bits}": (0 if sign else -(2 ** (bits - 1)), 2 ** (bits if sign else bits - 1) - 1)
    for bits in (8, 16, 32, 64)
    for sign in ("", "U")
}
"""FP32 and FP64 hold whatever a feature may be."""
_INTS = frozenset(_RANGES) - {"FP16"}
_FLOATS = frozenset({"FP16", "FP32", "FP64"})
DATATYPES: Mapping[str, str] = {"float": "FP64", "int": "INT64", "string": "BYTES"}
"""The V2 datatype in which a feature is best sent."""
_ACCEPTED = {"float": _FLOATS | _INTS, "int": _INTS, "string": frozenset({"BYTES"})}
_KEYS = frozenset({"id", "parameters", "inputs", "outputs"})
_TENSOR_KEYS = frozenset({"name", "shape", "datatype", "parameters", "data"})
_OUTPUT_KEYS = frozenset({"name", "parameters"})
_REQUEST_GRANTS: tuple[tuple[str, Any], ...] = (("binary_data_output", False), ("content_type", "pd"))
_OUTPUT_GRANTS: tuple[tuple[str, Any], ...] = (("binary_data", False), ("content_type", "np"))
_TEXT_GRANTS = (("binary_data", False), ("content_type", "str"))
"""Parameters that ask for what is done anyway."""


def parse_v2(
    body: bytes, manifest: FeatureManifest, *, reads_online: bool = True, outputs: Sequence[str] = OUTPUT_NAMES
) -> InferenceRequest:
    """
    ``{"inputs": [{"name", "shape": [n] or [n, 1], "datatype", "data": [...]}, ...]}``, one tensor a column.

    ``outputs`` are those of the model. ``null`` in ``data`` means missing, an extension of the
    protocol that has no word for it.

    Raises:
        BadRequest: names the tensor and what is wrong with it.
    """
    document = json_object(body)
    try:
        return readable(_request_of(document, manifest, outputs), reads_online=reads_online)
    except BadRequest as error:
        error.rows = _length(document.get("inputs"))
        raise


def _length(tensors: Any) -> int:
    """Rows of the first tensor; 1 where they cannot be counted, or are more than there may be."""
    first = tensors[0] if isinstance(tensors, list) and tensors else None
    data = first.get("data") if isinstance(first, dict) else None
    n = len(data) if isinstance(data, list) else 1
    return n if 1 <= n <= MAX_INSTANCES else 1


def _request_of(document: Mapping[str, Any], manifest: FeatureManifest, known: Sequence[str]) -> InferenceRequest:
    for key in document.keys() - _KEYS:
        raise BadRequest(f"body: {excerpt(key)}", "is not a key of the V2 protocol", "send id and inputs")
    _check_parameters(document.get("parameters"), "parameters", _REQUEST_GRANTS)
    request_id, tensors = document.get("id"), document.get("inputs")
    if request_id is not None and (not isinstance(request_id, str) or len(request_id) > MAX_TEXT):
        raise BadRequest("id", f"is not a text of at most {MAX_TEXT} characters", "send a short text or leave it out")
    outputs = _outputs(document.get("outputs"), tuple(known))
    if not isinstance(tensors, list) or not tensors:
        rule = f"is {kind_of(tensors)}, not a list of tensors"
        raise BadRequest("inputs", rule, "send one tensor a column", part="rows")
    columns: dict[str, tuple[str, list[Any]]] = {}
    for i, tensor in enumerate(tensors):
        name, datatype, data = _tensor(tensor, f"inputs[{i}]")
        if name in columns:
            rule = f"names {excerpt(name)} a second time"
            raise BadRequest(f"inputs[{i}]", rule, "send each column once", part="names")
        columns[name] = (datatype, data)
    return InferenceRequest(*_rows_of(columns, manifest), request_id, outputs)


def _outputs(wanted: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the outputs to answer with; all of them where a request does not say."""
    fix = f"ask for {' or '.join(known)}, or leave outputs out"
    if wanted is None or wanted == []:
        return known
    if not isinstance(wanted, list):
        raise BadRequest("outputs", f"is {kind_of(wanted)}, not a list of objects", fix, part="names")
    names: list[str] = []
    for i, each in enumerate(wanted):
        place = f"outputs[{i}]"
        name = each.get("name") if isinstance(each, dict) else None
        if not isinstance(name, str) or name not in known:
            raise BadRequest(place, f"is {excerpt(name or each)}, no output of this model", fix, part="names")
        for key in each.keys() - _OUTPUT_KEYS:
            raise BadRequest(f"{place}: {excerpt(key)}", "is not a key of an output", "send its name", part="names")
        if name in names:
            raise BadRequest(place, f"names {excerpt(name)} a second time", "ask for each once", part="names")
        _check_parameters(each.get("parameters"), f"{place}.parameters", _OUTPUT_GRANTS)
        names.append(name)
    return tuple(names)


def _check_parameters(parameters: Any, place: str, granted: tuple[tuple[str, Any], ...]) -> None:
    """Refuse to ignore what a client asks for."""
    if parameters is None:
        return
    if not isinstance(parameters, dict):
        raise BadRequest(place, f"is {kind_of(parameters)}, not an object", "send an object, or leave it out")
    for key, value in parameters.items():
        if (key, value) not in granted:
            rule = f"is {excerpt(value)}, which is not done here"
            fix = "leave it out, and send columns of plain JSON values"
            raise BadRequest(f"{place}: {excerpt(key)}", rule, fix)


def _rows_of(
    columns: Mapping[str, tuple[str, list[Any]]], manifest: FeatureManifest
) -> tuple[tuple[Mapping[str, Any], ...], bool]:
    """Rows of named tensors, and whether they must be read online."""
    lengths = {name: len(data) for name, (_, data) in columns.items()}
    n = next(iter(lengths.values()))
    check_count("inputs", n)
    for name, length in lengths.items():
        if length != n:
            rule = f"has {length} values where the first tensor has {n}"
            raise BadRequest(f"input {excerpt(name)}", rule, "send columns of one length", part="rows")
    online = is_online(columns, manifest, "inputs")
    fields, nullable = fields_of(manifest, online=online), nullable_of(manifest, online=online)
    for name, (datatype, data) in columns.items():
        _check_column(name, datatype, data, fields[name], nullable=name in nullable)
    names = tuple(columns)
    rows = zip(*(data for _, data in columns.values()), strict=True)
    return tuple(dict(zip(names, row, strict=True)) for row in rows), online


def _check_column(name: str, datatype: str, data: list[Any], feature: Feature | None, *, nullable: bool) -> None:
    """Refuse what is not of the field's type, and what its own datatype cannot hold."""
    dtype = "string" if feature is None else feature.dtype
    allowed = _ACCEPTED[dtype]
    if datatype not in allowed:
        rule = f"has datatype {excerpt(datatype)}"
        raise BadRequest(f"input {excerpt(name)}", rule, f"send one of {', '.join(sorted(allowed))}", part="values")
    for i, value in enumerate(data):
        check_value(value, feature, f"inputs[{i}].{name}", nullable=nullable)
    if datatype not in _RANGES:
        return
    low, high = _RANGES[datatype]
    for i, value in enumerate(data):
        if value is not None and not (low <= value <= high and (datatype == "FP16" or value == int(value))):
            rule = f"is {excerpt(value)}, which {datatype} cannot hold"
            fix = f"send {low:g} to {high:g}, or another datatype"
            raise BadRequest(f"inputs[{i}].{name}", rule, fix, part="values")


def _tensor(tensor: Any, place: str) -> tuple[str, str, list[Any]]:
    """Name, datatype and flat data of one tensor."""
    if not isinstance(tensor, dict):
        rule = f"is {kind_of(tensor)}, not an object"
        raise BadRequest(place, rule, "send name, shape, datatype and data", part="rows")
    for key in tensor.keys() - _TENSOR_KEYS:
        rule = "is not a key of a tensor"
        raise BadRequest(f"{place}: {excerpt(key)}", rule, "send name, shape, datatype and data", part="rows")
    name, datatype, shape, data = (tensor.get(key) for key in ("name", "datatype", "shape", "data"))
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise BadRequest(place, "has no name or no datatype", "send both as text", part="rows")
    _check_parameters(
        tensor.get("parameters"), f"{place}.parameters", _TEXT_GRANTS if datatype == "BYTES" else _OUTPUT_GRANTS
    )
    if not isinstance(data, list):
        rule = f"has data that is {kind_of(data)}"
        raise BadRequest(f"input {excerpt(name)}", rule, "send a list as data", part="rows")
    n = len(data)
    if shape not in ([n], [n, 1]) or any(type(size) is not int for size in shape):
        rule = f"has shape {excerpt(shape)} and {n} values"
        fix = f"send shape [{n}] or [{n}, 1] and the data of one column"
        raise BadRequest(f"input {excerpt(name)}", rule, fix, part="rows")
    if len(shape) == 2 and all(type(row) is list and len(row) == 1 for row in data):
        data = [row[0] for row in data]
    return name, datatype, data
