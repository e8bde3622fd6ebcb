"""
The pod that KFP makes of a step, from the compiled pipeline: the executor's container and its platform settings.

As KFP 2.17's driver and launcher were seen to do it: scratch volumes where the launcher keeps artifacts, non-root, all
capabilities dropped, the runtime's seccomp profile. Argo's own containers beside it are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sluice_pipelines.inputs import default_policy
from tests.support.cluster.kubectl import get

SCRATCH = ("/minio", "/s3", "/gcs", "/.local", "/.cache", "/.config")
"""Folders that the launcher mounts empty."""
_EXECUTOR_INPUT = "{{$}}"


def steps_of(compiled: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Container and platform settings of each executor, by its name without ``exec-``."""
    spec, platform = (*yaml.load_all(compiled.read_text("utf-8"), Loader=yaml.CSafeLoader), {})[:2]
    settings = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    return {
        name.removeprefix("exec-"): (executor["container"], settings.get(name, {}))
        for name, executor in spec["deploymentSpec"]["executors"].items()
    }


def pod_of(
    name: str, step: tuple[dict[str, Any], dict[str, Any]], image: str = "", executor_input: Mapping[str, Any] = {}
) -> dict[str, Any]:
    """
    The pod.

    Args:
        step: of ``steps_of``.
        image: runs instead of the step's own.
        executor_input: what the driver would resolve; the placeholder where a pod is only to be admitted.
    """
    container, settings = step
    volumes: dict[str, tuple[str, dict[str, Any]]] = {
        f"scratch-{number}": (path, {"emptyDir": {}}) for number, path in enumerate(SCRATCH)
    }
    volumes |= _volumes(settings)
    given = json.dumps(executor_input) if executor_input else _EXECUTOR_INPUT
    main = {
        "name": "main",
        "image": image or container["image"],
        "command": container["command"],
        "args": [given if arg == _EXECUTOR_INPUT else arg for arg in container["args"]],
        "env": [*container.get("env", []), *_environment(settings)],
        "resources": _resources(container.get("resources", {})),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            **_security(settings),
        },
        "volumeMounts": [{"name": volume, "mountPath": path} for volume, (path, _) in volumes.items()],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": settings.get("podMetadata", {}).get("labels", {})},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "activeDeadlineSeconds": int(settings["activeDeadlineSeconds"]),
            "imagePullSecrets": [{"name": secret["secretName"]} for secret in settings.get("imagePullSecret", [])],
            "nodeSelector": settings.get("nodeSelector", {}).get("labels", {}),
            "tolerations": settings.get("tolerations", []),
            "containers": [main],
            "volumes": [{"name": volume, **source} for volume, (_, source) in volumes.items()],
        },
    }


def executor_input(
    values: Mapping[str, Any], made: Mapping[str, str] = {}, given: Mapping[str, str] = {}
) -> dict[str, Any]:
    """
    What KFP's driver gives to a step.

    Args:
        values: its parameters.
        made: schema of each artifact that it makes, by name.
        given: URI of each artifact that it reads, by name.
    """
    root = "minio://mlpipeline/v2/artifacts/run"
    outputs = {name: _artifact(name, f"{root}/{name}", schema) for name, schema in made.items()}
    return {
        "inputs": {
            "parameterValues": dict(values),
            "artifacts": {name: _artifact(name, uri) for name, uri in given.items()},
        },
        "outputs": {
            "parameters": {
                name: {"outputFile": f"/tmp/kfp/outputs/{name}"}  # noqa: S108  the pod's own
                for name in ("Output", "passed", "reason")
            },
            "artifacts": outputs,
            "outputFile": "/tmp/kfp_outputs/output_metadata.json",  # noqa: S108
        },
    }


def _artifact(name: str, uri: str, schema: str = "system.Artifact") -> dict[str, Any]:
    kind = {"schemaTitle": schema, "schemaVersion": "0.0.1"}
    return {"artifacts": [{"name": name, "type": kind, "uri": uri, "metadata": {}}]}


def check_values(**changes: Any) -> dict[str, Any]:
    """Parameters of a run's first step, in the image of the steps."""
    policy = default_policy()
    return {
        **dict.fromkeys(("recipe", "policy", "gitops", "bundles", "now", "run", "source", "checkpoints"), ""),
        "task": policy.task,
        "environment": policy.environment,
        "production": "stable",
        "distribution": "single",
        "checkpoint_every": 1,
        "feature_repo": "/app/feature_repo",
        "overlays": "/app/manifests/overlays",
        "job_name": "by-hand",
        "job_id": "1",
        **changes,
    }


def ended(namespace: str, name: str) -> str:
    """The phase in which a pod ended, or nothing."""
    phase: str = get("-n", namespace, "pod", name)["status"].get("phase", "")
    return phase if phase in {"Succeeded", "Failed"} else ""


def _volumes(settings: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for mount in settings.get("emptyDirMounts", []):
        kept = {key: mount[key] for key in ("medium", "sizeLimit") if key in mount}
        found[mount["volumeName"]] = mount["mountPath"], {"emptyDir": kept}
    for mount in settings.get("secretAsVolume", []):
        source = {"secretName": mount["secretName"], "optional": mount["optional"]}
        found[mount["secretName"]] = mount["mountPath"], {"secret": source}
    for mount in settings.get("pvcMount", []):
        found["claim"] = mount["mountPath"], {"persistentVolumeClaim": {"claimName": "training"}}
    return found


def _environment(settings: dict[str, Any]) -> list[dict[str, Any]]:
    kinds = (("secretAsEnv", "secretName", "secretKey"), ("configMapAsEnv", "configMapName", "configMapKey"))
    return [
        {
            "name": one["envVar"],
            "valueFrom": {
                f"{key}Ref": {"name": source[name], "key": one[key], "optional": source.get("optional", False)}
            },
        }
        for kind, name, key in kinds
        for source in settings.get(kind, [])
        for one in source["keyToEnv"]
    ]


def _resources(resources: dict[str, Any]) -> dict[str, Any]:
    found = {
        kind: {"cpu": resources[f"resourceCpu{name}"], "memory": resources[f"resourceMemory{name}"]}
        for kind, name in (("requests", "Request"), ("limits", "Limit"))
    }
    if device := resources.get("accelerator"):
        for amounts in found.values():
            amounts[device["resourceType"]] = device["resourceCount"]
    return found


def _security(settings: dict[str, Any]) -> dict[str, Any]:
    context = settings.get("securityContext", {})
    numbers = {key: int(context[key]) for key in ("runAsUser", "runAsGroup") if key in context}
    return {"runAsNonRoot": context.get("runAsNonRoot", True), **numbers}
