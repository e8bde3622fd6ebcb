"""
Compile every pipeline into ``pipelines/compiled/``.

``python -m pipelines.compile`` from the repository root writes; with ``--check`` it only compares, exit 1 on a
difference.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from kfp import compiler

from pipelines.accelerators import devices
from pipelines.monitoring import monitoring_pipeline
from pipelines.promotion import promotion_pipeline
from pipelines.training import training_pipeline
from pipelines.training_nodes import training_on_nodes_pipeline

PIPELINES: dict[str, Any] = {
    "monitor-and-retrain": monitoring_pipeline("sluice-monitor-and-retrain"),
    "promotion": promotion_pipeline("sluice-promotion"),
    "training": training_pipeline("sluice-training"),
    "training-gpu": training_pipeline("sluice-training-gpu", devices("nvidia")),
    "training-on-nodes": training_on_nodes_pipeline("sluice-training-on-nodes", devices("nvidia")),
}
COMPILED = Path(__file__).parent / "compiled"


def compile_into(directory: Path) -> list[Path]:
    """Write one YAML a pipeline; equal sources give equal bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, pipeline in sorted(PIPELINES.items()):
        path = directory / f"{name}.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        written.append(path)
    return written


def outdated() -> list[str]:
    """Names of committed files that differ from what the sources compile to."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = compile_into(Path(scratch))
        return [
            path.name
            for path in fresh
            if not (COMPILED / path.name).exists() or (COMPILED / path.name).read_bytes() != path.read_bytes()
        ]


def main(arguments: list[str]) -> int:
    """Write, or compare; returns the exit code."""
    if "--check" not in arguments:
        compile_into(COMPILED)
        return 0
    stale = outdated()
    if stale:
        sys.stderr.write(f"pipelines/compiled: {', '.join(stale)} differ from the sources; run `make compile`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
