"""
A model that was trained elsewhere → a candidate: a bundle with its evaluation, as a pipeline's run makes it.

The model's file becomes LiteRT or ONNX, its columns are the task's features as a spec says, and it is evaluated on the
task's holdout. Nothing is written before all of that has passed.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import Field, ValidationError

from sluice.content import canonical_json, digest_of_bytes, digest_of_file, digest_of_value, write_json
from sluice.data.divergence import profile_of
from sluice.documents.evaluation import Evaluation
from sluice.documents.model import FrozenDocument, first_violation
from sluice.errors import BadArtifact, BadInput, one_line
from sluice.evaluation.bundle import evaluate_bundle
from sluice.evaluation.card import card_html, card_json
from sluice.features.manifest import FeatureManifest
from sluice.models.bundle import Bundle, BundleManifest, Provenance, load_bundle, write_bundle
from sluice.models.encoder import CategoryCode, Encoder, RawCode
from sluice.models.foreign.kinds import ForeignModel, read_source
from sluice.models.foreign.onnx_answer import Answers, GraphAnswer, with_answer
from sluice.models.runtime import FORMATS, FormatName, Scorer
from sluice.models.trees.ensemble import TreeEnsemble
from sluice.models.trees.export import TOLERANCE, export_trees
from sluice.models.trees.lightgbm_text import read_lightgbm
from sluice.models.trees.xgboost_json import read_xgboost
from sluice.strict_yaml import read_yaml
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import Task
from sluice.training.frame import prepared_frame, reduced_manifest
from sluice.workspace import bundle_directory

VARIANT = "imported"
EVALUATION = "evaluation.json"
LIBRARY_FILE = "trees.json"
"""The model of trees as its own library wrote it, beside the one that is served: to explain it, read by no server."""
_CONVERSION_S = 1800
_BINARY = ("binary", "binary:logistic", "binary:logitraw", "reg:logistic")
_Text = Annotated[str, Field(min_length=1, max_length=200)]


class ImportSpec(FrozenDocument):
    """
    How a model's columns are made of the task's features, and what its answer means.

    Attributes:
        name: of the candidate.
        inputs: numbers in the order of the model's first columns, as they are: float32, NaN where one is missing.
            Without any, all numbers of the frame in the task's order.
        one_hot: after them, for each of these strings a column a value, 1 where it is that one.
        missing: what the model takes for a missing number; without it NaN, which trees understand and networks do not.
        answers: whether the score is a logit (raw, as trees have it) or a probability.
        output: of an ONNX model with several, the one with the score.
        column: of an output with several columns, the one of the positive class, from 0.
    """

    name: str = Field(default=VARIANT, pattern=r"^[a-z][a-z0-9-]{1,40}$")
    inputs: tuple[_Text, ...] = ()
    one_hot: dict[_Text, tuple[str, ...]] = {}
    missing: float | None = Field(default=None, allow_inf_nan=False)
    answers: Answers = "logit"
    output: str | None = None
    column: int | None = Field(default=None, ge=0, le=10_000)


@dataclass(frozen=True)
class ServedModel:
    """
    What a bundle is made of.

    Attributes:
        format, data: the model's file.
        beside: further files of the bundle.
        names: what its own library calls its columns, or empty.
    """

    format: FormatName
    data: bytes
    beside: Mapping[str, bytes]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Import:
    """A candidate that was written: where, what it is, and what it is worth."""

    bundle: Path
    digest: str
    kind: str
    evaluation: Evaluation


def read_spec(path: Path | None) -> ImportSpec:
    """
    The spec in a YAML file, or one of defaults.

    Raises:
        BadInput: it cannot be read, or a key of it is unknown or wrong.
    """
    if path is None:
        return ImportSpec()
    try:
        document = read_yaml(path.read_bytes())
    except ValueError as error:
        raise BadInput(str(path), str(error), "see docs/import.md") from error
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror})", "name the spec of the import") from error
    try:
        return ImportSpec.model_validate_json(json.dumps({} if document is None else document, default=str))
    except ValidationError as error:
        key, rule, _ = first_violation(error)
        raise BadInput(f"{path}: {key or 'the document'}", rule, "see docs/import.md") from error


def import_model(
    task: Task, model: Path, spec: ImportSpec, frame: Path, out: Path, answers: Path | None = None
) -> Import:
    """
    Write the bundle of a model, and its evaluation on the holdout, into ``out``.

    Args:
        model: a file, or the folder of a SavedModel.
        frame: directory of the features step.
        answers: Parquet of what the model said where it was trained, ``example_id`` and ``score`` (a probability), for
            any rows of the frame; every one of them must come out again.

    Raises:
        BadInput, BadArtifact: the model, the spec or the frame breaks its contract, or they do not fit together.
    """
    source = read_source(model)
    candidate = _served_model(source, spec)
    scorer = FORMATS[candidate.format].load(candidate.data)
    recipe = Recipe(name=spec.name, description=f"imported: {source.kind}", features=_features(frame, spec))
    features = reduced_manifest(frame, recipe)
    encoder = _encoder(features, spec)
    _check_columns(candidate, scorer, encoder, spec)
    manifest = _manifest(task, candidate, recipe, features, encoder, frame, source)
    with tempfile.TemporaryDirectory() as scratch:
        first = _bundle_in(Path(scratch), manifest, candidate.beside, candidate)
        if answers:
            _check_answers(first, frame, answers)
        evaluation = evaluate_bundle(task, frame, first, None, own_threshold=False)
    _check_measured(evaluation, model)
    card = card_json(task, recipe, evaluation, (), manifest.provenance.model_dump(mode="json"))
    files = {**candidate.beside, "card.json": canonical_json(card), "card.html": card_html(card).encode()}
    final = manifest.model_copy(update={"threshold": evaluation.threshold})
    bundle = _bundle_in(out, final, files, candidate)
    write_json(out / EVALUATION, evaluation.model_dump(mode="json"))
    return Import(bundle.directory, bundle.digest, source.kind, evaluation)


def _served_model(source: ForeignModel, spec: ImportSpec) -> ServedModel:
    if source.kind != "onnx" and spec.output:
        raise BadInput("output", f"is of ONNX models, this one is {source.kind}", "leave it out of the spec")
    answer = GraphAnswer(spec.answers, spec.output, spec.column)
    if source.kind in ("keras", "savedmodel"):
        return ServedModel("litert", _converted(source, spec), {})
    if spec.missing is not None:
        rule = f"is of models that are converted (.keras, SavedModel), this one is {source.kind}"
        raise BadInput("missing", rule, "fill gaps inside the model, or in a feature")
    if source.kind == "onnx":
        return ServedModel("onnx", source.data if answer.plain else with_answer(source.data, answer), {})
    if source.kind == "litert":
        if not answer.plain:
            rule = "answers one logit as it is served; its file is not rewritten"
            raise BadInput(str(source.path), rule, "convert it again with a logit as its output")
        return ServedModel("litert", source.data, {})
    return _trees(source, answer)


def _trees(source: ForeignModel, answer: GraphAnswer) -> ServedModel:
    ensemble = read_xgboost(source.data) if source.kind == "xgboost" else read_lightgbm(source.data)
    if not answer.plain:
        rule = "of trees is always their raw output, a logit"
        raise BadInput("the score", rule, "leave answers, output and column out of the spec")
    if ensemble.objective.partition(" ")[0] not in _BINARY:
        rule = f"was trained for {ensemble.objective!r}, and the task's label is binary"
        raise BadInput(str(source.path), rule, f"train for one of {', '.join(_BINARY)}")
    return ServedModel("onnx", export_trees(ensemble), {LIBRARY_FILE: _inert(source)}, _own_names(ensemble))


def _inert(source: ForeignModel) -> bytes:
    """The library's own document, as JSON."""
    text = source.data.decode("utf-8")
    return source.data if text.lstrip().startswith("{") else canonical_json({"lightgbm": text})


