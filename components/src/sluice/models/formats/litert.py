"""LiteRT: one thread, float in and out, no TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np

from sluice.arrays import Floats, Floats32
from sluice.errors import BadArtifact, one_line
from sluice.models.formats.litert_rules import check_litert
from sluice.models.scorer import TurnScorer

_BATCHES = (1, 16, 64, 256, 1024)
"""Batch shapes that get an interpreter of their own: resizing one makes it prepare its kernels again."""


class LiteRTScorer(TurnScorer):
    """
    Scores encoded rows with a LiteRT model.

    Args:
        model_bytes: a ``.tflite`` file.

    Raises:
        BadArtifact: the bytes are no LiteRT model of allowed operators with one float32 input (n, width) and one
            float32 output (n, outputs).
    """

    largest = _BATCHES[-1]

    def __init__(self, model_bytes: bytes) -> None:
        super().__init__()
        self._bytes = model_bytes
        self._interpreters: dict[int, tuple[Any, int, int]] = {}
        try:
            check_litert(model_bytes)
        except ValueError as error:
            raise _refusal(error) from error
        interpreter = self._interpreter(1)[0]
        self.width = int(interpreter.get_input_details()[0]["shape"][1])
        self.outputs = int(interpreter.get_output_details()[0]["shape"][1])

    def _batch(self, rows: Floats32) -> Floats:
        batch = next(size for size in _BATCHES if size >= len(rows))
        interpreter, source, target = self._interpreter(batch)
        full = rows
        if len(rows) < batch:
            full = np.zeros((batch, self.width), np.float32)
            full[: len(rows)] = rows
        interpreter.set_tensor(source, full)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(target)[: len(rows)], np.float64)

    def _interpreter(self, batch: int) -> tuple[Any, int, int]:
        if batch not in self._interpreters:
            self._interpreters[batch] = _prepare(self._bytes, batch)
        return self._interpreters[batch]


def _prepare(model_bytes: bytes, batch: int) -> tuple[Any, int, int]:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=model_bytes, num_threads=1)
        sources, targets = interpreter.get_input_details(), interpreter.get_output_details()
        _check_signature(sources, targets)
        interpreter.resize_tensor_input(sources[0]["index"], [batch, int(sources[0]["shape"][1])])
        interpreter.allocate_tensors()
        if int(interpreter.get_output_details()[0]["shape"][0]) != batch:
            # A graph that asks for the shape of its input has one of its output once it has run.
            interpreter.set_tensor(sources[0]["index"], np.zeros((batch, int(sources[0]["shape"][1])), np.float32))
            interpreter.invoke()
        _check_batch(interpreter.get_output_details()[0]["shape"], batch)
    except (ValueError, RuntimeError) as error:
        raise _refusal(error) from error
    return interpreter, sources[0]["index"], targets[0]["index"]


def _refusal(error: Exception) -> BadArtifact:
    return BadArtifact("model.tflite", f"is not a model that can be scored ({one_line(error)})", "export it again")


def _check_signature(sources: list[dict[str, Any]], targets: list[dict[str, Any]]) -> None:
    if len(sources) != 1 or len(targets) != 1:
        raise ValueError(f"{len(sources)} inputs and {len(targets)} outputs, need one each")
    for tensor in (sources[0], targets[0]):
        if tensor["dtype"] is not np.float32 or len(tensor["shape"]) != 2:
            raise ValueError(f"tensor {tensor['name']} is {tensor['dtype']} {tensor['shape']}, need float32 of rank 2")
        if int(tensor["shape"][1]) < 1:
            raise ValueError(f"tensor {tensor['name']} has shape {tensor['shape']}, need at least one column")


def _check_batch(shape: Any, batch: int) -> None:
    if int(shape[0]) != batch:
        raise ValueError(f"output has shape {shape} for {batch} rows, need a row each")
