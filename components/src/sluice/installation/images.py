"""
Name the images that run, by their digests, in a checkout's ``manifests/images/kustomization.yaml``.

    python -m sluice.installation.images serving=REGISTRY/serving@sha256:… steps=REGISTRY/steps@sha256:…
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from sluice.content import write_bytes
from sluice.errors import BadInput, SluiceError

IMAGES = Path("manifests/images/kustomization.yaml")
IMAGE_NAME = r"[\w.-]+(:\d+)?(/[\w.-]+)*"
"""Of an image in its registry, without tag and digest."""
_REFERENCE = re.compile(rf"(?P<name>{IMAGE_NAME})(:[\w.-]+)?@(?P<digest>sha256:[0-9a-f]{{64}})")
_FIELDS = r"(- name: sluice/{}(?![\w-])[^\n]*\n)(?:  (?:newName|newTag|digest): \S+\n)*"


def with_images(text: str, references: Mapping[str, str]) -> str:
    """
    The kustomization in ``text`` with these images: name, as after ``sluice/``, to ``NAME@sha256:…``; comments stay.

    Raises:
        BadInput: a reference has no digest, or no image is called so.
    """
    for image, reference in references.items():
        parts = _REFERENCE.fullmatch(reference)
        if not parts:
            raise BadInput(f"image {image}={reference}", "has no digest", "write NAME@sha256:<64 hex digits>")
        fields = f"  newName: {parts['name']}\n  digest: {parts['digest']}\n"
        text, places = re.subn(_FIELDS.format(re.escape(image)), rf"\g<1>{fields}", text)
        if not places:
            known = ", ".join(re.findall(r"- name: sluice/([\w-]+)", text))
            raise BadInput(f"image {image!r}", "is none of the manifests'", f"name one of: {known}")
    return text


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Name the images that run by their digests.")
    parser.add_argument("images", nargs="+", metavar="IMAGE=NAME@sha256:DIGEST", help="such as serving=…, steps=…")
    parser.add_argument("--file", type=Path, default=IMAGES, help=f"default: {IMAGES} of the current directory")
    options = parser.parse_args(argv)
    try:
        if bare := next((each for each in options.images if "=" not in each), None):
            raise BadInput(f"image {bare!r}", "names no reference", "write IMAGE=NAME@sha256:<64 hex digits>")
        if not options.file.is_file():
            raise BadInput(str(options.file), "is not there", "run this in a checkout, or name the file with --file")
        references = dict(each.split("=", 1) for each in options.images)
        write_bytes(options.file, with_images(options.file.read_text("utf-8"), references).encode())
    except SluiceError as error:
        sys.stderr.write(f"images: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