def _own_names(ensemble: TreeEnsemble) -> tuple[str, ...]:
    """Names that somebody gave to the columns; not those that a library makes up by their number."""
    made_up = all(re.fullmatch(r"(?:Column_|f)\d+", name) for name in ensemble.names)
    return () if made_up else ensemble.names


def _converted(source: ForeignModel, spec: ImportSpec) -> bytes:
    """In a child: TensorFlow runs what it reads, and this process imports none."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "model.tflite"
        command = [sys.executable, "-m", "sluice.training.conversion", str(source.path), str(out)]
        command += ["--probability"] if spec.answers == "probability" else []
        command += ["--column", str(spec.column)] if spec.column is not None else []
        command += ["--missing", repr(spec.missing)] if spec.missing is not None else []
        try:
            process = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_CONVERSION_S
            )
        except subprocess.TimeoutExpired as error:
            rule = f"is not converted after {_CONVERSION_S} s"
            raise BadArtifact(str(source.path), rule, "export it as ONNX, see docs/import.md") from error
        if process.returncode == 0 and out.is_file():
            return out.read_bytes()
    raise _conversion_refusal(source, process)


def _conversion_refusal(source: ForeignModel, process: subprocess.CompletedProcess[bytes]) -> BadArtifact:
    """What the child said; of one that was ended from outside, how."""
    lines = process.stderr.decode("utf-8", "replace").strip().splitlines()
    if process.returncode == 2 and lines:
        with contextlib.suppress(ValueError, TypeError):
            return BadArtifact(*json.loads(lines[-1]))
    rule = f"cannot be converted: its process ended with {process.returncode}"
    return BadArtifact(str(source.path), rule, "export it as ONNX, see docs/import.md")


def _features(frame: Path, spec: ImportSpec) -> tuple[str, ...]:
    """Names of the features in the order of the model's columns."""
    if spec.inputs:
        return (*spec.inputs, *spec.one_hot)
    everything = _frame_manifest(frame)
    numbers = [each.name for each in everything.features if each.dtype != "string"]
    strings = [each.name for each in everything.features if each.dtype == "string"]
    if strings and not spec.one_hot:
        rule = f"of the task is text ({', '.join(strings)[:120]}), and a model takes numbers"
        raise BadInput(f"feature {strings[0]!r}", rule, "name the model's inputs in a --spec, texts under one_hot")
    return (*numbers, *spec.one_hot)


