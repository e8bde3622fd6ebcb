"""Read back by kubectl, without Argo CD, what is in effect once a rollout is over: for environments applied by hand."""

from __future__ import annotations

import json
import re
from typing import Any

from sluice.documents.state import Applied, ReleaseState
from sluice_cluster.routes import split_of
from sluice_cluster.waves import hindrance, kubectl

_ADDRESS = re.compile(r".*/sha256-([0-9a-f]{64})")


def read_by_hand(state: ReleaseState, namespace: str) -> Applied:
    """
    The route's weights and mirror, and the digest that stable serves by all its pods.

    Where one InferenceService splits by itself there is no route of ours, so nothing that is read is as decided.

    Raises:
        BadInput: kubectl is missing, or the API server refuses.
        NotApplied: a gateway has not taken the route over, or nobody can say what it does.
    """
    weights, mirror = split_of(_get(namespace, "httproute")["items"], state.task)
    services = {each["metadata"]["name"]: each for each in _get(namespace, "inferenceservice")["items"]}
    share = {side: weights.get(f"{state.task}-{side}-predictor", 0) for side in ("stable", "candidate")}
    return Applied(
        commit="",
        stable=_served(services.get(f"{state.task}-stable")),
        candidate=None,
        stable_weight=share["stable"],
        candidate_weight=share["candidate"],
        mirror_percent=mirror,
    )


def _served(service: dict[str, Any] | None) -> str | None:
    """A server is ready only while the digest of its address is the one that it has loaded."""
    if service is None or hindrance(service):
        return None
    address = service["spec"]["predictor"].get("model", {}).get("storageUri", "")
    matched = _ADDRESS.fullmatch(address)
    return f"sha256:{matched[1]}" if matched else None


def _get(namespace: str, kind: str) -> Any:
    return json.loads(kubectl("-n", namespace, "get", kind, "-o", "json"))
