"""Bundles: what is written comes back; anything touched, added, dropped or of another kind is refused by its name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from sluice.content import canonical_json, digest_of_bytes
from sluice.data.divergence import profile_of
from sluice.errors import BadArtifact
from sluice.features.manifest import Feature, FeatureManifest
from sluice.models.bundle import MANIFEST, MODEL, BundleManifest, Provenance, load_bundle, write_bundle
from sluice.models.encoder import fit_encoder
from sluice.tasks.recipe import Recipe
from sluice.workspace import bundle_directory
from tests.support.tiny_bundle import FAILING_MODEL, tiny_rows, write_tiny_bundle

TRAIN = pl.DataFrame({"size": [1.0, 2.0, 3.0, 4.0], "shop": ["a", "b", "a", "b"]})
FILES = {MODEL: b"model bytes", "card.json": b"{}", "card.html": b"<p>card</p>"}


def make_manifest() -> BundleManifest:
    features = FeatureManifest(
        service="s",
        service_digest="sha256:0",
        entity_keys=("shop",),
        request_inputs=(),
        features=(Feature(name="size", dtype="float", view="v"), Feature(name="shop", dtype="string", view="v")),
    )
    return BundleManifest(
        task="shops",
        variant="student_int8",
        recipe=Recipe(name="shops-all", description="all", features=("size", "shop")),
        features=features,
        encoder=fit_encoder(TRAIN, features),
        threshold=0.3,
        provenance=Provenance(data="d", frame="f", recipe="r", code="c", window=("2013-01-01", "2013-05-01")),
        profiles={name: profile_of(TRAIN[name]) for name in TRAIN.columns},
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    digest = write_bundle(tmp_path / "store", make_manifest(), FILES)
    return tmp_path / "store" / digest.replace(":", "-")


def rewritten(bundle: Path, **changes: object) -> Path:
    """The bundle with another manifest, under the name that this manifest's digest gives."""
    document = canonical_json(json.loads((bundle / MANIFEST).read_bytes()) | changes)
    (bundle / MANIFEST).write_bytes(document)
    return bundle.rename(bundle.with_name(digest_of_bytes(document).replace(":", "-")))


def test_what_is_written_comes_back(bundle: Path) -> None:
    loaded = load_bundle(bundle, bundle.name.replace("-", ":"))
    assert loaded.digest == bundle.name.replace("-", ":")
    assert dict(loaded.files) == FILES
    assert loaded.manifest.model_copy(update={"files": {}}) == make_manifest()


def test_writing_again_gives_the_same_digest_and_leaves_the_files_alone(bundle: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in bundle.iterdir()}
    assert write_bundle(bundle.parent, make_manifest(), dict(reversed(FILES.items()))) == bundle.name.replace("-", ":")
    assert {path.name: path.stat().st_mtime_ns for path in bundle.iterdir()} == before
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("place", [0, -1])
def test_a_flipped_byte_is_refused_by_the_file_s_name(bundle: Path, name: str, place: int) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[place] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BadArtifact) as caught:
        load_bundle(bundle)
    assert caught.value.thing == str(bundle / name)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_refused_by_its_name(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BadArtifact, match="missing") as caught:
        load_bundle(bundle)
    assert caught.value.thing == str(bundle / name)


@pytest.mark.parametrize("name", ["extra.json", "model.pkl", ".hidden"])
def test_an_extra_file_is_refused_by_its_name(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes(b"x")
    with pytest.raises(BadArtifact, match="not in the manifest") as caught:
        load_bundle(bundle)
    assert caught.value.thing == str(bundle / name)


def test_a_link_in_place_of_a_file_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / MODEL).rename(tmp_path / "elsewhere")
    (bundle / MODEL).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadArtifact, match="plain file"):
        load_bundle(bundle)


def test_another_digest_than_asked_for_is_refused(bundle: Path) -> None:
    with pytest.raises(BadArtifact, match=r"expected sha256:ffff"):
        load_bundle(bundle, "sha256:" + "f" * 64)


