"""What a project has to know of each version of the platform; a release adds its lines."""

from __future__ import annotations

CHANGES: tuple[tuple[str, str], ...] = (("0.1.0", "repositories of one's own begin: sluice.yaml, `sluice init`"),)
