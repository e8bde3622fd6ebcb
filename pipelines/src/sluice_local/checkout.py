"""The checkout that this package was installed from: definitions and manifests."""

from __future__ import annotations

from pathlib import Path

from sluice.content import digest_of_files

ROOT = Path(__file__).resolve().parents[3]
FEATURE_REPO = ROOT / "feature_repo"
MANIFESTS = ROOT / "manifests"


def code_digest() -> str:
    """One digest of everything that can change a bundle: the core's sources, the components and the lock file."""
    sources = [*(ROOT / "components").rglob("*.py"), *FEATURE_REPO.glob("*"), ROOT / "uv.lock"]
    return digest_of_files({str(path.relative_to(ROOT)): path for path in sources if path.is_file()})
