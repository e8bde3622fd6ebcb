"""
How an environment splits its traffic, by the options in its overlay, and what that cannot express.

The API server refuses the same, but only when it is applied; here it is refused before a commit, when the environment
is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sluice.errors import BadInput
from sluice.gates.policy import GatePolicy
from sluice.stages.registry import STAGES
from sluice.strict_yaml import read_yaml

_OPTIONS = "/options/"
_NO_MIRROR: Mapping[str, str] = {"kserve-canary": "KServe's spec.canary", "knative": "Knative's canaryTrafficPercent"}
"""Options under which one InferenceService splits by itself, by what: neither can copy requests."""
_NO_PREVIEW: Mapping[str, str] = {"knative": "Knative's revisions"}
"""Options under which the candidate has no host of its own."""
_APART = (("kserve-canary", "knative"), ("keda", "knative"))
"""Options of which one would be ignored beside the other."""


def options_of(kustomization: bytes, name: str) -> tuple[str, ...]:
    """
    The options that an overlay names as components, in order; ``name`` is how messages call its kustomization.

    Raises:
        BadInput: it is not a kustomization.
    """
    try:
        document = read_yaml(kustomization)
        components = [str(path) for path in document.get("components") or []]
    except (ValueError, AttributeError, TypeError) as error:
        raise BadInput(name, f"is not a kustomization ({error})", "restore it from an older commit") from error
    folders = [path.partition("?")[0] for path in components]  # a remote one names its commit behind it
    matches = [f"/{path.strip('/')}".rpartition(_OPTIONS) for path in folders]
    return tuple(option for _, mark, option in matches if mark)


def require_expressible(policy: GatePolicy, options: tuple[str, ...], policy_path: str, overlay_path: str) -> None:
    """
    Refuse what the options of an overlay would silently leave out of a release.

    Raises:
        BadInput: the policy has a stage that the traffic mode cannot render, or two options exclude each other.
    """
    for thing, rule, fix in _broken(policy, options, policy_path, overlay_path):
        raise BadInput(thing, rule, fix)


def _broken(
    policy: GatePolicy, options: tuple[str, ...], policy_path: str, overlay_path: str
) -> Iterator[tuple[str, str, str]]:
    for one, other in _APART:
        if one in options and other in options:
            rule = f"has both options {one} and {other}, and {other} would leave {one} without effect"
            yield f"{overlay_path}: components", rule, "keep one of them"
    mirrors = [stage.section for stage in STAGES.values() if stage.mirrors and stage.section_of(policy.online)]
    judging = [STAGES[name] for name in policy.online.stages]
    previews = [stage.section for stage in judging if not stage.has_traffic]
    for option in options:
        for key in mirrors if option in _NO_MIRROR else ():
            rule = f"mirrors requests, which {_NO_MIRROR[option]} cannot (option {option} in {overlay_path})"
            fix = f"leave {key} out, so that a rollout begins with canary or blue_green, or take the option out"
            yield f"{policy_path}: online.{key}", rule, fix
        for key in previews if option in _NO_PREVIEW else ():
            rule = f"asks of a preview, which {_NO_PREVIEW[option]} have not (option {option} in {overlay_path})"
            yield f"{policy_path}: online.{key}.rules", rule, "leave them out, or take the option out"
