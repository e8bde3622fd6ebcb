"""
What an installation brings beside code, ``manifests/``, ``kustomization.yaml`` and ``feature_repo/``, and its digest.

They stand at the top of the repository, where people look for them. Here are links to them, which a wheel and a source
distribution follow; so an installed package and a checkout are read in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import distributions
from importlib.resources import files
from pathlib import Path

from sluice.content import digest_of_file, digest_of_value
from sluice.installation.source_code import reached_sources

INSTALLATION = Path(str(files(__name__)))
"""The folder with all of them, laid out as a GitOps repository begins."""
MANIFESTS = INSTALLATION / "manifests"
FEATURE_REPO = INSTALLATION / "feature_repo"
"""Definitions of the features of the reference task."""
_PACKAGES = ("sluice", "sluice_cluster", "sluice_steps")


def code_digest(feature_repo: Path, modules: Iterable[str]) -> str:
    """
    One digest of everything installed that can change a bundle: our sources, definitions of features, the task, all
    that these import, and the version of every package.

    Args:
        feature_repo: folder with the definitions that are used.
        modules: of the task.
    """
    root = INSTALLATION.parents[1]
    sources = [path for package in _PACKAGES for path in (root / package).rglob("*.py")]
    ours = {str(path.relative_to(root)): path for path in sources if not path.is_relative_to(FEATURE_REPO)}
    theirs = {f"feature_repo/{path.name}": path for path in feature_repo.glob("*") if path.suffix in {".py", ".yaml"}}
    content = {name: digest_of_file(path) for name, path in (ours | theirs).items()}
    texts = [path.read_text("utf-8", "replace") for path in theirs.values() if path.suffix == ".py"]
    content |= reached_sources(modules, texts)
    versions = sorted({f"{package.name}=={package.version}" for package in distributions()})
    return digest_of_value({"sources": content, "versions": versions})
