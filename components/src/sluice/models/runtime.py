"""The runtime that serves: LiteRT, one thread, float in and out, no TensorFlow."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import numpy as np

from sluice.arrays import Floats, Floats32
from sluice.errors import BadArtifact, BadInput, one_line

_BATCHES = (1, 16, 1024)
"""Batch shapes that get an interpreter of their own: resizing one makes it prepare its kernels again."""


class LiteRTScorer:
    """
    Scores encoded rows with a LiteRT model whose one output is a logit.

    Safe to call from several threads; they take turns, since an interpreter holds one batch at a time.

    Args:
        model_bytes: a ``.tflite`` file.

    Raises:
        BadArtifact: the bytes are no LiteRT model with one float32 input (n, width) and one float32 output (n, 1).
    """

    def __init__(self, model_bytes: bytes) -> None:
        self._bytes = model_bytes
        self._lock = threading.Lock()
        self._interpreters: dict[int, tuple[Any, int, int]] = {}
        details = self._interpreter(1)[0].get_input_details()[0]
        self.width = int(details["shape"][1])

    def scores(self, x: Floats32) -> Floats:
        """
        Probabilities of the positive class.

        Args:
            x: encoded rows, float32, shape (n, width).

        Returns:
            float64, shape (n,).

        Raises:
            BadInput: another shape.
        """
        if x.ndim != 2 or x.shape[1] != self.width:
            raise BadInput("model input", f"has shape {x.shape}, the model takes (n, {self.width})", "encode the rows")
        if len(x) == 1:
            with self._lock:
                return _sigmoid_of_one(self._logits(x, 1))
        logits = np.empty(len(x), np.float64)
        with self._lock:
            start = 0
            while start < len(x):
                batch = next((size for size in _BATCHES if size >= len(x) - start), _BATCHES[-1])
                logits[start : start + batch] = self._logits(x[start : start + batch], batch)
                start += batch
        return sigmoid(logits)

    def latency(self, x: Floats32, runs: int = 2000) -> tuple[float, float]:
        """Median and 99th percentile of scoring one row, in microseconds, over ``runs`` calls on rows of ``x``."""
        rows = [np.ascontiguousarray(x[index % len(x)][None]) for index in range(min(runs, 256))]
        self.scores(rows[0])
        durations = np.empty(runs)
        for run in range(runs):
            row = rows[run % len(rows)]
            start = time.perf_counter_ns()
            self.scores(row)
            durations[run] = time.perf_counter_ns() - start
        p50, p99 = np.quantile(durations, [0.5, 0.99]) / 1000
        return float(p50), float(p99)

    def _logits(self, rows: Floats32, batch: int) -> Floats:
        interpreter, source, target = self._interpreter(batch)
        full = rows
        if len(rows) < batch:
            full = np.zeros((batch, self.width), np.float32)
            full[: len(rows)] = rows
        interpreter.set_tensor(source, full)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(target)[: len(rows), 0], np.float64)

    def _interpreter(self, batch: int) -> tuple[Any, int, int]:
        if batch not in self._interpreters:
            self._interpreters[batch] = _prepare(self._bytes, batch)
        return self._interpreters[batch]


def _sigmoid_of_one(logits: Floats) -> Floats:
    """``sigmoid`` for one value, a tenth of its time."""
    logit = float(logits[0])
    small = math.exp(-abs(logit))
    return np.array([(1.0 if logit >= 0 else small) / (1.0 + small)])


def sigmoid(logits: Floats) -> Floats:
    """The logistic function, without overflow."""
    return np.where(logits >= 0, 1.0, np.exp(np.minimum(logits, 0))) / (1.0 + np.exp(-np.abs(logits)))


def _prepare(model_bytes: bytes, batch: int) -> tuple[Any, int, int]:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=model_bytes, num_threads=1)
        sources, targets = interpreter.get_input_details(), interpreter.get_output_details()
        _check_signature(sources, targets)
        interpreter.resize_tensor_input(sources[0]["index"], [batch, int(sources[0]["shape"][1])])
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = one_line(error)
        raise BadArtifact("model.tflite", f"is not a model that can be scored ({reason})", "export it again") from error
    return interpreter, sources[0]["index"], targets[0]["index"]


def _check_signature(sources: list[dict[str, Any]], targets: list[dict[str, Any]]) -> None:
    if len(sources) != 1 or len(targets) != 1:
        raise ValueError(f"{len(sources)} inputs and {len(targets)} outputs, need one each")
    for tensor in (sources[0], targets[0]):
        if tensor["dtype"] is not np.float32 or len(tensor["shape"]) != 2:
            raise ValueError(f"tensor {tensor['name']} is {tensor['dtype']} {tensor['shape']}, need float32 of rank 2")
    if int(targets[0]["shape"][1]) != 1:
        raise ValueError(f"output has shape {targets[0]['shape']}, need one logit")
