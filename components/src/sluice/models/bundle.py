"""
Content-addressed bundles: everything that serving needs, in one directory whose name is its digest.

    sha256-<hex>/
        bundle.json     the manifest, canonical JSON; its digest is the bundle's
        model.tflite    or model.onnx, as the manifest's format says, and other files, each with its digest there

A bundle holds data only (LiteRT or ONNX, JSON, HTML): nothing that runs when it is loaded.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, Self

import polars as pl
from pydantic import Field, ValidationError, field_validator, model_validator

from sluice.arrays import Floats
from sluice.content import canonical_json, digest_of_bytes
from sluice.data.divergence import FeatureProfile, profile_of
from sluice.documents.model import FiniteDocument, FrozenDocument, first_violation
from sluice.errors import BadArtifact, BadInput
from sluice.features.manifest import FeatureManifest
from sluice.models.encoder import Columns, Encoder
from sluice.models.runtime import FORMATS, FormatName, Scorer
from sluice.targets.kind import TargetKind
from sluice.targets.registry import BINARY, target_of
from sluice.tasks.recipe import Recipe
from sluice.workspace import bundle_directory

MANIFEST = "bundle.json"
MODEL = FORMATS["litert"].file
ALLOWED = frozenset({".tflite", ".onnx", ".json", ".html"})
"""Kinds of files that a bundle may hold: none of them can run code when it is read."""

_BINARY = BINARY.model_dump(mode="json")


class Provenance(FrozenDocument):
    """Where a model comes from: digests of what went into it, and the window of event time that it learned from."""

    data: str
    frame: str
    recipe: str
    code: str
    tables: str | None = Field(default=None, exclude_if=lambda code: code is None)
    """Of the code that built the feature tables of the frame; bundles of before do not say."""
    window: tuple[str, str]


class BundleManifest(FiniteDocument):
    """What ``bundle.json`` says. It holds no clock times and no latencies: equal inputs give equal digests."""

    format: FormatName = "litert"
    task: str
    variant: str
    recipe: Recipe
    features: FeatureManifest
    encoder: Encoder
    target: dict[str, Any] = Field(default=_BINARY, exclude_if=lambda value: value == _BINARY)
    """What it predicts, as a document of ``sluice.targets``; absent where that is binary."""
    threshold: float | None = Field(default=None, ge=0, le=1, exclude_if=lambda value: value is None)
    """Probabilities at or above it count as positive; absent where the target has none."""
    provenance: Provenance
    profiles: dict[str, FeatureProfile]
    """Distribution of each feature on the train split."""
    files: dict[str, str] = {}
    """Digest (``sha256:…``) of every file beside the manifest."""

    @field_validator("files")
    @classmethod
    def _inert(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            _check_name(name)
        return files

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        try:
            target = self.kind
        except BadInput as error:
            raise ValueError(str(error)) from error
        if (self.threshold is None) != (target.unknown_threshold is None):
            has = "needs a threshold" if self.threshold is None else "has no threshold"
            raise ValueError(f"a {target.kind} target {has}")
        return self

    @property
    def kind(self) -> TargetKind:
        """The target."""
        return target_of(self.target)

    @property
    def model(self) -> str:
        """Name of the model's file."""
        return FORMATS[self.format].file


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle; the model's bytes are those that were verified, not read again."""

    manifest: BundleManifest
    digest: str
    directory: Path
    files: Mapping[str, bytes]

    @cached_property
    def _scorer(self) -> Scorer:
        scorer = FORMATS[self.manifest.format].load(self.files[self.manifest.model])
        if scorer.width != self.manifest.encoder.width:
            rule = f"takes {scorer.width} columns, the encoder gives {self.manifest.encoder.width}"
            raise BadArtifact(str(self.directory / self.manifest.model), rule, "build the bundle again")
        if scorer.outputs != self.target.outputs:
            rule = f"has {scorer.outputs} outputs, its target ({self.target.kind}) needs {self.target.outputs}"
            raise BadArtifact(str(self.directory / self.manifest.model), rule, "build the bundle again")
        return scorer

    @cached_property
    def target(self) -> TargetKind:
        """What it predicts."""
        return self.manifest.kind

    def scorer(self) -> Scorer:
        """The model, ready to score; made once."""
        return self._scorer

    def predict(self, columns: Columns) -> Floats:
        """
        Predictions for rows given as feature columns, float64: shape (rows,) where a prediction is one number, else
        (rows, numbers) in the order of ``target.columns``.
        """
        predictions = self.target.link(self._scorer.raw(self.manifest.encoder.encode(columns)))
        return predictions[:, 0] if predictions.shape[1] == 1 else predictions


def feature_profiles(train: pl.DataFrame, features: FeatureManifest) -> dict[str, FeatureProfile]:
    """What a bundle says of the rows that it learned from: of images and texts, what they are like."""
    described = (each for feature in features.features for each in feature.kind.described(train[feature.name]))
    return {values.name: profile_of(values) for values in described}


