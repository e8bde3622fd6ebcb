"""The trailers of a decision's commit, ``Key: value`` lines that tools look for in ``git log``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOTHING = "none"
"""Written where no model is stable."""
DECISION = "Sluice-Decision"
ENVIRONMENT = "Sluice-Environment"
CANDIDATE = "Sluice-Candidate"
STABLE = "Sluice-Stable"
BEFORE = "Sluice-Stable-Before"
AFTER = "Sluice-Stable-After"
RECORD = "Sluice-Record"


def trailers_of(decision: Mapping[str, Any], record: str | None = None) -> dict[str, str]:
    """
    Key → value of a decision as plain JSON, and of the digest of its record. The stable model on both sides of it is
    always told, so that one ``git log`` says when a digest lost its place.
    """
    before, after = ((decision.get(side) or {}).get("stable") or NOTHING for side in ("before", "after"))
    trailers = {
        DECISION: decision["id"],
        ENVIRONMENT: decision.get("environment"),
        CANDIDATE: decision.get("candidate"),
        STABLE: decision.get("stable"),
        BEFORE: before,
        AFTER: after,
        "Sluice-Evidence": decision.get("evidence_digest"),
        "Sluice-Policy": decision.get("policy_digest"),
        RECORD: record,
    }
    return {key: str(value) for key, value in trailers.items() if value}


def trailer(key: str, value: str | None) -> str:
    """As git prints it; also the beginning of one, where the value is."""
    return f"{key}: {value}"
