"""What a family of models has to do: check its settings, encode, train, and give back what it trained."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import polars as pl
from pydantic import BaseModel, ValidationError

from sluice.arrays import Floats, Floats32
from sluice.documents.model import first_violation
from sluice.errors import BadArtifact, BadInput, one_line
from sluice.features.manifest import FeatureManifest
from sluice.models.encoder import Encoder
from sluice.models.runtime import FormatName
from sluice.tasks.recipe import Recipe
from sluice.training.curve import LinePrinter
from sluice.training.frame import EncodedSplit
from sluice.training.objective import Objective
from sluice.training.setup import TrainingRecord, TrainingSetup

ENCODER, SPEC = "encoder.json", "spec.json"
_Declared = TypeVar("_Declared", bound=BaseModel)


@dataclass(frozen=True, eq=False)
class ModelFile:
    """
    A model as it serves.

    Attributes:
        format: names the runtime.
        data: the file.
        parameters: numbers that were learned.
        sparsity: share of zeros among the weights of kernels.
        beside: other inert files of its bundle, by name; they explain, and nothing that serves reads them.
    """

    format: FormatName
    data: bytes
    parameters: int
    sparsity: float = 0.0
    beside: Mapping[str, bytes] = field(default_factory=dict)


class Teacher(Protocol):
    """A trained model that students learn from, and that may ship itself."""

    def raw(self, x: Floats32) -> Floats:
        """Raw outputs of encoded rows, float64, shape (n, outputs)."""

    def model_file(self, rows: Floats32, name: str) -> ModelFile:
        """
        Itself as a file, compared with itself on ``rows``, float32, shape (n, width); ``name`` is how messages call it.

        Raises BadArtifact where the file answers otherwise.
        """


class Family(ABC):
    """One kind of model."""

    @abstractmethod
    def check(self, recipe: Recipe, setup: TrainingSetup) -> None:
        """Raise BadInput where the recipe's settings, or how it is to be trained, are not for this family."""

    @abstractmethod
    def fit_encoder(self, train: pl.DataFrame, manifest: FeatureManifest) -> Encoder:
        """How rows become the model's input, learned from split train."""

    @abstractmethod
    def train(
        self,
        splits: Mapping[str, EncodedSplit],
        encoder: Encoder,
        recipe: Recipe,
        objective: Objective,
        progress: LinePrinter,
        setup: TrainingSetup,
        out: Path | None,
    ) -> TrainingRecord:
        """
        Train, and write what ``restore`` reads into ``out``; a process that is not the chief has none.

        Raises:
            BadInput: something does not fit; before anything is trained.
        """

    @abstractmethod
    def restore(self, directory: Path, recipe: Recipe, encoder: Encoder, objective: Objective) -> Teacher:
        """The model that ``train`` wrote; raises BadArtifact where the files are not what it wrote."""


def require_one_go(recipe: Recipe, setup: TrainingSetup, instead: str) -> None:
    """
    Refuse what a family cannot do that is trained in one go on one device; ``instead`` follows "train it on".

    Raises:
        BadInput: another precision, several devices or checkpoints are asked for.
    """
    thing = f"recipe {recipe.name!r}: family {recipe.family!r}"
    if recipe.precision != "float32":
        raise BadInput(thing, f"cannot compute in {recipe.precision}", "leave the precision at float32")
    if setup.distribution.kind != "single":
        rule = f"cannot be trained by distribution {setup.distribution.kind!r}"
        raise BadInput(thing, rule, f"train it on {instead}")
    if setup.checkpoints:
        raise BadInput(thing, "keeps no checkpoints", "leave them empty: a retry trains from the start")


def settings_of(kind: type[_Declared], recipe: Recipe) -> _Declared:
    """
    The recipe's settings as a family declares them.

    Raises:
        BadInput: names the first one that is unknown or out of range.
    """
    try:
        return kind.model_validate(recipe.settings)
    except ValidationError as error:
        key, rule, value = first_violation(error)
        known = ", ".join(kind.model_fields) or "none"
        thing = f"recipe {recipe.name!r}: setting {key!r} of family {recipe.family!r}"
        raise BadInput(thing, f"{rule}, got {value!r}"[:200], f"it has {known}") from error


def read_teacher(directory: Path, recipe: Recipe) -> Encoder:
    """
    The encoder beside a trained model of the recipe's family.

    Raises:
        BadArtifact: the files are not what training wrote, or are of another family.
    """
    try:
        encoder = Encoder.model_validate_json((directory / ENCODER).read_bytes())
        spec: dict[str, Any] = dict(json.loads((directory / SPEC).read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        rule = f"is not what training wrote ({one_line(error)})"
        raise BadArtifact(str(directory), rule, "train the teacher again") from error
    for key, due in (("width", encoder.width), ("family", recipe.family)):
        if spec.get(key) != due:
            rule = f"{SPEC} says {key} {spec.get(key)!r}, the encoder and the recipe {due!r}"
            raise BadArtifact(str(directory), rule, "train the teacher again")
    return encoder
