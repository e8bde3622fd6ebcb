"""
Fetch one bundle from a store and verify it before anything can load it: what runs before a model server starts.

    python -m sluice.models.fetch sluice+s3://BUCKET/TASK/sha256-<hex> /mnt/models

The address ends with the digest, so what is fetched is checked against what was asked for, file by file while it
arrives; with a signer's key, ``<address>.sig`` must be that signer's signature too. No listing is needed: the manifest
names the files. A directory that was not verified to its end holds no ``bundle.json`` and no server starts on it.

Environment: of the store as of ``sluice.object_store``, and
    SLUICE_SIGNER            public key in PEM; where it is set, unsigned bundles are refused
    SLUICE_SIGNATURE         ``required``: refuse to go on without a signer's key
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from sluice.content import digest_of_bytes, write_bytes, written_whole
from sluice.errors import BadArtifact, BadInput, SluiceError
from sluice.models.bundle import MANIFEST, BundleManifest, parse_manifest
from sluice.models.signature import verify_signature
from sluice.object_store import NoSuchObject, ObjectLocation, open_location

PREFIX = "sluice+"
_ADDRESS = re.compile(r"sluice\+(?:s3|gs|abfss?|file)://[^?#]+/(sha256-[0-9a-f]{64})/?")
_DOCUMENT_BYTES = 16 << 20
_FILE_BYTES = 4 << 30


def fetch_bundle(address: str, target: Path, environment: Mapping[str, str]) -> str:
    """
    Bring the bundle at ``address`` into the directory ``target``, verified.

    Args:
        address: ``sluice+<scheme>://…/sha256-<hex>``; schemes: s3, gs, abfs, abfss, file.
        target: an empty or half-filled directory; what is in it is removed first.
        environment: the variables that the module's docstring lists.

    Returns:
        The digest.

    Raises:
        BadInput: the address, the key or the store's settings are wrong.
        Unavailable: the store does not answer.
        BadArtifact: what is stored is not what its digest says, or not signed.
    """
    digest, key = _digest_of(address), _signer(environment)
    store, name = _place(address, environment)
    _empty(target)
    document = _checked_manifest(store / name, digest)
    if key:
        verify_signature(document, _read(store / f"{name}.sig"), key, address)
    manifest = parse_manifest(Path(MANIFEST), document)
    for file, expected in manifest.files.items():
        _copy(store / name / file, target / file, expected)
    write_bytes(target / MANIFEST, document)
    return digest


def fetch_manifest(address: str, environment: Mapping[str, str]) -> BundleManifest:
    """
    The manifest of the bundle at ``address``, checked against the digest in it; arguments and errors as above.
    """
    digest = _digest_of(address)
    store, name = _place(address, environment)
    return parse_manifest(Path(MANIFEST), _checked_manifest(store / name, digest))


def _checked_manifest(bundle: ObjectLocation, digest: str) -> bytes:
    document = _read(bundle / MANIFEST)
    if (actual := digest_of_bytes(document)) != digest:
        raise BadArtifact(f"{bundle}/{MANIFEST}", f"has digest {actual}", "release the digest that is stored")
    return document


def _digest_of(address: str) -> str:
    match = _ADDRESS.fullmatch(address)
    if not match:
        raise BadInput(f"address {address!r}", "is not sluice+s3://…/sha256-<hex>", "name a bundle by its digest")
    return match[1].replace("-", ":", 1)


def _place(address: str, environment: Mapping[str, str]) -> tuple[ObjectLocation, str]:
    """The store of a bundle, and its folder there."""
    store, _, name = address.removeprefix(PREFIX).rstrip("/").rpartition("/")
    return open_location(store, environment), name


def _signer(environment: Mapping[str, str]) -> bytes:
    key = environment.get("SLUICE_SIGNER", "").strip()
    if not key and environment.get("SLUICE_SIGNATURE") == "required":
        rule = "is missing, and this environment serves signed bundles only"
        raise BadInput("the signer's key", rule, "create the Secret model-signer with its public key")
    return key.encode()


def _empty(target: Path) -> None:
    """A container that was killed and started again finds what it left."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in target.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _read(location: ObjectLocation) -> bytes:
    try:
        document = location.read(_DOCUMENT_BYTES + 1)
    except NoSuchObject as error:
        raise _absent(location) from error
    if len(document) > _DOCUMENT_BYTES:
        raise BadArtifact(str(location), f"is larger than {_DOCUMENT_BYTES >> 20} MiB", "build the bundle again")
    return document


def _copy(location: ObjectLocation, target: Path, expected: str) -> None:
    sha, size = hashlib.sha256(), 0
    with location.refusals("fetched"), written_whole(target) as beside, beside.open("wb") as out:
        try:
            for block in location.blocks():
                sha.update(block)
                out.write(block)
                if (size := size + len(block)) > _FILE_BYTES:
                    break
        except NoSuchObject as error:
            raise _absent(location) from error
        if (actual := f"sha256:{sha.hexdigest()}") != expected:
            rule = f"has digest {actual}, the manifest says {expected}"
            raise BadArtifact(str(location), rule, "store the bundle again")


def _absent(location: ObjectLocation) -> BadArtifact:
    return BadArtifact(str(location), "is not in the store", "store the bundle and its signature before releasing it")


def main(argv: list[str]) -> int:
    """Entry point; 2 for anything that is wrong, 1 for a store that does not answer, in one line."""
    if len(argv) != 2:
        sys.stderr.write("usage: python -m sluice.models.fetch ADDRESS DIRECTORY\n")
        return 2
    try:
        digest = fetch_bundle(argv[0], Path(argv[1]), os.environ)
    except SluiceError as error:
        sys.stderr.write(f"fetch: {error}\n")
        return error.exit_code
    sys.stdout.write(f"verified {digest}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
