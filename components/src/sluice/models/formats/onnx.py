"""ONNX Runtime: one thread, on the processor, with bounded memory and nothing sent anywhere."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from sluice.arrays import Floats, Floats32
from sluice.errors import BadArtifact, one_line
from sluice.models.formats.onnx_rules import check_onnx
from sluice.models.scorer import TurnScorer

_ARENA_BYTES = 1 << 30
"""What all ONNX models of a process may take for their tensors; beyond it a call fails, and the process goes on."""


class OnnxScorer(TurnScorer):
    """
    Scores encoded rows with an ONNX model.

    Args:
        model_bytes: an ``.onnx`` file, whole.

    Raises:
        BadArtifact: the bytes are no ONNX model of allowed operators with one float32 input (n, width) and one
            float32 output (n, outputs).
    """

    largest = 1024

    def __init__(self, model_bytes: bytes) -> None:
        super().__init__()
        try:
            check_onnx(model_bytes)
        except ValueError as error:
            raise _refusal(error) from error
        self._session = _session(model_bytes)
        source = self._session.get_inputs()[0]
        self._source, self.width = source.name, int(source.shape[1])
        self.outputs = self._answer_width()

    def _answer_width(self) -> int:
        """Columns of what one row gives; every batch must give a row for each of its rows."""
        try:
            first, two = (self._run(np.zeros((rows, self.width), np.float32)) for rows in (1, 2))
        except Exception as error:
            raise _refusal(error) from error
        if first.ndim != 2 or first.shape[0] != 1 or two.shape != (2, first.shape[1]) or not first.shape[1]:
            raise _refusal(ValueError(f"one row gives shape {first.shape} and two {two.shape}, need (n, columns)"))
        return int(first.shape[1])

    def _batch(self, rows: Floats32) -> Floats:
        return np.asarray(self._run(rows), np.float64)

    def _run(self, rows: Floats32) -> Any:
        return self._session.run(None, {self._source: np.ascontiguousarray(rows, np.float32)})[0]


def _session(model_bytes: bytes) -> Any:
    import onnxruntime

    _register_arena()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = False  # it keeps a plan for every number of rows that was ever asked
    options.log_severity_level = 4
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            model_bytes, options, providers=["CPUExecutionProvider"], disabled_optimizers=["ConstantFolding"]
        )
    except Exception as error:
        raise _refusal(error) from error


@cache
def _register_arena() -> None:
    """One bounded arena for the process; constants are folded by nobody, for that would be outside it."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    onnxruntime.set_default_logger_severity(4)
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    bounds = onnxruntime.OrtArenaCfg({"max_mem": _ARENA_BYTES, "arena_extend_strategy": 1})
    onnxruntime.create_and_register_allocator(place, bounds)


def _refusal(error: Exception) -> BadArtifact:
    reason = one_line(error, 300)
    return BadArtifact("model.onnx", f"is not a model that can be scored ({reason})", "export it again")
