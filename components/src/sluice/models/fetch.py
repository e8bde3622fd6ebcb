"""
Fetch one bundle from a store and verify it before anything can load it: what runs before a model server starts.

    python -m sluice.models.fetch sluice+s3://BUCKET/TASK/sha256-<hex> /mnt/models

The address ends with the digest, so what is fetched is checked against what was asked for, file by file while it
arrives; with a signer's key, ``<address>.sig`` must be that signer's signature too. No listing is needed: the manifest
names the files. A directory that was not verified to its end holds no ``bundle.json`` and no server starts on it.

Environment:
    AWS_ACCESS_KEY_ID …      credentials, as Arrow's S3 client reads them
    AWS_ENDPOINT_URL         URL of an S3-compatible store, for example http://minio.storage:9000; else AWS
    AWS_DEFAULT_REGION       its region
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
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sluice.content import digest_of_bytes, write_bytes, written_whole
from sluice.errors import BadArtifact, BadInput, SluiceError, one_line
from sluice.models.bundle import MANIFEST, BundleManifest, parse_manifest
from sluice.models.signature import verify_signature

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

PREFIX = "sluice+"
_ADDRESS = re.compile(r"sluice\+(?:s3|gs|abfss?|file)://[^?#]+/(sha256-[0-9a-f]{64})/?")
_DOCUMENT_BYTES = 16 << 20
_FILE_BYTES = 4 << 30
_BLOCK = 1 << 20


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
        BadInput: the address, the key or the store's settings are wrong, or the store does not answer.
        BadArtifact: what is stored is not what its digest says, or not signed.
    """
    digest, key = _digest_of(address), _signer(environment)
    files, root = open_store(address, environment)
    _empty(target)
    document = _read(files, f"{root}/{MANIFEST}")
    _check_digest(document, digest, address)
    if key:
        verify_signature(document, _read(files, f"{root}.sig"), key, address)
    manifest = parse_manifest(Path(MANIFEST), document)
    for name, expected in manifest.files.items():
        _copy(files, f"{root}/{name}", target / name, expected)
    write_bytes(target / MANIFEST, document)
    return digest


def fetch_manifest(address: str, environment: Mapping[str, str]) -> BundleManifest:
    """
    The manifest of the bundle at ``address``, checked against the digest in it; arguments and errors as above.
    """
    digest = _digest_of(address)
    files, root = open_store(address, environment)
    document = _read(files, f"{root}/{MANIFEST}")
    _check_digest(document, digest, address)
    return parse_manifest(Path(MANIFEST), document)


def _check_digest(document: bytes, digest: str, address: str) -> None:
    if (actual := digest_of_bytes(document)) != digest:
        raise BadArtifact(f"{address}/{MANIFEST}", f"has digest {actual}", "release the digest that is stored")


def _digest_of(address: str) -> str:
    match = _ADDRESS.fullmatch(address)
    if not match:
        raise BadInput(f"address {address!r}", "is not sluice+s3://…/sha256-<hex>", "name a bundle by its digest")
    return match[1].replace("-", ":", 1)


def _signer(environment: Mapping[str, str]) -> bytes:
    key = environment.get("SLUICE_SIGNER", "").strip()
    if not key and environment.get("SLUICE_SIGNATURE") == "required":
        rule = "is missing, and this environment serves signed bundles only"
        raise BadInput("the signer's key", rule, "create the Secret model-signer with its public key")
    return key.encode()


def open_store(address: str, environment: Mapping[str, str]) -> tuple[FileSystem, str]:
    """
    The file system of ``s3://…``, ``gs://…``, ``abfs://…`` or ``file://…`` and the path in it.

    Raises:
        BadInput: the address or the store's settings are wrong.
    """
    from pyarrow.fs import FileSystem, S3FileSystem

    plain = address.removeprefix(PREFIX).rstrip("/")
    try:
        if not plain.startswith("s3://"):
            store, root = FileSystem.from_uri(plain)
            return store, str(root)
        endpoint = urlsplit(environment.get("AWS_ENDPOINT_URL", ""))
        store = S3FileSystem(
            endpoint_override=endpoint.netloc or None,
            scheme=endpoint.scheme or "https",
            region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"),
            connect_timeout=5,
            request_timeout=30,
            allow_delayed_open=True,  # a small object is one request
        )
    except (OSError, ValueError) as error:
        raise BadInput(address, f"cannot be opened ({one_line(error, 300)})", "check the store's settings") from error
    return store, plain.removeprefix("s3://")


def _empty(target: Path) -> None:
    """A container that was killed and started again finds what it left."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in target.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _read(files: FileSystem, path: str) -> bytes:
    try:
        with files.open_input_stream(path) as stream:
            data: bytes = stream.read(_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise _unread(path, error) from error
    if len(data) > _DOCUMENT_BYTES:
        raise BadArtifact(path, f"is larger than {_DOCUMENT_BYTES >> 20} MiB", "build the bundle again")
    return data


def _copy(files: FileSystem, path: str, target: Path, expected: str) -> None:
    sha, size = hashlib.sha256(), 0
    with written_whole(target) as beside:
        try:
            with files.open_input_stream(path) as stream, beside.open("wb") as out:
                while (block := stream.read(_BLOCK)) and size <= _FILE_BYTES:
                    sha.update(block)
                    size += len(block)
                    out.write(block)
        except OSError as error:
            raise _unread(path, error) from error
        if (actual := f"sha256:{sha.hexdigest()}") != expected:
            raise BadArtifact(path, f"has digest {actual}, the manifest says {expected}", "store the bundle again")


def _unread(path: str, error: OSError) -> SluiceError:
    if isinstance(error, FileNotFoundError):
        return BadArtifact(path, "is not in the store", "store the bundle and its signature before releasing it")
    return BadInput(
        path, f"cannot be read ({one_line(error, 300)})", "check the store, its credentials and the network"
    )


def main(argv: list[str]) -> int:
    """Entry point; 2 for anything that is wrong, in one line."""
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
