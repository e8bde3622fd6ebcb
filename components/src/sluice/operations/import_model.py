"""
A model that was trained elsewhere → a candidate: a bundle with its evaluation, as a pipeline's run makes it.

The model's file becomes LiteRT or ONNX, its columns are the task's features as a spec says, and it is evaluated on the
task's holdout. Nothing is written before all of that has passed.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sluice.arrays import Floats32
from sluice.content import canonical_json, digest_of_bytes, digest_of_file, digest_of_value, write_json
from sluice.documents.evaluation import Evaluation
from sluice.errors import BadArtifact, BadInput
from sluice.evaluation.bundle import evaluate_bundle
from sluice.evaluation.card import card_html, card_json
from sluice.evaluation.holdout import read_holdout
from sluice.features.manifest import Feature, FeatureManifest
from sluice.models.bundle import Bundle, BundleManifest, Provenance, feature_profiles, load_bundle, write_bundle
from sluice.models.codes import CategoryCode, FeatureCode, RawCode, input_code
from sluice.models.encoder import Encoder
from sluice.models.foreign.kinds import ForeignModel, read_source
from sluice.models.foreign.onnx_answer import GraphAnswer
from sluice.models.runtime import FORMATS, FormatName
from sluice.models.trees.ensemble import TreeEnsemble, joined
from sluice.models.trees.export import export_trees
from sluice.models.trees.lightgbm_text import read_lightgbm
from sluice.models.trees.xgboost_json import read_xgboost
from sluice.operations.import_checks import check_objective, check_said_elsewhere
from sluice.operations.import_spec import VARIANT, ImportSpec, answer_of
from sluice.operations.import_trial import ModelTrial, check_answers, check_word, conversion_trial, model_trial
from sluice.targets.kind import TargetKind
from sluice.targets.link import LINKS, link_of
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import Task
from sluice.training.frame import frame_manifest, prepared_frame, reduced_manifest
from sluice.workspace import bundle_directory

EVALUATION = "evaluation.json"
LIBRARY_FILE = "trees.json"
"""The model of trees as its own library wrote it, beside the one that is served: to explain it, read by no server."""


@dataclass(frozen=True)
class ServedModel:
    """
    What a bundle is made of.

    Attributes:
        format, trial: the model's file, and what it said of the holdout.
        beside: further files of the bundle.
        names: what its own library calls its columns, or empty.
    """

    format: FormatName
    trial: ModelTrial
    beside: Mapping[str, bytes]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Import:
    """A candidate that was written: where, what it is, and what it is worth."""

    bundle: Path
    digest: str
    kind: str
    evaluation: Evaluation


def import_model(
    task: Task,
    model: Path,
    spec: ImportSpec,
    frame: Path,
    out: Path,
    answers: Path | None = None,
    production: Bundle | None = None,
) -> Import:
    """
    Write the bundle of a model, and its evaluation on the holdout, into ``out``.

    Args:
        model: a file, the folder of a SavedModel, or one of models of trees, a column each.
        frame: directory of the features step.
        answers: Parquet of what the model said where it was trained, ``example_id`` and ``score`` (a prediction), for
            any rows of the frame; every one of them must come out again.
        production: the bundle that serves where it is going to be proposed, to be evaluated beside it. The model's own
            bundle is the same whatever that is.

    Raises:
        BadInput, BadArtifact: the model, the spec or the frame breaks its contract, or they do not fit together.
    """
    source, answer = read_source(model), answer_of(spec, task.target)
    recipe = Recipe(name=spec.name, description=f"imported: {source.kind}", features=_features(frame, spec))
    features = reduced_manifest(frame, recipe)
    encoder = _encoder(features, spec)
    candidate = _served_model(source, spec, answer, task.target, _holdout_rows(task, frame, encoder))
    _check_columns(candidate, task.target, encoder, spec)
    check_answers(model, task.target, answer.inverse, candidate.trial)
    if not spec.answers and not candidate.beside:
        check_word(model, task.target, candidate.trial)
    manifest = _manifest(task, candidate, recipe, features, encoder, frame, source)
    with tempfile.TemporaryDirectory() as scratch:
        first = _bundle_in(Path(scratch), manifest, candidate.beside, candidate)
        if answers:
            check_said_elsewhere(first, frame, answers)
        evaluation = evaluate_bundle(task, frame, first, production, own_threshold=False)
    _check_measured(evaluation, model)
    card = card_json(task, recipe, evaluation, (), manifest.provenance.model_dump(mode="json"))
    files = {**candidate.beside, "card.json": canonical_json(card), "card.html": card_html(card).encode()}
    final = manifest.model_copy(update={"threshold": evaluation.threshold})
    bundle = _bundle_in(out, final, files, candidate)
    write_json(out / EVALUATION, evaluation.model_dump(mode="json"))
    return Import(bundle.directory, bundle.digest, source.kind, evaluation)


def _holdout_rows(task: Task, frame: Path, encoder: Encoder) -> Floats32:
    """Every row that the model is going to be judged on, as it will be asked."""
    names = [code.name for code in encoder.columns]
    parts = [read_holdout(frame, split, names, task.target).frame for split in ("tune", "test")]
    return np.concatenate([encoder.encode(part.select(names)) for part in parts])


def _served_model(
    source: ForeignModel, spec: ImportSpec, answer: GraphAnswer, target: TargetKind, rows: Floats32
) -> ServedModel:
    if source.kind != "onnx" and spec.output:
        raise BadInput("output", f"is of ONNX models, this one is {source.kind}", "leave it out of the spec")
    if source.kind in ("keras", "savedmodel"):
        return ServedModel("litert", conversion_trial(source, answer, spec.missing, rows), {})
    if spec.missing is not None:
        rule = f"is of models that are converted (.keras, SavedModel), this one is {source.kind}"
        raise BadInput("missing", rule, "fill gaps inside the model, or in a feature")
    if source.kind == "onnx":
        return ServedModel("onnx", model_trial(source.path, source.data, "onnx", answer, rows), {})
    if source.kind == "litert":
        if not answer.plain:
            raw = LINKS[link_of(target)].raw
            rule = f"answers raw outputs ({raw}) in the target's order as it is served; its file is not rewritten"
            raise BadInput(str(source.path), rule, f"convert it again with a {raw} as its output")
        return ServedModel("litert", model_trial(source.path, source.data, "litert", answer, rows), {})
    return _trees(source, answer, target, rows)


def _trees(source: ForeignModel, answer: GraphAnswer, target: TargetKind, rows: Floats32) -> ServedModel:
    ensemble = joined([_ensemble(part) for part in source.parts or (source,)])
    if answer.inverse or answer.output or (answer.columns and not answer.of):
        rule = f"of trees are always their raw outputs, here a {LINKS[ensemble.link].raw}"
        raise BadInput("the answers", rule, "leave answers, output and column out of the spec")
    if len(source.parts) > 1 and not (ensemble.quantiles or answer.of):
        files = ", ".join(part.path.name for part in source.parts)
        rule = f"are its files by name ({files[:160]}), of nobody knows what"
        raise BadInput(f"{source.path}: its columns", rule, "say in `columns` of the spec what each is of")
    check_objective(source.path, ensemble, target)
    exponential = ensemble.link == "exponential" and link_of(target) != "exponential"
    data = export_trees(ensemble, exponential=exponential)
    trial = model_trial(source.path, data, "onnx", answer, rows)
    return ServedModel("onnx", trial, {LIBRARY_FILE: _inert(source)}, _own_names(ensemble))


def _ensemble(source: ForeignModel) -> TreeEnsemble:
    return read_xgboost(source.data) if source.kind == "xgboost" else read_lightgbm(source.data)


def _inert(source: ForeignModel) -> bytes:
    """The library's own document, as JSON; of several by the names of their files."""
    if source.parts:
        return canonical_json({part.path.name: json.loads(_inert(part)) for part in source.parts})
    text = source.data.decode("utf-8")
    return source.data if text.lstrip().startswith("{") else canonical_json({"lightgbm": text})