@pytest.mark.parametrize("kind", ["pickle", "saved_model", None])
def test_an_unknown_format_is_refused(bundle: Path, kind: str | None) -> None:
    with pytest.raises(BadArtifact, match="unknown format"):
        load_bundle(rewritten(bundle, format=kind))


@pytest.mark.parametrize("name", ["model.pkl", "../model.tflite", "code.py", MANIFEST])
def test_a_manifest_that_names_a_file_of_another_kind_is_refused(bundle: Path, name: str) -> None:
    files = {MODEL: digest_of_bytes(FILES[MODEL]), name: digest_of_bytes(b"x")}
    with pytest.raises(BadArtifact, match="files"):
        load_bundle(rewritten(bundle, files=files))


def test_a_manifest_with_an_unknown_key_is_refused(bundle: Path) -> None:
    with pytest.raises(BadArtifact, match="trained_at"):
        load_bundle(rewritten(bundle, trained_at="now"))


@pytest.mark.parametrize("files", [{"card.json": b"{}"}, FILES | {"model.pkl": b"x"}, FILES | {"a/b.json": b"x"}])
def test_files_that_may_not_be_in_a_bundle_are_not_written(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(BadArtifact):
        write_bundle(tmp_path / "store", make_manifest(), files)
    assert not (tmp_path / "store").exists()


def test_bytes_that_are_no_model_are_refused_when_scoring(bundle: Path) -> None:
    with pytest.raises(BadArtifact, match=r"model\.tflite"):
        load_bundle(bundle).scorer()


def test_a_server_needs_no_training_libraries() -> None:
    heavy = "tensorflow, keras, tf_keras, sklearn, feast, kfp, pandas"
    code = f"import sys, sluice.models.bundle; print(sorted({{*'{heavy}'.split(', ')}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_bundle_says_its_target_unless_that_is_binary(tmp_path: Path) -> None:
    manifest = load_bundle(bundle_directory(tmp_path, digest := write_tiny_bundle(tmp_path)), digest).manifest
    before = manifest.model_dump(mode="json")
    assert "target" not in before
    counts = before | {"target": {"kind": "counts"}}
    del counts["threshold"]
    found = BundleManifest.model_validate(counts)
    assert found.model_dump(mode="json") == counts
    for document, rule in (
        (before | {"target": {"kind": "counts"}}, "a counts target has no threshold"),
        ({key: value for key, value in before.items() if key != "threshold"}, "a binary target needs a threshold"),
        (before | {"target": {"kind": "ranks"}}, "is no kind of target"),
        (counts | {"target": {"kind": "regression", "loss": "cubed"}}, "target regression: loss"),
    ):
        with pytest.raises(ValidationError, match=rule):
            BundleManifest.model_validate(document)


def test_a_model_with_other_outputs_than_its_target_is_refused(tmp_path: Path) -> None:
    tiny = load_bundle(bundle_directory(tmp_path, digest := write_tiny_bundle(tmp_path)), digest)
    target = {"kind": "multi-label", "names": ["a", "b"]}
    manifest = tiny.manifest.model_copy(update={"target": target, "files": {}})
    other = write_bundle(tmp_path, manifest, tiny.files)
    with pytest.raises(BadArtifact, match=r"has 1 outputs, its target .multi-label. needs 2"):
        load_bundle(bundle_directory(tmp_path, other), other).scorer()


def test_a_model_with_a_weight_that_is_no_number_answers_none(tmp_path: Path) -> None:
    """What the tests' failing bundle rests on: the server makes a 5xx of it."""
    digest = write_tiny_bundle(tmp_path, model=FAILING_MODEL)
    failing = load_bundle(bundle_directory(tmp_path, digest), digest)
    assert np.isnan(failing.predict(pl.DataFrame(tiny_rows(3)))).all()
