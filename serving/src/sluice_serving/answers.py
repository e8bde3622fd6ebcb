"""What a bundle's predictions look like on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from sluice.models.bundle import Bundle
    from sluice.models.request import InferenceRequest
    from sluice.targets.kind import AnswerField


class Answers:
    """The answers of one bundle in V1 and V2; values are by the name of an answer's field, an entry a row."""

    def __init__(self, bundle: Bundle) -> None:
        self._task, self._digest = bundle.manifest.task, bundle.digest
        self._kinds = {feature.name: feature.kind for feature in bundle.manifest.features.features}
        self._fields = {field.name: field for field in bundle.target.answers}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the fields that an answer may have."""
        return tuple(self._fields)

    def v1(self, numbers: Sequence[int], values: Mapping[str, list[Any]], failures: Mapping[int, str]) -> bytes:
        """The rows ``numbers`` of a request with their values, and a word for each row that has none."""
        predictions: dict[int, dict[str, Any]] = {
            number: {**dict(zip(values, row, strict=True)), "digest": self._digest}
            for number, *row in zip(numbers, *values.values(), strict=True)
        }
        predictions |= {number: {"error": reason, "digest": self._digest} for number, reason in failures.items()}
        return orjson.dumps({"predictions": [predictions[number] for number in range(len(predictions))]})

    def v2(self, request: InferenceRequest, values: Mapping[str, list[Any]]) -> bytes:
        """The tensors that the request asks for."""
        document: dict[str, Any] = {
            "model_name": self._task,
            "outputs": [_tensor(self._fields[name], values[name]) for name in request.outputs],
            "parameters": {"digest": self._digest},
        }
        if request.id is not None:
            document["id"] = request.id
        return orjson.dumps(document)

    def input_tensors(self) -> list[dict[str, Any]]:
        """The V2 tensors of a request that brings all features."""
        return [
            {"name": name, "datatype": kind.datatype, "shape": [-1, *kind.row_shape]}
            for name, kind in self._kinds.items()
        ]

    def output_tensors(self) -> list[dict[str, Any]]:
        """The V2 tensors of an answer."""
        return [
            {"name": field.name, "datatype": field.datatype, "shape": _shape(field, -1)}
            for field in self._fields.values()
        ]


def _shape(field: AnswerField, n: int) -> list[int]:
    return [n] if field.size == 1 else [n, field.size]


def _tensor(field: AnswerField, values: list[Any]) -> dict[str, Any]:
    """One output, its data row after row."""
    data = values if field.size == 1 else [number for row in values for number in row]
    return {"name": field.name, "shape": _shape(field, len(values)), "datatype": field.datatype, "data": data}