def _own_names(ensemble: TreeEnsemble) -> tuple[str, ...]:
    """Names that somebody gave to the columns; not those that a library makes up by their number."""
    made_up = all(re.fullmatch(r"(?:Column_|f)\d+", name) for name in ensemble.names)
    return () if made_up else ensemble.names


def _features(frame: Path, spec: ImportSpec) -> tuple[str, ...]:
    """Names of the features in the order of the model's columns."""
    if spec.inputs:
        return (*spec.inputs, *spec.one_hot)
    everything = frame_manifest(frame)
    numbers = [each.name for each in everything.features if each.dtype != "string"]
    strings = [each.name for each in everything.features if each.dtype == "string"]
    if strings and not spec.one_hot:
        rule = f"of the task is text ({', '.join(strings)[:120]}), and a model takes numbers"
        raise BadInput(f"feature {strings[0]!r}", rule, "name the model's inputs in a --spec, texts under one_hot")
    return (*numbers, *spec.one_hot)


def _encoder(features: FeatureManifest, spec: ImportSpec) -> Encoder:
    for each in features.features:
        if (each.dtype == "string") != (each.name in spec.one_hot):
            what = "text, and is named as a number" if each.dtype == "string" else f"{each.dtype}, and is under one_hot"
            raise BadInput(f"feature {each.name!r}", f"is {what}", "put texts under one_hot, numbers under inputs")
    for name, values in spec.one_hot.items():
        if not values or len(set(values)) != len(values):
            raise BadInput(f"one_hot.{name}", "has no value, or one twice", "list the values of the model's columns")
    return Encoder(columns=tuple(_code(each, spec) for each in features.features))


