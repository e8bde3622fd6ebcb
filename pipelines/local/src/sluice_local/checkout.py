"""The checkout that this package was installed from: definitions, manifests, pipelines and the server's script."""

from __future__ import annotations

import sys
from pathlib import Path

from sluice.content import digest_of_files
from sluice.errors import BadInput

ROOT = Path(__file__).resolve().parents[4]
FEATURE_REPO = ROOT / "feature_repo"
MANIFESTS = ROOT / "manifests"
SERVER = ROOT / "serving" / "predictor.py"


def make_importable() -> None:
    """
    Let ``components`` and ``pipelines`` be imported; they are never installed.

    Raises:
        BadInput: this is not an editable installation of a checkout.
    """
    if not (ROOT / "pipelines" / "training.py").exists():
        raise BadInput(str(ROOT), "is not a checkout of Sluice", "run `make run` in a clone")
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))


def code_digest() -> str:
    """One digest of everything that can change a bundle: the core's sources, the components and the lock file."""
    sources = [*(ROOT / "components").rglob("*.py"), *FEATURE_REPO.glob("*"), ROOT / "uv.lock"]
    return digest_of_files({str(path.relative_to(ROOT)): path for path in sources if path.is_file()})
