"""What every format's scorer can do, and the one way from its raw outputs to a probability."""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np

from sluice.arrays import Floats, Floats32
from sluice.errors import BadInput
from sluice.targets.probabilities import sigmoid

_TIMED_ROWS = 256


class Scorer(Protocol):
    """
    A loaded model, whatever its format. Safe to call from several threads.

    Attributes:
        width: columns of its input.
        outputs: columns of its raw output.
    """

    width: int
    outputs: int

    def raw(self, x: Floats32) -> Floats:
        """Raw outputs (a logit, say) of encoded rows: float32 (n, width) to float64 (n, outputs)."""

    def scores(self, x: Floats32) -> Floats:
        """Probabilities of the positive class, float64, shape (n,)."""

    def latency(self, x: Floats32, runs: int = 2000) -> tuple[float, float]:
        """Median and 99th percentile of scoring one row of ``x``, in microseconds, from ``runs`` calls."""


class TurnScorer(ABC):
    """A scorer whose callers take turns: its runtime holds one batch at a time. A format gives ``_batch``."""

    width: int
    outputs: int
    largest: int
    """Rows of the largest batch that ``_batch`` takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @abstractmethod
    def _batch(self, rows: Floats32) -> Floats:
        """Raw outputs of 1 to ``largest`` rows, float64, shape (n, outputs)."""

    def raw(self, x: Floats32) -> Floats:
        """
        Raw outputs.

        Args:
            x: encoded rows, float32, shape (n, width).

        Returns:
            float64, shape (n, outputs).

        Raises:
            BadInput: another shape.
        """
        if x.ndim != 2 or x.shape[1] != self.width:
            raise BadInput("model input", f"has shape {x.shape}, the model takes (n, {self.width})", "encode the rows")
        with self._lock:
            if 1 <= len(x) <= self.largest:
                return self._batch(x)
            raw = np.empty((len(x), self.outputs), np.float64)
            for start in range(0, len(x), self.largest):
                raw[start : start + self.largest] = self._batch(x[start : start + self.largest])
        return raw

    def scores(self, x: Floats32) -> Floats:
        """
        Probabilities of the positive class.

        Args:
            x: encoded rows, float32, shape (n, width).

        Returns:
            float64, shape (n,).

        Raises:
            BadInput: another shape, or a model of more than one output.
        """
        raw = self.raw(x)
        if self.outputs != 1:
            raise BadInput("model", f"has {self.outputs} outputs, a binary score has one", "ask for its raw outputs")
        return probabilities(raw)

    def latency(self, x: Floats32, runs: int = 2000) -> tuple[float, float]:
        """
        Median and 99th percentile, over rows of ``x``, of the time that scoring one takes, in microseconds.

        ``runs`` calls score the same rows (at most 256) in turns, and the least time of each row counts: what is above
        it is other work of the machine (Python's documentation of ``timeit.repeat``), and a busy machine must not
        decide what ships. A row that is slow by itself is slow in every turn.
        """
        rows = [np.ascontiguousarray(row[None]) for row in x[: min(runs, _TIMED_ROWS)]]
        self.raw(rows[0])
        turns = [[self._nanoseconds(row) for row in rows] for _ in range(max(1, runs // len(rows)))]
        p50, p99 = np.quantile(np.min(turns, axis=0), [0.5, 0.99]) / 1000
        return float(p50), float(p99)

    def _nanoseconds(self, row: Floats32) -> int:
        start = time.perf_counter_ns()
        probabilities(self.raw(row))
        return time.perf_counter_ns() - start


def probabilities(raw: Floats) -> Floats:
    """
    What a bundle answers for raw outputs (n, k): the probability of the positive class, float64, shape (n,).

    ``sigmoid`` of the first column; of one row in a tenth of its time.
    """
    if len(raw) != 1:
        return sigmoid(raw[:, 0])
    logit = float(raw[0, 0])
    small = math.exp(-abs(logit))
    return np.array([(1.0 if logit >= 0 else small) / (1.0 + small)])
