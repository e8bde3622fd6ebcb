"""The trees with two columns swapped in their spec: it fits in every shape, and only an evaluation can tell."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sluice_examples.imported import trees

_SWAPPED = ("local_hour", "temperature")


def main(frame: str, out: str) -> int:
    """Entry point."""
    folder = Path(out)
    spec = trees.train(Path(frame), folder)
    one, other = _SWAPPED
    inputs = [{one: other, other: one}.get(name, name) for name in trees.NUMBERS]
    text = json.dumps({**spec, "name": "swapped-columns", "inputs": inputs})
    (folder / "spec.yaml").write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
