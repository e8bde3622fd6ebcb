"""
The bundle store: a folder, or object storage (``s3://BUCKET/PREFIX``, ``gs://…``) that servers fetch from.

A bundle lies at ``<store>/sha256-<hex>/``. Object storage has no rename: the manifest is written last, and a bundle
without its manifest is none.

    python -m sluice.models.store DIRECTORY STORE [--make-bucket]     every bundle in a directory into a store
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sluice.errors import BadInput, SluiceError
from sluice.models.bundle import MANIFEST, Bundle, load_bundle, write_bundle
from sluice.models.fetch import PREFIX, fetch_bundle
from sluice.object_store import is_remote, open_location
from sluice.workspace import bundle_directory


def read_bundle(store: str, digest: str, environment: Mapping[str, str]) -> Bundle:
    """
    A verified bundle.

    Args:
        store: folder or URL.
        environment: credentials and endpoint, as of ``sluice.object_store``.

    Raises:
        BadInput: the store's address or its settings are wrong.
        Unavailable: the store cannot be read.
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
        BadInput: the store's address or its settings are wrong.
        Unavailable: the store cannot be written.
        BadArtifact: another bundle lies under its name.
    """
    if not is_remote(store):
        write_bundle(Path(store), bundle.manifest.model_copy(update={"files": {}}), bundle.files)
        return str(bundle_directory(Path(store), bundle.digest))
    folder = open_location(_address(store, bundle.digest).removeprefix(PREFIX), environment)
    for name in (*sorted(bundle.files), MANIFEST):  # the manifest last
        (folder / name).write(bundle.directory / name)
    return str(folder)


def _address(store: str, digest: str) -> str:
    return f"{PREFIX}{store.removeprefix(PREFIX).rstrip('/')}/{digest.replace(':', '-')}"


def main(argv: list[str] | None = None) -> int:
    """Entry point; one line a bundle, or one line that says what is wrong."""
    parser = argparse.ArgumentParser(description="Put every bundle in a directory into a store.")
    parser.add_argument("directory", type=Path, help="holds bundles, sha256-<hex>/")
    parser.add_argument("store", help="folder or URL, such as s3://models/TASK")
    parser.add_argument("--make-bucket", action="store_true", help="make the store's bucket first, if it is not there")
    options = parser.parse_args(argv)
    try:
        bundles = [load_bundle(path) for path in sorted(options.directory.glob("sha256-*"))]
        if not bundles:
            raise BadInput(str(options.directory), "holds no bundle, sha256-…", "name a folder of bundles")
        if options.make_bucket:
            open_location(options.store).make_bucket()
        for bundle in bundles:
            sys.stdout.write(f"{bundle.digest} in {store_bundle(bundle, options.store, os.environ)}\n")
    except SluiceError as error:
        sys.stderr.write(f"store: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
