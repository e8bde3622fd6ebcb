"""Checkpoints: whole or absent, of one training, in a folder or in object storage."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from sluice.errors import BadArtifact, BadInput, Unavailable
from sluice.tasks.recipe import Recipe
from sluice.training.checkpoint import Checkpoint, CheckpointStore, identity_of
from sluice.training.curve import Epoch
from sluice.training.frame import EncodedSplit
from tests.support.servers import s3_bucket

RECIPE = Recipe(name="shops", description="", features=("size",))
HISTORY = (Epoch(epoch=1, train_loss=0.5, tune_loss=0.25, tune_auc=0.75),)


def checkpoint(step: int = 7, identity: str = "sha256:1") -> Checkpoint:
    random = np.random.default_rng(step)
    weights: list[npt.NDArray[Any]] = [random.normal(size=shape).astype(np.float32) for shape in ((3, 2), (2,))]
    optimizer: list[npt.NDArray[Any]] = [np.asarray(step, np.int64), *(weight * 2 for weight in weights)]
    return Checkpoint(identity, step, weights, optimizer, weights[::-1], 1, HISTORY)


def same(first: Checkpoint, second: Checkpoint) -> bool:
    groups = ("weights", "optimizer", "best")
    arrays = [(a, b) for group in groups for a, b in zip(getattr(first, group), getattr(second, group), strict=True)]
    rest = [(getattr(first, name), getattr(second, name)) for name in ("identity", "step", "best_epoch", "history")]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in arrays) and all(a == b for a, b in rest)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket of a server of the S3 protocol that is not AWS's, which the environment names as a pod's does."""
    with s3_bucket("training"):
        yield "s3://training"


@pytest.fixture(params=["folder", "object storage"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "kept") if request.param == "folder" else f"{request.getfixturevalue('s3')}/{uuid.uuid4()}"


def test_what_is_written_is_read(place: str) -> None:
    store = CheckpointStore(place)
    assert store.read("sha256:1") is None
    for step in (7, 14):
        store.write(checkpoint(step))
    found = CheckpointStore(place + "/").read("sha256:1")
    assert found is not None
    assert same(found, checkpoint(14))
    store.forget()
    store.forget()
    assert store.read("sha256:1") is None


def test_a_folder_holds_one_file_and_no_rests(tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path))
    for step in range(3):
        store.write(checkpoint(step))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.npz"]


def test_a_write_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CheckpointStore(str(tmp_path))
    store.write(checkpoint(7))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Unavailable, match=r"checkpoint\.npz: cannot be written"):
        store.write(checkpoint(14))
    found = store.read("sha256:1")
    assert found is not None
    assert same(found, checkpoint(7))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.npz"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no archive", "no weights"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    store, path = CheckpointStore(str(tmp_path)), tmp_path / "checkpoint.npz"
    store.write(checkpoint())
    data = path.read_bytes()
    at = data.index(checkpoint().weights[0].tobytes())
    if damage == "no weights":
        np.savez(path, about=np.zeros(2, np.uint8))
    else:
        flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        path.write_bytes({"cut": data[:-40], "flipped": flipped, "empty": b"", "no archive": b"{}"}[damage])
    with pytest.raises(BadArtifact, match=r"checkpoint\.npz: cannot be read"):
        store.read("sha256:1")


def test_an_object_array_is_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "checkpoint.npz", about=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(BadArtifact, match="cannot be read"):
        CheckpointStore(str(tmp_path)).read("sha256:1")


def test_the_checkpoint_of_another_training_is_refused(place: str) -> None:
    store = CheckpointStore(place)
    store.write(checkpoint(identity="sha256:2"))
    with pytest.raises(BadInput, match="another recipe or other rows"):
        store.read("sha256:1")


def test_an_unknown_kind_of_storage_is_refused() -> None:
    with pytest.raises(BadInput, match="cannot be opened"):
        CheckpointStore("carrier-pigeon://loft").read("sha256:1")


def test_a_bucket_that_is_not_there_is_told_before_a_step_is_lost(s3: str) -> None:
    store = CheckpointStore("s3://no-such-bucket/kept")
    assert store.read("sha256:1") is None
    with pytest.raises(Unavailable, match=r"s3://no-such-bucket/kept/checkpoint\.npz: cannot be written"):
        store.write(checkpoint())


def test_recipe_and_rows_make_the_identity() -> None:
    def encoded(x: float, y: float) -> EncodedSplit:
        return EncodedSplit(pl.Series(["a", "b"]), np.array([[x], [0]], np.float32), np.array([y, 0], np.float32))

    other = RECIPE.model_copy(update={"seed": 1})
    found = {identity_of(RECIPE, encoded(1, 1)), identity_of(RECIPE, encoded(1, 0)), identity_of(RECIPE, encoded(2, 1))}
    found.add(identity_of(other, encoded(1, 1)))
    assert len(found) == 4
    assert identity_of(RECIPE, encoded(1, 1)) in found


def test_a_recipe_without_mixed_precision_reads_as_before() -> None:
    assert "precision" not in RECIPE.model_dump(mode="json")
    mixed = RECIPE.model_copy(update={"precision": "mixed_bfloat16"})
    assert Recipe.model_validate_json(mixed.model_dump_json()) == mixed
