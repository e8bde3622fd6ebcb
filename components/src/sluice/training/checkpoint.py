"""What a stopped training goes on from: one file, whole or absent, in a folder or in object storage."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sluice.content import canonical_json, digest_of_bytes, digest_of_value
from sluice.errors import BadArtifact, BadInput, one_line
from sluice.object_store import NoSuchObject, open_location
from sluice.tasks.recipe import Recipe
from sluice.training.curve import Epoch
from sluice.training.frame import EncodedSplit

_NAME = "checkpoint.npz"
_GROUPS = ("weights", "optimizer", "best")

Arrays = list[npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """
    A training between two steps.

    Attributes:
        identity: digest of the recipe and the rows; see ``identity_of``.
        step: optimizer steps that were taken; with the seed, this is the position in the data.
        weights: the model's weights now.
        optimizer: the optimizer's variables.
        best: the weights of the best epoch so far; empty before the first ended.
        best_epoch: its number, from 1; 0 before.
        history: the learning curve so far.
    """

    identity: str
    step: int
    weights: Arrays
    optimizer: Arrays
    best: Arrays
    best_epoch: int
    history: tuple[Epoch, ...]


def identity_of(recipe: Recipe, train: EncodedSplit) -> str:
    """What a checkpoint belongs to: the recipe and the encoded train rows, in their order."""
    rows = [digest_of_bytes(np.ascontiguousarray(part).tobytes()) for part in (train.x, train.y)]
    return digest_of_value({"recipe": recipe.model_dump(mode="json"), "rows": rows})


class CheckpointStore:
    """
    The newest checkpoint of one training, below a folder or a URL (``s3://``, ``gs://``, ``abfs://``); endpoint and
    credentials are the environment's, as of ``sluice.object_store``.

    Raises:
        BadInput: the URL or the environment's settings are wrong.
    """

    def __init__(self, url: str) -> None:
        self._location = open_location(url) / _NAME

    def __str__(self) -> str:
        return str(self._location)

    def read(self, identity: str) -> Checkpoint | None:
        """
        The checkpoint, or None where there is none yet.

        Raises:
            BadArtifact: the file is damaged.
            BadInput: it belongs to another recipe or other rows.
            Unavailable: the storage cannot be read.
        """
        try:
            data = self._location.read()
        except NoSuchObject:
            return None
        try:
            checkpoint = _unpack(data)
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            reason = one_line(error)
            raise BadArtifact(str(self), f"cannot be read ({reason})", "delete it to train from the start") from error
        if checkpoint.identity != identity:
            rule = "belongs to another recipe or other rows"
            raise BadInput(str(self), rule, "give every training a place of its own, or delete it")
        return checkpoint

    def write(self, checkpoint: Checkpoint) -> None:
        """
        Replace the checkpoint.

        Raises:
            Unavailable: the storage cannot be written.
        """
        self._location.write(_pack(checkpoint))

    def forget(self) -> None:
        """
        Remove the checkpoint: its training is over.

        Raises:
            Unavailable: the storage lets nothing be removed.
        """
        with contextlib.suppress(NoSuchObject):
            self._location.delete()


def _pack(checkpoint: Checkpoint) -> bytes:
    arrays = {f"{group}_{index}": array for group in _GROUPS for index, array in enumerate(getattr(checkpoint, group))}
    about = {
        "identity": checkpoint.identity,
        "step": checkpoint.step,
        "best_epoch": checkpoint.best_epoch,
        "history": [epoch.model_dump(mode="json") for epoch in checkpoint.history],
    }
    stream = io.BytesIO()
    np.savez(stream, about=np.frombuffer(canonical_json(about), np.uint8), **arrays)
    return stream.getvalue()


def _unpack(data: bytes) -> Checkpoint:
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        about = json.loads(stored["about"].tobytes())
        weights, optimizer, best = (_group(stored, group) for group in _GROUPS)
    history = tuple(Epoch.model_validate(epoch) for epoch in about["history"])
    return Checkpoint(about["identity"], about["step"], weights, optimizer, best, about["best_epoch"], history)


def _group(stored: Any, group: str) -> Arrays:
    count = sum(name.startswith(f"{group}_") for name in stored.files)
    return [stored[f"{group}_{index}"] for index in range(count)]
