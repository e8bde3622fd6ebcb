"""
Compile every pipeline: ``pipelines/compiled/`` for uploads, ``manifests/pipelines/`` for GitOps, drawings of two, and
the table of their parameters.

    python -m sluice_pipelines.compile                                         from the repository root: writes all
    python -m sluice_pipelines.compile --check                                 only compares; exit 1 on a difference
    python -m sluice_pipelines.compile --accelerator NAME --count 2 --into DIR the pipelines for other devices
"""

import argparse
import sys
import tempfile
from pathlib import Path

from kfp import compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions

from sluice.content import digest_of_file, write_bytes
from sluice.errors import SluiceError
from sluice_pipelines.accelerators import Devices, devices
from sluice_pipelines.catalogue import CATALOGUE
from sluice_pipelines.graph import draw
from sluice_pipelines.inputs import parameter_table

ROOT = Path()
"""The checkout whose files are written: the current directory."""
COMPILED = ROOT / "pipelines/compiled"
MANIFESTS = ROOT / "manifests/pipelines"
DRAWINGS = {"training-gpu": ROOT / "docs/training-graph.svg", "monitor-and-retrain": ROOT / "docs/retraining-graph.svg"}
"""Where the drawings of these are."""
PAGE = ROOT / "docs/run-from-the-dashboard.md"
_BEGIN, _END = "<!-- parameters, written by `make compile` -->\n", "<!-- end of the parameters -->\n"
_DEVICES = devices("nvidia")
"""Of the committed files."""
_KUSTOMIZATION = """\
# Written by `make compile`: the pipelines as objects of a KFP that keeps them in Kubernetes (2.17 or newer).
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: kubeflow   # of KFP's API server, or of a profile
resources:
"""


def compile_into(directory: Path, accelerators: Devices = _DEVICES) -> list[Path]:
    """Write one YAML a pipeline; equal sources give equal bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, pipeline in sorted(CATALOGUE.items()):
        path = directory / f"{name}.yaml"
        compiler.Compiler().compile(pipeline.build(f"sluice-{name}", accelerators), str(path))
        paths.append(path)
    return paths


def manifests_into(directory: Path, compiled: list[Path]) -> list[Path]:
    """
    Write a ``Pipeline`` and a ``PipelineVersion`` for each compiled pipeline, and their kustomization.

    A version cannot be changed, so its name ends with the digest of what it runs.
    """
    directory.mkdir(parents=True, exist_ok=True)
    manifests = []
    for source in compiled:
        path = directory / source.name
        name = f"sluice-{source.stem}"
        version = f"{name}-{digest_of_file(source)[7:19]}"
        options = KubernetesManifestOptions(
            pipeline_name=name, pipeline_version_name=version, include_pipeline_manifest=True
        )
        pipeline = CATALOGUE[source.stem].build(name, _DEVICES)
        compiler.Compiler().compile(
            pipeline, str(path), kubernetes_manifest_format=True, kubernetes_manifest_options=options
        )
        manifests.append(path)
    resources = "".join(f"- {path.name}\n" for path in manifests)
    write_bytes(directory / "kustomization.yaml", (_KUSTOMIZATION + resources).encode())
    return [*manifests, directory / "kustomization.yaml"]


def page() -> str:
    """The page of the documentation with the parameters as they are; variants for devices have the same."""
    before, _, rest = PAGE.read_text("utf-8").partition(_BEGIN)
    table = parameter_table({name: one.parameters for name, one in CATALOGUE.items() if not name.endswith("-gpu")})
    return f"{before}{_BEGIN}{table}{_END}{rest.partition(_END)[2]}"


def outdated() -> list[str]:
    """Committed files that differ from what the sources compile to, or that nothing compiles to any more."""
    with tempfile.TemporaryDirectory() as scratch:
        compiled = compile_into(Path(scratch) / "compiled")
        manifests = manifests_into(Path(scratch) / "manifests", compiled)
        fresh = {COMPILED / path.name: path for path in compiled} | {MANIFESTS / path.name: path for path in manifests}
        stale = {
            there for there, path in fresh.items() if not there.exists() or there.read_bytes() != path.read_bytes()
        }
    stale |= {*COMPILED.glob("*.yaml"), *MANIFESTS.glob("*.yaml")} - fresh.keys()
    stale |= {PAGE} if PAGE.read_text("utf-8") != page() else set()
    return sorted(str(path.relative_to(ROOT)) for path in stale)


def main(argv: list[str] | None = None) -> int:
    """Write, or compare; returns the exit code: 1 for a difference, 2 for a device that is not allowed."""
    arguments = _parser().parse_args(argv)
    try:
        accelerators = devices(arguments.accelerator, arguments.count)
    except SluiceError as error:
        sys.stderr.write(f"compile: {error}\n")
        return error.exit_code
    if arguments.into:
        compile_into(arguments.into, accelerators)
        return 0
    if not arguments.check:
        manifests_into(MANIFESTS, compile_into(COMPILED))
        for name, there in DRAWINGS.items():
            write_bytes(there, draw(COMPILED / f"{name}.yaml").encode())
        write_bytes(PAGE, page().encode())
        return 0
    stale = outdated()
    if stale:
        sys.stderr.write(f"{', '.join(stale)} differ from the sources; run `make compile`\n")
    return 1 if stale else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sluice_pipelines.compile", description="Compile the pipelines.")
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    parser.add_argument("--into", type=Path, help="compile into this folder instead, for the devices asked for")
    parser.add_argument(
        "--accelerator", default="nvidia", help="of pipelines/src/sluice_pipelines/accelerators.py; with --into"
    )
    parser.add_argument("--count", type=int, default=1, help="devices of each step that trains; with --into")
    return parser


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
