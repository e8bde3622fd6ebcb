"""Where a local installation keeps its state: everything under ``.sluice/`` or ``SLUICE_HOME``, nothing elsewhere."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """The folders below one home directory."""

    home: Path

    @classmethod
    def from_environment(cls) -> Workspace:
        """``SLUICE_HOME``, or ``.sluice`` below the current directory."""
        return cls(Path(os.environ.get("SLUICE_HOME") or ".sluice").absolute())

    @property
    def gitops(self) -> Path:
        """The bare Git repository that plays the GitOps remote."""
        return self.home / "gitops.git"

    @property
    def bundles(self) -> Path:
        """Content-addressed bundles: ``bundles/sha256-<hex>/``."""
        return self.home / "bundles"

    @property
    def pipelines(self) -> Path:
        """Outputs of KFP's local runner."""
        return self.home / "pipelines"

    @property
    def features(self) -> Path:
        """Feast's registry, offline tables and online store."""
        return self.home / "features"

    @property
    def predictions(self) -> Path:
        """The prediction log: one parquet file a window of event time."""
        return self.home / "predictions"

    @property
    def reports(self) -> Path:
        """What people look at."""
        return self.home / "reports"

    @property
    def lock(self) -> Path:
        """Held by the one ``sluice run`` that may write here."""
        return self.home / "lock"

    def bundle(self, digest: str) -> Path:
        """The directory of the bundle with this digest."""
        return bundle_directory(self.bundles, digest)


def bundle_directory(store: Path, digest: str) -> Path:
    """Where a content-addressed store keeps the bundle with this digest (``sha256:<hex>``)."""
    return store / digest.replace(":", "-")
