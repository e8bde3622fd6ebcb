"""
An environment applied by hand in the order of Argo CD: a wave, a wait until its servers are ready, the next.

    wave 0  namespace, policies … ─► 1  stable ─► 2 … ─► 3  candidate ─► 3  the route ─► what is no longer named

By kubectl, as the person who calls this. A server that never gets ready keeps the route as it is; a route that no
gateway takes over keeps every server.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from sluice.errors import BadInput, Unavailable
from sluice_cluster.routes import awaited

Manifest = dict[str, Any]
_WAVE = "argocd.argoproj.io/sync-wave"
_SERVERS = "app.kubernetes.io/part-of=sluice,app.kubernetes.io/name=model-server"
_PAUSE_S = 1.0
_SETTLED_S = 2.0
"""A node may learn the address of a server this long after it is ready; Argo CD waits as long after each wave."""
_ACCEPTED_S = 60.0
"""A gateway says within seconds what it makes of a route; one that is not there never does."""


def waves(objects: Sequence[Manifest]) -> list[list[Manifest]]:
    """The objects in the order in which they are applied; a route comes after the servers of its wave."""
    turns = sorted({_turn(each) for each in objects})
    return [[each for each in objects if _turn(each) == turn] for turn in turns]


def hindrance(service: Manifest) -> str:
    """What an InferenceService still needs to serve its newest spec by all its pods; empty where nothing."""
    status = service.get("status", {})
    conditions = [each for each in status.get("conditions", []) if each["type"] != "Stopped"]
    one_deployment = service["metadata"].get("annotations", {}).get("serving.kserve.io/autoscalerClass") == "none"
    if not conditions or (one_deployment and status.get("observedGeneration", 0) < service["metadata"]["generation"]):
        return "a status of its newest spec"
    for each in conditions:
        if each["status"] != "True" or each.get("reason") == "MinimumReplicasAvailable":
            return f"{each['type']}: {each.get('message') or each.get('reason') or each['status']}"
    return ""


def apply_in_waves(directory: Path, timeout_s: float, say: Callable[[str], None]) -> None:
    """
    Apply a kustomization wave by wave, and take away the model servers of its namespace that it no longer names.

    Args:
        timeout_s: for the servers of one wave to get ready.
        say: gets a line a wave.

    Raises:
        BadInput: kubectl is missing, the kustomization does not build, or the API server refuses an object.
        Unavailable: a server does not get ready in time, or no gateway takes the route over; what follows was not done.
    """
    objects = [each for each in yaml.safe_load_all(kubectl("kustomize", str(directory))) if each]
    for wave in waves(objects):
        kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(wave))
        say(f"applied {', '.join(_name(each) for each in wave)}")
        servers = [each for each in wave if _serves(each)]
        for each in servers:
            _wait(each, timeout_s)
        if servers:
            time.sleep(_SETTLED_S)
        for each in wave:
            if each["kind"] == "HTTPRoute":
                _wait_for_gateway(each, min(timeout_s, _ACCEPTED_S))
    for name in _unnamed(objects):
        say(f"removed {name}")


def _turn(manifest: Manifest) -> tuple[int, bool]:
    wave = manifest["metadata"].get("annotations", {}).get(_WAVE, "0")
    return int(wave), manifest["kind"] == "HTTPRoute"


def _name(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def _wait(service: Manifest, timeout_s: float) -> None:
    if missing := _still_missing(service, hindrance, timeout_s):
        rule = f"is not ready after {timeout_s:g} s, waits for {missing}"
        fix = "see its pods; no route and no later wave was applied, so requests go as before"
        raise Unavailable(f"InferenceService {_place(service)}", rule, fix)


def _wait_for_gateway(route: Manifest, timeout_s: float) -> None:
    if missing := _still_missing(route, awaited, timeout_s):
        parents = [f"{ref.get('namespace', '')}/{ref['name']}" for ref in route["spec"]["parentRefs"]]
        rule = f"is not taken over by Gateway {', '.join(parents)} after {timeout_s:g} s, waits for {missing}"
        fix = "see `kubectl get gateway -A`; ConfigMap environment names another by gateway and gateway-namespace"
        raise Unavailable(f"HTTPRoute {_place(route)}", rule, fix)


def _still_missing(manifest: Manifest, missing: Callable[[Manifest], str], timeout_s: float) -> str:
    """What an object in the cluster lacks when the time is over; empty as soon as it lacks nothing."""
    metadata, end = manifest["metadata"], time.monotonic() + timeout_s
    get = ("-n", metadata["namespace"], "get", manifest["kind"].lower(), metadata["name"], "-o", "json")
    while lacks := missing(json.loads(kubectl(*get))):
        if time.monotonic() > end:
            return lacks
        time.sleep(_PAUSE_S)
    return ""


def _place(manifest: Manifest) -> str:
    return f"{manifest['metadata']['namespace']}/{manifest['metadata']['name']}"


def _unnamed(objects: Sequence[Manifest]) -> Iterator[str]:
    """Remove what serves in the namespace of these objects and is not among them; yields what it was."""
    namespaces = {each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"}
    names = {(each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects if _serves(each)}
    for namespace in sorted(namespaces):
        listed = json.loads(kubectl("-n", namespace, "get", "inferenceservice", "-l", _SERVERS, "-o", "json"))
        for name in (each["metadata"]["name"] for each in listed["items"]):
            if (namespace, name) not in names:
                kubectl("-n", namespace, "delete", "inferenceservice", name)
                yield f"InferenceService/{name}"


def _serves(manifest: Manifest) -> bool:
    return bool(manifest["kind"] == "InferenceService")


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """
    Standard output of kubectl, as the person who calls this.

    Raises:
        BadInput: there is none, or it ends with an error.
    """
    try:
        done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BadInput("kubectl", "is not on PATH", "install kubectl 1.31 or newer") from error
    if done.returncode:
        rule = " ".join(done.stderr.split())[-380:] or f"ended with {done.returncode}"
        raise BadInput(f"kubectl {' '.join(arguments[:4])}", rule, "mend that, and apply again")
    return done.stdout
