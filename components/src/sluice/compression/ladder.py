"""The compression ladder: from the teacher to ever cheaper students, each measured through the runtime that serves."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from sluice.arrays import Floats, Floats32
from sluice.compression.prune import pruned_student
from sluice.compression.quantize import quantization_aware_student, quantize_weights
from sluice.compression.student import Lessons, distil
from sluice.content import whole_directory, write_json
from sluice.models.encoder import Encoder, fit_encoder
from sluice.models.runtime import FORMATS, Scorer
from sluice.targets.kind import TargetKind
from sluice.targets.predictions import prediction_column
from sluice.targets.registry import BINARY
from sluice.tasks.recipe import Recipe, Variant
from sluice.training.curve import LinePrinter, print_line
from sluice.training.determinism import start_tensorflow
from sluice.training.export import export_litert, kernel_sparsity
from sluice.training.families.family import ENCODER, ModelFile, Teacher, read_teacher
from sluice.training.families.registry import family_of
from sluice.training.frame import EncodedSplit, encoded_splits, prepared_frame, reduced_manifest
from sluice.training.objective import Objective, objective_of

TEACHER: Variant = "teacher_f32"
_CHECKED_ROWS = 512
_LATENCY_RUNS = 3000


def build_ladder(
    frame_dir: Path,
    teacher_dir: Path,
    recipe: Recipe,
    out: Path,
    progress: LinePrinter | None = None,
    target: TargetKind = BINARY,
) -> None:
    """
    Build the recipe's variants and score the tune and test rows with each.

    Args:
        frame_dir: holds the frame that the teacher was trained on.
        teacher_dir: what ``train_teacher`` wrote.
        recipe: names the family, the variants and the student's size.
        out: gets a folder for each variant with what serves it (``sluice.models.runtime.FORMATS`` names the model's
            file, ``encoder.json`` is beside it), ``ladder.json`` and ``scores.parquet`` (example_id, split, a column
            of predictions for each variant).
        progress: called with one line a variant; by default the line goes to standard output.
        target: what the labels are.

    Raises:
        BadArtifact: the teacher's files are damaged, or a conversion went wrong.
        BadInput: the recipe does not fit the frame.
    """
    encoder = read_teacher(teacher_dir, recipe)
    frame = prepared_frame(frame_dir, recipe, target)
    own = EncodedRows(encoder, encoded_splits(frame, encoder, target))
    objective = objective_of(target, own.splits["train"].y)
    teacher = family_of(recipe).restore(teacher_dir, recipe, encoder, objective)
    with whole_directory(out) as directory, TemporaryDirectory() as scratch:
        students = partial(_for_networks, frame, frame_dir, recipe, own, target)
        models = _Builder(teacher, own, students, recipe, objective, Path(scratch))
        rungs, scores = [], _rows(own.splits)
        for name in recipe.variants:
            file, rows = models.variant(name)
            _write_variant(directory / name, file, rows.encoder)
            scorer = FORMATS[file.format].load(file.data)
            scores = scores.with_columns(prediction_column(name, target.link(_raw(scorer, rows.splits))))
            rungs.append(_rung(name, file, scorer, rows.splits["tune"]))
            (progress or print_line)(_line(rungs[-1]))
        scores.write_parquet(directory / "scores.parquet")
        write_json(directory / "ladder.json", rungs)


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """The splits of a frame, and how they were encoded."""

    encoder: Encoder
    splits: Mapping[str, EncodedSplit]


def _for_networks(
    frame: pl.DataFrame, frame_dir: Path, recipe: Recipe, own: EncodedRows, target: TargetKind
) -> EncodedRows:
    """The teacher's own rows where a network takes them, else the same rows encoded for one."""
    if own.encoder.dense:
        return own
    encoder = fit_encoder(frame.filter(split="train"), reduced_manifest(frame_dir, recipe))
    return EncodedRows(encoder, encoded_splits(frame, encoder, target))


def _write_variant(directory: Path, file: ModelFile, encoder: Encoder) -> None:
    directory.mkdir()
    write_json(directory / ENCODER, encoder.model_dump(mode="json"))
    for name, data in {FORMATS[file.format].file: file.data, **file.beside}.items():
        (directory / name).write_bytes(data)


