"""What a server may start on: the bundle that its address names, whole, and signed where that is asked for."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest

from sluice.errors import BadArtifact, BadInput
from sluice.models.bundle import load_bundle
from sluice.models.fetch import fetch_bundle
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store/tiny"


def address(store: Path, digest: str) -> str:
    return f"sluice+file://{store}/{digest.replace(':', '-')}"


def test_a_bundle_arrives_whole_and_only_it(store: Path, tmp_path: Path) -> None:
    digest, target = write_tiny_bundle(store), tmp_path / "models"
    (target / "left").mkdir(parents=True)
    (target / ".bundle.json.half").write_text("of a try that was killed")
    (store / digest.replace(":", "-") / "extra.json").write_text("{}")
    assert fetch_bundle(address(store, digest), target, {}) == digest
    assert load_bundle(target, digest).digest == digest
    assert fetch_bundle(address(store, digest) + "/", target, {}) == digest


@pytest.mark.parametrize("name", ["model.tflite", "bundle.json"])
def test_one_changed_byte_is_refused_and_nothing_can_be_loaded(store: Path, tmp_path: Path, name: str) -> None:
    digest = write_tiny_bundle(store)
    path = store / digest.replace(":", "-") / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BadArtifact, match=f"{name}: has digest"):
        fetch_bundle(address(store, digest), tmp_path / "models", {})
    assert not (tmp_path / "models/bundle.json").exists()


def test_a_missing_file_is_named(store: Path, tmp_path: Path) -> None:
    digest = write_tiny_bundle(store)
    (store / digest.replace(":", "-") / "model.tflite").unlink()
    with pytest.raises(BadArtifact, match=r"model.tflite: is not in the store"):
        fetch_bundle(address(store, digest), tmp_path / "models", {})


@pytest.mark.parametrize(
    "wrong",
    ["s3://models/tiny/sha256-" + "0" * 64, "sluice+s3://models/tiny/latest", "sluice+http://x/sha256-" + "0" * 64, ""],
)
def test_an_address_without_digest_or_prefix_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(BadInput, match="name a bundle by its digest"):
        fetch_bundle(wrong, tmp_path, {})


def _keys(directory: Path, *algorithm: str) -> tuple[Path, str]:
    private = directory / "key.pem"
    subprocess.run(["openssl", "genpkey", *algorithm, "-out", private], check=True, capture_output=True)
    public = subprocess.run(["openssl", "pkey", "-in", private, "-pubout"], check=True, capture_output=True, text=True)
    return private, public.stdout


ED25519 = (("-algorithm", "ed25519"), ("pkeyutl", "-sign", "-rawin", "-inkey"), ("-in",))
ECDSA = (("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"), ("dgst", "-sha256", "-sign"), ())


@pytest.mark.parametrize("kind", [ED25519, ECDSA], ids=["ed25519", "ecdsa"])
def test_with_a_key_only_its_owners_bundles_are_taken(
    store: Path, tmp_path: Path, kind: tuple[tuple[str, ...], ...]
) -> None:
    algorithm, sign, before = kind
    digest = write_tiny_bundle(store)
    folder, where = store / digest.replace(":", "-"), address(store, digest)
    private, public = _keys(tmp_path, *algorithm)
    environment = {"SLUICE_SIGNER": public}
    with pytest.raises(BadArtifact, match=r"\.sig: is not in the store"):
        fetch_bundle(where, tmp_path / "models", environment)
    command: list[str | Path] = ["openssl", *sign, private, *before, folder / "bundle.json"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    signature = folder.with_name(folder.name + ".sig")
    signature.write_bytes(base64.b64encode(raw) + b"\n")
    assert fetch_bundle(where, tmp_path / "models", environment) == digest
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(BadArtifact, match="not signed by this environment's key"):
        fetch_bundle(where, tmp_path / "models", {"SLUICE_SIGNER": _keys(other, *algorithm)[1]})
    signature.write_bytes(b"no base64!")
    with pytest.raises(BadArtifact, match="not signed by"):
        fetch_bundle(where, tmp_path / "models", environment)


def test_required_signatures_without_a_usable_key_are_refused(store: Path, tmp_path: Path) -> None:
    digest = write_tiny_bundle(store)
    where = address(store, digest)
    (store / (digest.replace(":", "-") + ".sig")).write_text("AAAA")
    with pytest.raises(BadInput, match="model-signer"):
        fetch_bundle(where, tmp_path / "models", {"SLUICE_SIGNATURE": "required"})
    with pytest.raises(BadInput, match="the signer's key: is not"):
        fetch_bundle(where, tmp_path / "models", {"SLUICE_SIGNER": "no key"})


def test_the_command_says_one_line(store: Path, tmp_path: Path) -> None:
    digest = write_tiny_bundle(store)
    command = [sys.executable, "-m", "sluice.models.fetch"]
    good = subprocess.run(
        [*command, address(store, digest), tmp_path / "m"], capture_output=True, text=True, check=False
    )
    assert (good.returncode, good.stdout, good.stderr) == (0, f"verified {digest}\n", "")
    bad = subprocess.run(
        [*command, address(store, "sha256:" + "0" * 64), tmp_path / "m"], capture_output=True, text=True, check=False
    )
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("fetch: ")
    assert len(bad.stderr.splitlines()) == 1