def write_bundle(store: Path, manifest: BundleManifest, files: Mapping[str, bytes]) -> str:
    """
    Write a bundle into ``store``; one that is already there is verified and kept.

    Args:
        store: the directory that holds bundles.
        manifest: without ``files``; they are filled in here.
        files: contents by name; the model's (``manifest.model``) is one of them, and the only one of a model.

    Returns:
        The bundle's digest.

    Raises:
        BadArtifact: no model, a file of a kind that is not allowed, or a damaged bundle of this digest in the store.
    """
    if manifest.model not in files:
        raise BadArtifact("bundle", f"has no {manifest.model}", "add the exported model")
    for name in files:
        _checked_name(name)
    sealed = manifest.model_copy(update={"files": {name: digest_of_bytes(data) for name, data in files.items()}})
    document = canonical_json(sealed.model_dump(mode="json"))
    digest = digest_of_bytes(document)
    target = bundle_directory(store, digest)
    if not target.exists():
        _write_directory(target, {**files, MANIFEST: document})
    load_bundle(target, digest)
    return digest


def load_bundle(directory: Path, digest: str | None = None) -> Bundle:
    """
    Read and verify a bundle.

    Args:
        directory: where its files are.
        digest: what it must be; without it a directory called ``sha256-<hex>`` must be what its name says.

    Raises:
        BadArtifact: names the first file that is absent, extra, changed, of an unknown format, or not of the digest.
    """
    names = _file_names(directory)
    document = _read(directory / MANIFEST)
    actual = digest_of_bytes(document)
    expected = digest or (directory.name.replace("-", ":", 1) if directory.name.startswith("sha256-") else actual)
    if actual != expected:
        _refuse(directory / MANIFEST, f"has digest {actual}, expected {expected}")
    manifest = parse_manifest(directory / MANIFEST, document)
    if canonical_json(manifest.model_dump(mode="json")) != document:
        _refuse(directory / MANIFEST, "is not the canonical form of what it says")
    _check_listing(directory, names, manifest)
    files = {name: _read(directory / name) for name in sorted(manifest.files)}
    for name, data in files.items():
        if digest_of_bytes(data) != manifest.files[name]:
            _refuse(directory / name, f"has digest {digest_of_bytes(data)}, the manifest says {manifest.files[name]}")
    return Bundle(manifest, actual, directory, files)


def _check_name(name: str) -> None:
    if Path(name).name != name or name.startswith(".") or name == MANIFEST:
        raise ValueError(f"file {name!r} is not a plain name")
    if Path(name).suffix not in ALLOWED:
        raise ValueError(f"file {name!r} is not of an allowed kind ({', '.join(sorted(ALLOWED))})")


def _checked_name(name: str) -> None:
    try:
        _check_name(name)
    except ValueError as error:
        raise BadArtifact(f"bundle: {error}", "bundles hold inert files only", "leave the file out") from error


def _write_directory(target: Path, files: Mapping[str, bytes]) -> None:
    """The whole directory or none: written beside, flushed to disk, renamed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".bundle-", dir=target.parent))
    try:
        for name, data in files.items():
            with (beside / name).open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        beside.chmod(0o755)
        try:
            beside.rename(target)
        except OSError:
            if not target.exists():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _file_names(directory: Path) -> set[str]:
    try:
        return {entry.name for entry in directory.iterdir()}
    except OSError as error:
        raise BadArtifact(str(directory), f"cannot be read ({error.strerror})", "name a bundle directory") from error


def _check_listing(directory: Path, names: set[str], manifest: BundleManifest) -> None:
    due = {*manifest.files, MANIFEST}
    for name in sorted(names - due):
        _refuse(directory / name, "is not in the manifest")
    for name in sorted(due - names):
        _refuse(directory / name, "is in the manifest but missing")
    if manifest.model not in manifest.files:
        _refuse(directory / manifest.model, "is not in the manifest: a bundle needs a model")


def _read(path: Path) -> bytes:
    if path.is_symlink() or not path.is_file():
        _refuse(path, "is not a plain file" if path.exists() else "is missing")
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadArtifact(str(path), f"cannot be read ({error.strerror})", "fetch the bundle again") from error


def parse_manifest(path: Path, document: bytes) -> BundleManifest:
    """
    The manifest in the bytes of a ``bundle.json``; ``path`` is how messages call it.

    Raises:
        BadArtifact: not JSON, not a manifest, or of an unknown format.
    """
    try:
        value: Any = json.loads(document)
        if isinstance(value, dict) and value.get("format") not in FORMATS:
            _refuse(path, f"has unknown format {value.get('format')!r}, none of {', '.join(FORMATS)}")
        return BundleManifest.model_validate_json(document)
    except ValidationError as error:
        key, rule, _ = first_violation(error)
        raise BadArtifact(f"{path}: {key or 'the document'}", rule, "build the bundle again") from error
    except (ValueError, RecursionError) as error:
        raise BadArtifact(str(path), f"is not JSON ({error})", "fetch the bundle again") from error


def _refuse(path: Path, rule: str) -> NoReturn:
    raise BadArtifact(str(path), rule, "fetch the bundle again or build a new one")