class _Builder:
    """Makes variants; the distilled student is made once and lent to all that need it."""

    def __init__(
        self,
        teacher: Teacher,
        own: EncodedRows,
        students: Callable[[], EncodedRows],
        recipe: Recipe,
        objective: Objective,
        scratch: Path,
    ) -> None:
        self._teacher, self._own, self._make_rows = teacher, own, students
        self._recipe, self._objective = recipe, objective
        self._weights = scratch / "student.weights.h5"

    def variant(self, name: Variant) -> tuple[ModelFile, EncodedRows]:
        """What serves a variant, and the rows as it takes them."""
        if name == TEACHER:
            return self._teacher.model_file(_check_rows(self._own), name), self._own
        make: Mapping[str, Callable[[], tuple[bytes, Any]]] = {
            "student_f32": lambda: (self._student[1], self._student[0]),
            "student_int8": lambda: (quantize_weights(self._student[1]), self._student[0]),
            "student_pruned_int8": self._prune,
            "student_qat_int8": self._quantize_aware,
        }
        data, model = make[name]()
        return ModelFile("litert", data, model.count_params(), kernel_sparsity(model)), self._students

    @cached_property
    def _students(self) -> EncodedRows:
        return self._make_rows()

    @cached_property
    def _lessons(self) -> Lessons:
        train = self._students.splits["train"]
        taught = self._objective.lessons(train.y, self._teacher.raw(self._own.splits["train"].x))
        return Lessons(train.x, taught, self._objective)

    @cached_property
    def _student(self) -> tuple[Any, bytes]:
        model = distil(start_tensorflow(self._recipe.seed), self._lessons, self._recipe)
        model.save_weights(self._weights)
        self._lessons.finish(model)
        return model, self._export(model, "student_f32")

    def _prune(self) -> tuple[bytes, Any]:
        _ = self._student
        model = pruned_student(self._weights, self._lessons, self._recipe)
        return quantize_weights(self._export(model, "student_pruned_int8")), model

    def _quantize_aware(self) -> tuple[bytes, Any]:
        student = self._student[0]
        model = quantization_aware_student(self._weights, self._lessons, self._recipe)
        return self._export(model, "student_qat_int8", int8=True), student

    def _export(self, model: Any, name: str, *, int8: bool = False) -> bytes:
        return export_litert(model, _check_rows(self._students), name, self._objective, int8=int8)


def _check_rows(rows: EncodedRows) -> Floats32:
    """Rows of train, evenly spread, that a file is compared with its model on."""
    x = rows.splits["train"].x
    return x[:: max(1, len(x) // _CHECKED_ROWS)]


def _rows(splits: Mapping[str, EncodedSplit]) -> pl.DataFrame:
    return pl.concat(
        pl.DataFrame({"example_id": splits[name].ids}).with_columns(split=pl.lit(name)) for name in ("tune", "test")
    )


def _raw(scorer: Scorer, splits: Mapping[str, EncodedSplit]) -> Floats:
    return np.concatenate([scorer.raw(splits[name].x) for name in ("tune", "test")])


def _rung(name: str, file: ModelFile, scorer: Scorer, rows: EncodedSplit) -> dict[str, Any]:
    p50, p99 = scorer.latency(rows.x, _LATENCY_RUNS)
    return {
        "name": name,
        "format": file.format,
        "parameters": file.parameters,
        "sparsity": round(file.sparsity, 4),
        "bytes": len(file.data),
        "gzip_bytes": len(gzip.compress(file.data, 9, mtime=0)),
        "latency_p50_us": round(p50, 2),
        "latency_p99_us": round(p99, 2),
    }


def _line(rung: Mapping[str, Any]) -> str:
    return (
        f"{rung['name']:<20} {rung['parameters']:>8,} parameters  {rung['bytes']:>9,} bytes "
        f"({rung['gzip_bytes']:,} gzipped)  p50 {rung['latency_p50_us']:.1f} us"
    )
