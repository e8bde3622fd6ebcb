"""
The bundle store: a folder, or object storage (``s3://BUCKET/PREFIX``, ``gs://…``) that servers fetch from.

A bundle lies at ``<store>/sha256-<hex>/``. Object storage has no rename: the manifest is written last, and a bundle
without its manifest is none.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.content import write_bytes
from sluice.errors import BadInput, one_line
from sluice.models.bundle import MANIFEST, Bundle, load_bundle, write_bundle
from sluice.models.fetch import PREFIX, fetch_bundle, open_store
from sluice.workspace import bundle_directory

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_BLOCK = 1 << 20


def is_remote(store: str) -> bool:
    """Whether a store's name is a URL rather than a folder."""
    return "://" in store


def write_object(files: FileSystem, path: str, data: bytes) -> None:
    """Write a file or an object, whole or not at all; raises ``OSError`` where the store does not take it."""
    if files.type_name == "local":
        write_bytes(Path(path), data)
        return
    # An S3 object appears when it is complete; one that is broken off never does.
    stream = files.open_output_stream(path)
    stream.write(data)
    stream.close()


def read_bundle(store: str, digest: str, environment: Mapping[str, str]) -> Bundle:
    """
    A verified bundle.

    Args:
        store: folder or URL.
        environment: credentials and endpoint, as of ``sluice.models.fetch``.

    Raises:
        BadInput: the store cannot be read.
        BadArtifact: it has no such bundle, or another one under its name.
    """
    if not is_remote(store):
        return load_bundle(bundle_directory(Path(store), digest), digest)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / digest.replace(":", "-")
        fetch_bundle(_address(store, digest), target, environment)
        return load_bundle(target, digest)


def store_bundle(bundle: Bundle, store: str, environment: Mapping[str, str]) -> str:
    """
    Put a bundle into the store; doing it again changes nothing.

    Returns:
        Where it lies.

    Raises:
        BadInput: the store cannot be written.
        BadArtifact: another bundle lies under its name.
    """
    if not is_remote(store):
        write_bundle(Path(store), bundle.manifest.model_copy(update={"files": {}}), bundle.files)
        return str(bundle_directory(Path(store), bundle.digest))
    address = _address(store, bundle.digest)
    files, root = open_store(address, environment)
    try:
        if files.type_name == "local":
            files.create_dir(root)
        for name in (*sorted(bundle.files), MANIFEST):  # the manifest last
            with (bundle.directory / name).open("rb") as source, files.open_output_stream(f"{root}/{name}") as out:
                shutil.copyfileobj(source, out, _BLOCK)
    except OSError as error:
        reason = one_line(error, 300)
        fix = "check the store, its credentials and the network"
        raise BadInput(address, f"cannot be written ({reason})", fix) from error
    return address.removeprefix(PREFIX)


def _address(store: str, digest: str) -> str:
    return f"{PREFIX}{store.removeprefix(PREFIX).rstrip('/')}/{digest.replace(':', '-')}"