def _frame_manifest(frame: Path) -> FeatureManifest:
    path = frame / "manifest.json"
    try:
        return FeatureManifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BadInput(str(path), "cannot be read", "name the directory of the features step") from error


def _encoder(features: FeatureManifest, spec: ImportSpec) -> Encoder:
    for each in features.features:
        if (each.dtype == "string") != (each.name in spec.one_hot):
            what = "text, and is named as a number" if each.dtype == "string" else f"{each.dtype}, and is under one_hot"
            raise BadInput(f"feature {each.name!r}", f"is {what}", "put texts under one_hot, numbers under inputs")
    for name, values in spec.one_hot.items():
        if not values or len(set(values)) != len(values):
            raise BadInput(f"one_hot.{name}", "has no value, or one twice", "list the values of the model's columns")
    codes = [
        CategoryCode(name=each.name, categories=spec.one_hot[each.name], other=False)
        if each.name in spec.one_hot
        else RawCode(name=each.name)
        for each in features.features
    ]
    return Encoder(columns=tuple(codes))


def _check_columns(candidate: ServedModel, scorer: Scorer, encoder: Encoder, spec: ImportSpec) -> None:
    names = ", ".join(code.name for code in encoder.columns)
    if scorer.width != encoder.width:
        rule = f"takes {scorer.width} columns, and the features give {encoder.width} ({names[:160]})"
        raise BadInput("the model", rule, "name its inputs in the order of its columns in a --spec")
    if scorer.outputs != 1:
        rule = f"answers {scorer.outputs} columns, and the task's score is one"
        raise BadInput("the model", rule, "name the positive class's in `column` of the spec")
    if candidate.names and not spec.one_hot and candidate.names != tuple(code.name for code in encoder.columns):
        rule = f"calls its columns {', '.join(candidate.names)[:120]}, and the features are {names[:120]}"
        raise BadInput("the model", rule, "name its inputs in the order of its columns in a --spec")