def _code(feature: Feature, spec: ImportSpec) -> FeatureCode:
    if feature.name in spec.one_hot:
        return CategoryCode(name=feature.name, categories=spec.one_hot[feature.name], other=False)
    return input_code(feature) or RawCode(name=feature.name)


def _check_columns(candidate: ServedModel, target: TargetKind, encoder: Encoder, spec: ImportSpec) -> None:
    scorer = FORMATS[candidate.format].load(candidate.trial.data)
    names = ", ".join(code.name for code in encoder.columns)
    if scorer.width != encoder.width:
        rule = f"takes {scorer.width} columns, and the features give {encoder.width} ({names[:160]})"
        raise BadInput("the model", rule, "name its inputs in the order of its columns in a --spec")
    if scorer.outputs != target.outputs:
        due = f"{target.outputs} ({', '.join(target.columns)[:160]})"
        rule = f"answers {scorer.outputs} columns, and a {target.kind} target needs {due}"
        raise BadInput("the model", rule, "choose by output and column of the spec, or train for this target")
    if candidate.names and not spec.one_hot and candidate.names != tuple(code.name for code in encoder.columns):
        rule = f"calls its columns {', '.join(candidate.names)[:120]}, and the features are {names[:120]}"
        raise BadInput("the model", rule, "name its inputs in the order of its columns in a --spec")


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
    train = prepared_frame(frame, recipe, task.target).filter(pl.col("split") == "train")
    record = _record(frame / "frame.json")
    return BundleManifest(
        format=candidate.format,
        task=task.name,
        variant=VARIANT,
        recipe=recipe,
        features=features,
        encoder=encoder,
        target=task.target.model_dump(mode="json"),
        threshold=task.target.unknown_threshold,
        provenance=Provenance(
            data=str(record.get("span", "")),
            frame=str(record.get("digest") or digest_of_file(frame / "frame.parquet")),
            recipe=digest_of_value(recipe.model_dump(mode="json")),
            code=_digest_of(source),
            tables=record.get("tables"),
            window=(task.splits.train.isoformat(), task.splits.tune.isoformat()),
        ),
        profiles=feature_profiles(train, features),
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
    digest = write_bundle(store, manifest, {**beside, manifest.model: candidate.trial.data})
    return load_bundle(bundle_directory(store, digest), digest)
