"""The runtimes that serve, by the format of a bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from sluice.models.formats.litert import LiteRTScorer
from sluice.models.formats.onnx import OnnxScorer
from sluice.models.scorer import Scorer

__all__ = ["FORMATS", "Format", "FormatName", "LiteRTScorer", "OnnxScorer", "Scorer"]

FormatName = Literal["litert", "onnx"]


@dataclass(frozen=True)
class Format:
    """
    One format of model files.

    Attributes:
        file: name of the model's file in a bundle.
        load: makes its scorer of the file's bytes; raises BadArtifact.
    """

    file: str
    load: Callable[[bytes], Scorer]


FORMATS: Mapping[FormatName, Format] = {
    "litert": Format("model.tflite", LiteRTScorer),
    "onnx": Format("model.onnx", OnnxScorer),
}
"""What a bundle's ``format`` may name."""
