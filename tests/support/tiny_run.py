"""Run ``sluice`` on the tiny story as a person would: a process of its own, in a home of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import psutil

from sluice.gitops.writer import GitOps
from sluice.workspace import Workspace
from sluice_local.home import MARK_VARIABLE
from tests.support import command
from tests.support.command import SLUICE
from tests.support.forked import AS_A_LOOP
from tests.support.tiny_story import STORY

ROOT = Path(__file__).resolve().parents[2]
STORY_NAME = "tests.support.tiny_story:STORY"
BROKEN_NAME = "tests.support.tiny_story:BROKEN"
RUN = ("run", "--story", STORY_NAME)
_AS_A_LOOP = [sys.executable, "-c", AS_A_LOOP + command.MAIN]


def environment(home: Path, **more: str) -> dict[str, str]:
    """Environment of a ``sluice`` process: the story is found in the checkout, the state goes to ``home``."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "SLUICE_HOME": str(home), "PYTHONPATH": path, "COLUMNS": "200", **more}


def sluice(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a ``sluice`` command to its end, from a directory that is not the checkout; a run is forked as a loop."""
    if arguments[0] != "run":
        variables = {name: value for name, value in environment(home, **more).items() if not name.startswith("PYTHON")}
        return command.sluice(*arguments, env=variables, cwd=home.parent)
    return _run(*arguments, env=environment(home, **more), cwd=home.parent)


def start(home: Path, log: Path, *, forked: bool = False, **more: str) -> subprocess.Popen[bytes]:
    """Start ``sluice run`` on the story and return at once; ``log`` receives what it prints."""
    program = _AS_A_LOOP if forked else [str(SLUICE)]
    with log.open("ab") as stream:
        return subprocess.Popen(
            [*program, *RUN],
            env=environment(home, **more),
            cwd=home.parent,
            stdout=stream,
            stderr=subprocess.STDOUT,
            # A shell's background job ignores Ctrl-C, and so would everything that it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )


@dataclass(frozen=True)
class Ended:
    """A home in which the story ended."""

    home: Path
    seconds: float
    output: str
    cwd: Path
    """Directory that it was started from."""
    person: Path
    """What ``HOME`` was."""
    checkout_before: frozenset[str]
    checkout_after: frozenset[str]

    @property
    def workspace(self) -> Workspace:
        """Its folders."""
        return Workspace(self.home)


def play(root: Path) -> Ended:
    """Play the story undisturbed below ``root``, forked as a loop: ``start`` begins one that is not."""
    home, cwd, person = (root / name for name in ("home", "cwd", "person"))
    cwd.mkdir()
    person.mkdir()
    before = checkout_status()
    began = time.monotonic()
    done = _run(*RUN, env=environment(home, HOME=str(person)), cwd=cwd)
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr + worker_log(home)
    return Ended(home, seconds, done.stdout, cwd, person, before, checkout_status())


def _run(*arguments: str, env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*_AS_A_LOOP, *arguments], env=env, cwd=cwd, capture_output=True, text=True, check=False)


def worker_log(home: Path) -> str:
    """The end of what the loop printed, for a message."""
    path = home / "logs" / "worker.log"
    return path.read_text("utf-8", "replace")[-3000:] if path.exists() else ""


_OF_TOOLS = ("__pycache__", "_cache/", ".hypothesis/", ".ci-prepared", ".ci-started")


def checkout_status() -> frozenset[str]:
    """Untracked and ignored files of the checkout, without what Python and the tools of the tests keep."""
    done = subprocess.run(
        ["git", "status", "--porcelain", "--ignored", "--untracked-files=all"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return frozenset(line for line in done.stdout.splitlines() if not any(tool in line for tool in _OF_TOOLS))


def end_state(home: Path) -> dict[str, Any]:
    """All that two runs of the story must agree on."""
    workspace = Workspace(home)
    gitops = GitOps(workspace.gitops, STORY.environment)
    overlay = f"manifests/overlays/{STORY.environment}"
    decisions = gitops.decisions()
    windows = sorted((workspace.predictions / STORY.environment).glob("*.parquet"))
    return {
        "release": gitops.file(f"{overlay}/release/kustomization.yaml"),
        "holds": gitops.file(f"{overlay}/release/holds.yaml"),
        "decisions": [(made.id, made.action, made.verdict, made.candidate, made.now) for made in decisions],
        "bundles": sorted(path.name for path in workspace.bundles.glob("sha256-*")),
        "windows": {path.name: rows(path) for path in windows},
        "endings": {path.parent.name: path.read_bytes() for path in sorted(home.glob("runs/*/chapter.json"))},
        "looks": {path.parent.name: path.read_bytes() for path in sorted(home.glob("runs/*/looks.jsonl"))},
    }


def rows(window: Path) -> list[tuple[Any, ...]]:
    """Rows of a window of predictions; how long an answer took is never the same twice."""
    return pl.read_parquet(window).drop("latency_ms").rows()


def processes_of(home: Path) -> list[str]:
    """Command lines of the processes that runs of a home started and that still live."""
    return list(variables_of_processes(home))


def variables_of_processes(home: Path) -> dict[str, dict[str, str]]:
    """Command line → environment of each process that runs of a home started and that still lives."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            variables = process.environ()
            if variables.get(MARK_VARIABLE) == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found[" ".join(process.cmdline())] = variables
    return found


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
