"""
Requests of KServe's V2 protocol, parsed and checked against a feature manifest.

What a client asks for and does not get is refused: an output that there is not, a coding of the data that nobody here
reads, a value that its own datatype cannot hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sluice.features.manifest import FeatureManifest
from sluice.inputs.kind import InputKind, NotOfKindError
from sluice.models.request import (
    MAX_INSTANCES,
    MAX_TEXT,
    OUTPUT_NAMES,
    BadRequest,
    InferenceRequest,
    check_count,
    excerpt,
    fields_of,
    is_online,
    json_object,
    kind_of,
    nullable_of,
    read_column,
    read_value,
    readable,
)

_RANGES: Mapping[str, tuple[float, float]] = {"FP16": (-65504.0, 65504.0)} | {
    f"{sign}INT{bits}": (0 if sign else -(2 ** (bits - 1)), 2 ** (bits if sign else bits - 1) - 1)
    for bits in (8, 16, 32, 64)
    for sign in ("", "U")
}
"""FP32 and FP64 hold whatever a feature may be."""
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
    ``{"inputs": [{"name", "shape": [n] or [n, 1], "datatype", "data": [...]}, ...]}``, one tensor a column; of an input
    that is a tensor itself the shape is [n, *its own], and the data flat or nested.

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
    data, shape = (first.get("data"), first.get("shape")) if isinstance(first, dict) else (None, None)
    n = len(data) if isinstance(data, list) else 1
    if isinstance(shape, list) and len(shape) > 2 and type(shape[0]) is int:
        n = shape[0]
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
    kinds = {**fields_of(manifest, online=True), **fields_of(manifest, online=False)}
    for i, tensor in enumerate(tensors):
        name, datatype, data = _tensor(tensor, f"inputs[{i}]", kinds)
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
    read = [
        _read_column(name, datatype, data, fields[name], nullable=name in nullable)
        for name, (datatype, data) in columns.items()
    ]
    names = tuple(columns)
    rows = zip(*read, strict=True)
    return tuple(dict(zip(names, row, strict=True)) for row in rows), online


def _read_column(name: str, datatype: str, data: list[Any], kind: InputKind, *, nullable: bool) -> Sequence[Any]:
    """The values as their kind reads them; what their own datatype cannot hold is refused too."""
    if datatype not in kind.datatypes:
        rule, allowed = f"has datatype {excerpt(datatype)}", ", ".join(sorted(kind.datatypes))
        raise BadRequest(f"input {excerpt(name)}", rule, f"send one of {allowed}", part="values")
    try:
        values = read_column(data, kind, nullable=nullable)
    except NotOfKindError:
        values = [read_value(value, kind, f"inputs[{i}].{name}", nullable=nullable) for i, value in enumerate(data)]
    if datatype not in _RANGES:
        return values
    low, high = _RANGES[datatype]
    for i, value in enumerate(values):
        if value is not None and not _holds(value, low, high, whole=datatype != "FP16"):
            rule = f"is {excerpt(data[i])}, which {datatype} cannot hold"
            fix = f"send {low:g} to {high:g}, or another datatype"
            raise BadRequest(f"inputs[{i}].{name}", rule, fix, part="values")
    return values


def _holds(value: Any, low: float, high: float, *, whole: bool) -> bool:
    """Whether a number, or all of an array, may be of a datatype."""
    if isinstance(value, np.ndarray):
        fits = bool(low <= value.min() and value.max() <= high)
        return fits and not (whole and (value != np.rint(value)).any())
    return bool(low <= value <= high and not (whole and value != int(value)))


def _tensor(tensor: Any, place: str, kinds: Mapping[str, InputKind]) -> tuple[str, str, list[Any]]:
    """Name, datatype and values, a row each, of one tensor."""
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
    if (kind := kinds.get(name)) and kind.row_shape:
        return name, datatype, _values(data, shape, kind.row_shape, name)
    n = len(data)
    if shape not in ([n], [n, 1]) or any(type(size) is not int for size in shape):
        rule = f"has shape {excerpt(shape)} and {n} values"
        fix = f"send shape [{n}] or [{n}, 1] and the data of one column"
        raise BadRequest(f"input {excerpt(name)}", rule, fix, part="rows")
    if len(shape) == 2 and all(type(row) is list and len(row) == 1 for row in data):
        data = [row[0] for row in data]
    return name, datatype, data


def _values(data: list[Any], shape: Any, row_shape: tuple[int, ...], name: str) -> list[Any]:
    """A value a row as nested lists, from data that is flat or nested."""
    sizes = shape if isinstance(shape, list) and all(type(size) is int for size in shape) else []
    n = sizes[0] if sizes else 0
    nested = bool(data) and type(data[0]) is list
    due = n if nested else n * math.prod(row_shape)
    if sizes[1:] != list(row_shape) or len(data) != due:
        fix = f"send shape [n, {', '.join(map(str, row_shape))}] and the numbers of n rows, flat or nested"
        rule = f"has shape {excerpt(shape)} and {len(data)} {'rows' if nested else 'values'}"
        raise BadRequest(f"input {excerpt(name)}", rule, fix, part="rows")
    return data if nested else _nested(data, row_shape)


def _nested(flat: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """Pieces of ``shape``, one after the other."""
    for size in reversed(shape):
        flat = [flat[at : at + size] for at in range(0, len(flat), size)]
    return flat
