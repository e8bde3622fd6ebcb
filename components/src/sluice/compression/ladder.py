"""The compression ladder: from the teacher to ever cheaper students, each measured through the runtime that serves."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sluice.compression.export import export_litert
from sluice.compression.prune import kernel_sparsity, pruned_student
from sluice.compression.quantize import quantization_aware_student, quantize_weights
from sluice.compression.student import Lessons, distil
from sluice.content import whole_directory, write_json
from sluice.errors import BadArtifact, one_line
from sluice.models.builder import build
from sluice.models.encoder import Encoder
from sluice.models.runtime import LiteRTScorer
from sluice.tasks.recipe import Recipe
from sluice.training.curve import LinePrinter, predicted_logits, print_line
from sluice.training.determinism import start_tensorflow
from sluice.training.frame import EncodedSplit, encoded_splits, prepared_frame
from sluice.training.teacher import WEIGHTS

_CHECKED_ROWS = 512
_LATENCY_RUNS = 3000


def build_ladder(
    frame_dir: Path, teacher_dir: Path, recipe: Recipe, out: Path, progress: LinePrinter | None = None
) -> None:
    """
    Build the recipe's variants and score the tune and test rows with each.

    Args:
        frame_dir: holds the frame that the teacher was trained on.
        teacher_dir: what ``train_teacher`` wrote.
        recipe: names the variants and the student's size.
        out: gets ``<variant>.tflite``, ``ladder.json`` and ``scores.parquet`` (example_id, split, one float64 column
            of probabilities a variant).
        progress: called with one line a variant; by default the line goes to standard output.

    Raises:
        BadArtifact: the teacher's files are damaged, or a conversion went wrong.
        BadInput: the recipe does not fit the frame.
    """
    encoder, spec = _read_teacher(teacher_dir)
    splits = encoded_splits(prepared_frame(frame_dir, recipe), encoder)
    keras = start_tensorflow(recipe.seed)
    teacher = _load_teacher(keras, spec, teacher_dir / WEIGHTS)
    with whole_directory(out) as directory:
        models = _Builder(keras, teacher, splits["train"], recipe, directory / "student.weights.h5")
        rungs, scores = [], _rows(splits)
        for name in recipe.variants:
            data, parameters, sparsity = models.variant(name)
            (directory / f"{name}.tflite").write_bytes(data)
            scorer = LiteRTScorer(data)
            scores = scores.with_columns(pl.Series(name, _scores(scorer, splits)))
            rungs.append(_rung(name, data, parameters, sparsity, scorer, splits["tune"]))
            (progress or print_line)(_line(rungs[-1]))
        scores.write_parquet(directory / "scores.parquet")
        write_json(directory / "ladder.json", rungs)


class _Builder:
    """Makes variants; the distilled student is made once and lent to all that need it."""

    def __init__(self, keras: Any, teacher: Any, train: EncodedSplit, recipe: Recipe, weights: Path) -> None:
        self._keras, self._teacher, self._recipe, self._weights = keras, teacher, recipe, weights
        self._rows = train.x[:: max(1, len(train.x) // _CHECKED_ROWS)]
        targets = np.stack([train.y, predicted_logits(teacher, train.x).astype(np.float32)], axis=1)
        self._lessons = Lessons(train.x, targets)
        self._student: tuple[Any, bytes] | None = None

    def variant(self, name: str) -> tuple[bytes, int, float]:
        """The file of a variant, the number of its parameters, and the share of zeros in its kernels."""
        make: Mapping[str, Callable[[], tuple[bytes, Any]]] = {
            "teacher_f32": lambda: (export_litert(self._teacher, self._rows, name), self._teacher),
            "student_f32": lambda: (self._distil()[1], self._distil()[0]),
            "student_int8": lambda: (quantize_weights(self._distil()[1]), self._distil()[0]),
            "student_pruned_int8": self._prune,
            "student_qat_int8": self._quantize_aware,
        }
        data, model = make[name]()
        kernels = self._distil()[0] if name == "student_qat_int8" else model
        return data, kernels.count_params(), kernel_sparsity(kernels)

    def _distil(self) -> tuple[Any, bytes]:
        if self._student is None:
            model = distil(self._keras, self._lessons, self._recipe)
            model.save_weights(self._weights)
            self._student = model, export_litert(model, self._rows, "student_f32")
        return self._student

    def _prune(self) -> tuple[bytes, Any]:
        self._distil()
        model = pruned_student(self._weights, self._lessons, self._recipe)
        return quantize_weights(export_litert(model, self._rows, "student_pruned_int8")), model

    def _quantize_aware(self) -> tuple[bytes, Any]:
        self._distil()
        model = quantization_aware_student(self._weights, self._lessons, self._recipe)
        return export_litert(model, self._rows, "student_qat_int8", int8=True), model


def _read_teacher(directory: Path) -> tuple[Encoder, dict[str, Any]]:
    try:
        encoder = Encoder.model_validate_json((directory / "encoder.json").read_bytes())
        spec = json.loads((directory / "spec.json").read_bytes())
    except (OSError, ValueError) as error:
        reason = one_line(error)
        raise BadArtifact(
            str(directory), f"is not what training wrote ({reason})", "train the teacher again"
        ) from error
    if spec.get("width") != encoder.width:
        rule = f"spec.json says {spec.get('width')} columns, the encoder gives {encoder.width}"
        raise BadArtifact(str(directory), rule, "train the teacher again")
    return encoder, spec


def _load_teacher(keras: Any, spec: Mapping[str, Any], weights: Path) -> Any:
    model = build(keras, spec["width"], spec["hidden"], spec["dropout"])
    try:
        model.load_weights(weights)
    except (OSError, ValueError, KeyError) as error:
        reason = one_line(error)
        raise BadArtifact(str(weights), f"cannot be loaded ({reason})", "train the teacher again") from error
    return model


def _rows(splits: Mapping[str, EncodedSplit]) -> pl.DataFrame:
    return pl.concat(
        pl.DataFrame({"example_id": splits[name].ids}).with_columns(split=pl.lit(name)) for name in ("tune", "test")
    )


def _scores(scorer: LiteRTScorer, splits: Mapping[str, EncodedSplit]) -> Any:
    return np.concatenate([scorer.scores(splits[name].x) for name in ("tune", "test")])


def _rung(
    name: str, data: bytes, parameters: int, sparsity: float, scorer: LiteRTScorer, rows: EncodedSplit
) -> dict[str, Any]:
    p50, p99 = scorer.latency(rows.x, _LATENCY_RUNS)
    return {
        "name": name,
        "parameters": parameters,
        "sparsity": round(sparsity, 4),
        "bytes": len(data),
        "gzip_bytes": len(gzip.compress(data, 9, mtime=0)),
        "latency_p50_us": round(p50, 2),
        "latency_p99_us": round(p99, 2),
    }


def _line(rung: Mapping[str, Any]) -> str:
    return (
        f"{rung['name']:<20} {rung['parameters']:>8,} parameters  {rung['bytes']:>9,} bytes "
        f"({rung['gzip_bytes']:,} gzipped)  p50 {rung['latency_p50_us']:.1f} us"
    )
