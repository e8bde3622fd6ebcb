"""What a pipeline's steps wait for, where no node of the cluster has it: KFP shows a step that spins, and no log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def device_needs(compiled: Path) -> list[str]:
    """One line for people for each kind of device that steps of a compiled pipeline ask for."""
    spec, platform = (*yaml.load_all(compiled.read_text("utf-8"), yaml.CSafeLoader), {})[:2]
    settings = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    steps: dict[tuple[str, str], list[str]] = {}
    for label, executor in spec["deploymentSpec"]["executors"].items():
        if device := executor["container"].get("resources", {}).get("accelerator"):
            what = f"{device['resourceCount']} {device['resourceType']}", _selector(settings.get(label, {}))
            steps.setdefault(what, []).append(label.removeprefix("exec-"))
    return [
        f"{', '.join(sorted(names))}: each waits for a node with {device}, without a log while none is free; "
        f"which there are: kubectl get nodes -l {selector}"
        for (device, selector), names in sorted(steps.items())
    ]


def _selector(settings: dict[str, Any]) -> str:
    labels = settings.get("nodeSelector", {}).get("labels", {})
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
