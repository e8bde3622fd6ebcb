"""The cluster under test, by way of kubectl."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.support import patience

Object = dict[str, Any]


class Refused(AssertionError):
    """kubectl failed; the message is what the API server said."""


def kubectl(*arguments: str | Path, stdin: str | None = None) -> str:
    """What kubectl prints; raises ``Refused`` with what it says when it fails."""
    done = subprocess.run(
        ["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=180
    )
    if done.returncode:
        raise Refused(done.stderr.strip())
    return done.stdout


def apply(source: Path | list[Object], *more: str) -> list[str]:
    """
    Apply a kustomization or objects, server-side, with strict field validation: an unknown field is an error.

    Returns:
        One line an object.
    """
    options = ["apply", "--server-side", "--force-conflicts", "--validate=strict", *more]
    if isinstance(source, Path):
        return kubectl(*options, "-k", source).splitlines()
    return kubectl(*options, "-f", "-", stdin=yaml.safe_dump_all(source)).splitlines()


def render(directory: Path) -> list[Object]:
    """The objects of a kustomization."""
    return [found for found in yaml.load_all(kubectl("kustomize", directory), Loader=yaml.CSafeLoader) if found]


def get(*arguments: str) -> Object:
    """One object, or a list of objects, as the API server has it."""
    found: Object = json.loads(kubectl("get", "-o", "json", *arguments))
    return found


def namespaces() -> dict[str, Object]:
    """Labels of all namespaces, by name."""
    return {found["metadata"]["name"]: found["metadata"].get("labels", {}) for found in get("namespaces")["items"]}


def available(namespace: str, deployment: str) -> bool:
    """Whether a Deployment has all the pods that it wants, ready."""
    found = get("-n", namespace, "deployment", deployment)
    return bool(found["status"].get("availableReplicas") == found["spec"]["replicas"])


def wait_until(
    what: str, holds: Callable[[], Any], seconds: float = 90, progress: Callable[[], object] = lambda: None
) -> Any:
    """What ``holds`` returns once it is true; a refusal while waiting counts as not yet."""
    return patience.wait_until(what, holds, seconds, progress=progress, not_yet=(Refused,))
