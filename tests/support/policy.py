"""Policies of every shape, made from the sample's, and evidence for each stage of them."""

from __future__ import annotations

from typing import Any

from sluice.documents.evidence import Evidence
from sluice.documents.state import ReleaseState
from sluice.gates.policy import GatePolicy
from sluice.gates.roles import COMPARING
from tests.support.release import POLICY, evidence_of, failing, passing, unclear

_ONLINE = POLICY.model_dump(mode="json")["online"]
PREVIEW = {"maximum_hours": 72}


def policy_with(
    *,
    shadow: dict[str, Any] | None = None,
    canary: dict[str, Any] | None = None,
    blue_green: dict[str, Any] | None = None,
    confirm: dict[str, Any] | None = None,
    **online: Any,
) -> GatePolicy:
    """
    A policy with just these stages, each the sample's but for the given keys; confirm is always there, and compares
    only where stable answered before or still does.
    """
    given: dict[str, Any] = {"shadow": shadow, "canary": canary, "confirm": confirm or {}}
    if canary is None and "holdback" not in given["confirm"]:
        rules = [rule for rule in _ONLINE["confirm"]["rules"] if rule["role"] not in COMPARING]
        given["confirm"] = {"rules": rules} | given["confirm"]
    stages: dict[str, Any] = {name: None if keys is None else _ONLINE[name] | keys for name, keys in given.items()}
    stages["blue_green"] = None if blue_green is None else PREVIEW | blue_green
    document = POLICY.model_dump(mode="json") | {"online": _ONLINE | online | stages}
    return GatePolicy.model_validate(document)


def seen(kind: str, state: ReleaseState, now: str) -> Evidence:
    """PASS, FAIL or INCONCLUSIVE evidence about ``state``; a preview gets no requests, so it can only pass."""
    if state.stage == "preview":
        return evidence_of(state, n=0, now=now)
    return {"PASS": passing, "FAIL": failing, "INCONCLUSIVE": unclear}[kind](state, now)
