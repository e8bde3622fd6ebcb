"""The children of the local mode: model servers and the splitter, on loopback ports that the system chooses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import urllib3

from sluice.child_process import ChildServer
from sluice.errors import BadArtifact, BadInput
from sluice.workspace import Workspace

READY_TIMEOUT_S = 90.0


def log_directory(workspace: Workspace, environment: str) -> Path:
    """Where the servers of an environment append their prediction logs."""
    return workspace.predictions / environment / "log"


def reads_features(workspace: Workspace) -> bool:
    """Whether servers of the workspace have a feature store to read."""
    return (workspace.features / "registry.db").is_file()


def start_predictor(workspace: Workspace, environment: str | None, task: str, digest: str, role: str) -> ChildServer:
    """Start a model server on a bundle; with a feature store where there is one, with a log where an environment is."""
    short = digest.removeprefix("sha256:")[:12]
    command = [sys.executable, "-m", "sluice_serving.predictor", "--digest", digest]
    command += ["--bundle", str(workspace.bundle(digest))]
    command += ["--model_name", task, "--http_port", "0", "--role", role]
    if environment is not None:
        command += ["--log", str(log_directory(workspace, environment) / f"{short}.jsonl")]
    if reads_features(workspace):
        command += ["--store", str(workspace.features)]
    return ChildServer(command, workspace.home / "serving" / f"{short}.log")


def start_splitter(workspace: Workspace) -> ChildServer:
    """Start the splitter."""
    return ChildServer([sys.executable, "-m", "sluice_local.splitter"], workspace.home / "serving" / "splitter.log")


def ask(url: str, path: str, method: str = "GET", document: Any = None, timeout_s: float = 30.0) -> dict[str, Any]:
    """
    The JSON object that a child answers.

    Raises:
        BadInput: no answer, or a status other than 200.
    """
    try:
        answer = urllib3.request(method, url + path, json=document, timeout=timeout_s, retries=False)
    except urllib3.exceptions.HTTPError as error:
        raise BadInput(url + path, f"gives no answer ({error})", "look into serving/*.log of the workspace") from error
    if answer.status != 200:
        text = answer.data.decode("utf-8", "replace")[:200]
        raise BadInput(url + path, f"answers with status {answer.status}", text)
    parsed = answer.json()
    if not isinstance(parsed, dict):
        raise BadArtifact(url + path, "does not answer with an object", "see what listens there")
    return parsed
