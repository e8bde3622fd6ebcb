"""
The two machine-written files of an environment: the release file and the holds.

The release file is a kustomize Component, so that ``kubectl apply -k`` and Argo CD read the state itself and no copy
of it. Its literals become a ConfigMap; the strategy that it names carries them into the objects.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sluice.documents.state import Hold, ReleaseState, refusal
from sluice.errors import BadArtifact
from sluice.stages.registry import STAGES
from sluice.stages.stage import CANDIDATE_ROLE, LEFTOVER_ROLE, SIDES
from sluice.strict_yaml import read_yaml

_FIX = "restore the file from its last commit; only Sluice writes it"
_STRATEGIES = "../../../strategies"
_PAUSED, _ARMS, _BLOCK_HOURS = "paused", "arms", "block-hours"
"""Written only where it is so: a file of an older version without the key reads, and stays, byte for byte the same."""
_TEXTS = ("task", "environment", "rollout", "stage", "since", "stable", "candidate")
_NUMBERS = ("sequence", "step", "stable-weight", "candidate-weight", "mirror-percent")
_BUNDLES = ("stable-bundle", "candidate-bundle")
"""Digests as they are spelt in a storage address."""
_HOLDS = TypeAdapter(tuple[Hold, ...])


def render_release(state: ReleaseState, folders: Collection[str] = ()) -> bytes:
    """
    The release file: equal states give equal bytes. Holds are in their own file.

    Args:
        folders: of strategies that the repository has; one of an older version may lack what a stage is rendered by
            now. By default all of today's.
    """
    every = STAGES[state.stage].renderings
    return _text_of(state, next((one for one in every if one in folders), every[0]))


def renderings(state: ReleaseState) -> tuple[bytes, ...]:
    """The release file as it is written, then as older versions wrote it."""
    return tuple(_text_of(state, folder) for folder in STAGES[state.stage].renderings)


def _text_of(state: ReleaseState, folder: str | None) -> bytes:
    lines = [
        "# Sluice writes this file: one commit a decision. Change it with `sluice`, not by hand.",
        "apiVersion: kustomize.config.k8s.io/v1alpha1",
        "kind: Component",
        *([f"components: [{_STRATEGIES}/{folder}]"] if folder else []),
        "configMapGenerator:",
        "- name: release",
        "  literals:",
        *(f"  - {json.dumps(f'{key}={value}')}" for key, value in _literals(state).items()),
        "  options:",
        "    disableNameSuffixHash: true",
    ]
    return ("\n".join(lines) + "\n").encode()


def _literals(state: ReleaseState) -> dict[str, str]:
    values = {key: value for key, value in state.model_dump().items() if key not in ("holds", _PAUSED, _ARMS)}
    plain = {key.replace("_", "-"): "" if value is None else str(value) for key, value in values.items()}
    plain |= {_PAUSED: "true"} if state.paused else {}
    others = [arm.model_dump() for arm in state.rivals if arm.role not in SIDES]
    plain |= {_ARMS: json.dumps(others)} if others else {}
    plain |= {CANDIDATE_ROLE: state.leftover} if state.leftover else {}  # what the candidate's server goes on serving
    return plain | {f"{side}-bundle": plain[side].replace(":", "-") for side in SIDES}


def parse_release(text: bytes, name: str, holds: tuple[Hold, ...] = ()) -> ReleaseState:
    """
    The state in a release file; ``name`` is how messages call the file.

    Raises:
        BadArtifact: a hand edit into nonsense; names the file, the key, the rule and the fix.
    """
    document = _mapping(text, name)
    _only(document, {"apiVersion", "kind", "components", "configMapGenerator"}, name)
    values = _read_literals(document, name)
    state = state_of_literals(values, name, holds)
    _agree(document, values, state, name)
    if text not in renderings(state):
        raise BadArtifact(name, "is not what Sluice writes for this state (edited by hand?)", _FIX)
    return state


def state_of_literals(values: Mapping[str, str], name: str, holds: tuple[Hold, ...] = ()) -> ReleaseState:
    """
    The state in the literals of a release file, which in a cluster are the ConfigMap ``release``.

    Raises:
        BadArtifact: names the key that is missing or means nothing.
    """
    if missing := sorted({*_TEXTS, *_NUMBERS} - set(values)):
        raise BadArtifact(f"{name}: {missing[0]}", "is missing", _FIX)
    fields: dict[str, Any] = {key: values[key] or None for key in _TEXTS}
    fields |= {key.replace("-", "_"): _number(values[key], f"{name}: {key}") for key in _NUMBERS}
    fields |= {_PAUSED: _PAUSED in values}
    fields |= {"block_hours": _hours(values[_BLOCK_HOURS], f"{name}: {_BLOCK_HOURS}")} if _BLOCK_HOURS in values else {}
    try:
        fields |= {_ARMS: json.loads(values[_ARMS])} if _ARMS in values else {}
    except ValueError as error:
        raise BadArtifact(f"{name}: {_ARMS}", f"is not JSON ({error})", _FIX) from error
    if (stage := STAGES.get(values["stage"])) and LEFTOVER_ROLE in stage.roles:
        fields |= {CANDIDATE_ROLE: None, _ARMS: [{"role": LEFTOVER_ROLE, "digest": fields[CANDIDATE_ROLE]}]}
    try:
        return ReleaseState.model_validate(fields | {"holds": holds})
    except ValidationError as error:
        raise refusal(name, error) from error


def _agree(document: dict[str, Any], values: dict[str, str], state: ReleaseState, name: str) -> None:
    for key in _BUNDLES:
        if values[key] != _literals(state)[key]:
            raise BadArtifact(f"{name}: {key}", f"is {values[key]!r}, the digest says {_literals(state)[key]!r}", _FIX)
    every = [[f"{_STRATEGIES}/{folder}"] if folder else [] for folder in STAGES[state.stage].renderings]
    if (parts := document.get("components", [])) not in every:
        raise BadArtifact(f"{name}: components", f"is {str(parts)[:100]}, stage {state.stage} needs {every[0]}", _FIX)


def _read_literals(document: dict[str, Any], name: str) -> dict[str, str]:
    try:
        (generator,) = document["configMapGenerator"]
        pairs = [str(literal).split("=", 1) for literal in generator["literals"]]
        values = dict(pairs)
    except (KeyError, TypeError, ValueError) as error:
        raise BadArtifact(f"{name}: configMapGenerator", "is not one ConfigMap of key=value literals", _FIX) from error
    required = {*_TEXTS, *_NUMBERS, *_BUNDLES}
    _only(values, required | {_PAUSED, _ARMS, _BLOCK_HOURS}, name)
    if values.get(_PAUSED, "true") != "true":
        raise BadArtifact(f"{name}: {_PAUSED}", f"is 'true' or absent, got {values[_PAUSED]!r}", _FIX)
    if missing := sorted(required - set(values)):
        raise BadArtifact(f"{name}: {missing[0]}", "is missing", _FIX)
    if len(pairs) != len(values):
        raise BadArtifact(f"{name}: configMapGenerator", "has a key twice", _FIX)
    return values


def render_holds(holds: tuple[Hold, ...]) -> bytes:
    """``holds.yaml``: a list in the order in which the holds were put."""
    head = (
        "# Sluice writes this file. `sluice hold add` and `sluice hold release` change it, with a name and a reason.\n"
    )
    rows = [
        "- "
        + "\n  ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in hold.model_dump().items())
        for hold in holds
    ]
    return (head + ("holds:\n" + "\n".join(rows) if rows else "holds: []") + "\n").encode()


def parse_holds(text: bytes, name: str) -> tuple[Hold, ...]:
    """
    The holds in ``holds.yaml``.

    Raises:
        BadArtifact: not a list of complete holds, or one digest held twice.
    """
    document = _mapping(text, name)
    _only(document, {"holds"}, name)
    try:
        holds = _HOLDS.validate_python(document.get("holds"))
    except ValidationError as error:
        raise refusal(name, error) from error
    if len({hold.digest for hold in holds}) != len(holds):
        raise BadArtifact(f"{name}: holds", "has one digest twice", _FIX)
    return holds


def _mapping(text: bytes, name: str) -> dict[str, Any]:
    try:
        document = read_yaml(text)
    except ValueError as error:
        raise BadArtifact(name, str(error), _FIX) from error
    if not isinstance(document, dict):
        raise BadArtifact(name, "is not a mapping", _FIX)
    return document


def _only(mapping: dict[str, Any], known: set[str], name: str) -> None:
    if unknown := sorted(str(key) for key in mapping if key not in known):
        raise BadArtifact(f"{name}: {unknown[0]}", "is an unknown key", _FIX)


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise BadArtifact(name, f"is not a whole number, got {text!r}", _FIX)
    return int(text)


def _hours(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise BadArtifact(name, f"is no number of hours, got {text!r}", _FIX) from error