def _check_answers(bundle: Bundle, frame: Path, path: Path) -> None:
    try:
        answers = pl.read_parquet(path).select("example_id", score=pl.col("score").cast(pl.Float64))
    except (OSError, pl.exceptions.PolarsError) as error:
        rule = f"has no example_id and score ({one_line(error, 120)})"
        raise BadInput(str(path), rule, "write what the model said, a row an example") from error
    names = bundle.manifest.features.names
    rows = pl.read_parquet(frame / "frame.parquet", columns=["example_id", *names])
    both = answers.join(rows, on="example_id", how="inner")
    if both.height != answers.height or both.is_empty():
        rule = f"has {answers.height} answers, {both.height} of them to rows of the frame"
        raise BadInput(str(path), rule, "give answers to rows of this frame, each once")
    apart = (pl.Series(bundle.predict(both.select(names))) - both["score"]).abs()
    worst = apart.fill_null(math.inf).fill_nan(math.inf).arg_max() or 0
    if not apart[worst] <= TOLERANCE:
        score, row = both["score"][worst], both["example_id"][worst]
        rule = f"was said to answer {score} to {row!r}, and is {apart[worst]:.2g} apart"
        raise BadArtifact("the model", rule, "check the order of its inputs, and what its answer means, in the --spec")


def _check_measured(evaluation: Evaluation, model: Path) -> None:
    if not evaluation.metrics:
        rule = next(iter(evaluation.problems), "has no metric on the holdout").rstrip(".")
        fix = "does it take NaN for a missing number? see `missing` in docs/import.md"
        raise BadArtifact(str(model), f"cannot be evaluated: {rule}", fix)


def _manifest(
    task: Task,
    candidate: ServedModel,
    recipe: Recipe,
    features: FeatureManifest,
    encoder: Encoder,
    frame: Path,
    source: ForeignModel,
) -> BundleManifest:
    """With a threshold to begin with; the evaluation finds the one that serves, on split tune."""
    train = prepared_frame(frame, recipe).filter(pl.col("split") == "train")
    record = _record(frame / "frame.json")
    return BundleManifest(
        format=candidate.format,
        task=task.name,
        variant=VARIANT,
        recipe=recipe,
        features=features,
        encoder=encoder,
        threshold=0.5,
        provenance=Provenance(
            data=str(record.get("span", "")),
            frame=str(record.get("digest") or digest_of_file(frame / "frame.parquet")),
            recipe=digest_of_value(recipe.model_dump(mode="json")),
            code=_digest_of(source),
            tables=record.get("tables"),
            window=(task.splits.train.isoformat(), task.splits.tune.isoformat()),
        ),
        profiles={name: profile_of(train[name]) for name in features.names},
    )


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadInput(str(path), "cannot be read", "name the directory of the features step") from error
    return record if isinstance(record, dict) else {}


def _digest_of(source: ForeignModel) -> str:
    """Of what was given: no code of ours made it."""
    if source.data:
        return digest_of_bytes(source.data)
    files = sorted(each for each in source.path.rglob("*") if each.is_file())
    return digest_of_value({str(each.relative_to(source.path)): digest_of_file(each) for each in files})


def _bundle_in(store: Path, manifest: BundleManifest, beside: Mapping[str, bytes], candidate: ServedModel) -> Bundle:
    digest = write_bundle(store, manifest, {**beside, manifest.model: candidate.data})
    return load_bundle(bundle_directory(store, digest), digest)
