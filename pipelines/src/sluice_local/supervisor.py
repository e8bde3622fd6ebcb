"""
Start the loop as a child process, show what it does, and start it again when it is killed.

The child does all the work; this process only watches. Once, in the middle of a canary, it kills the child itself:
the story shows that nothing is lost.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluice.content import write_json
from sluice.errors import SluiceError
from sluice.workspace import Workspace
from sluice_local.events import Tail
from sluice_local.home import MARK_VARIABLE, end_leftovers
from sluice_local.screen import Screen, parse

INTERRUPTED = "interrupted.json"
_MOST_STARTS = 3


class LoopFailedError(SluiceError):
    """The loop ended with an error of its own; the message is the loop's."""


@dataclass
class _LoopRun:
    """One child that runs the loop: what it says, and how it ended."""

    events: Tail
    log: Tail
    failure: dict[str, Any] | None = None
    finished: bool = False
    exit_code: int = 0
    """Negative where a signal ended the child."""


def supervise(workspace: Workspace, story: str, screen: Screen) -> None:
    """
    Run the loop to its end.

    Raises:
        LoopFailedError: the loop said that something is wrong, or died three times.
    """
    logs = workspace.home / "logs"
    logs.mkdir(exist_ok=True)
    for _ in range(_MOST_STARTS):
        left = end_leftovers(workspace)
        if left:
            screen.say(f"ended {left} processes of a killed run")
        run = _play_once(workspace, story, logs / "worker.log", screen)
        if run.finished:
            return
        if run.failure:
            failure = run.failure
            error = LoopFailedError(failure["thing"], failure["rule"], failure["fix"])
            error.exit_code = failure["exit_code"]
            raise error
        if run.exit_code >= 0:
            last_line = screen.last_line or "it said nothing; the disk may be full"
            raise LoopFailedError("the loop", f"ended with exit code {run.exit_code} ({last_line})", f"read {logs}")
        screen.say("the loop was killed; starting it again")
    raise LoopFailedError("sluice run", f"died {_MOST_STARTS} times", f"read {logs / 'worker.log'}")


def _play_once(workspace: Workspace, story: str, log: Path, screen: Screen) -> _LoopRun:
    events = workspace.home / "events.jsonl"
    events.unlink(missing_ok=True)
    with log.open("wb") as stream:
        child = subprocess.Popen(
            [sys.executable, "-m", "sluice_local.worker", str(workspace.home), story],
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.PIPE,  # its end tells the child that we are gone
            env={
                **os.environ,
                MARK_VARIABLE: str(workspace.home),
                "PYTHONUNBUFFERED": "1",
                "PYTHONUTF8": "1",
                "TZ": "UTC",  # Feast's SQLite store keeps local time
                "KERAS_HOME": str(workspace.home / "keras"),  # else Keras writes ~/.keras/keras.json
            },
        )
    run = _LoopRun(Tail(events), Tail(log))
    try:
        while child.poll() is None:
            _show(run, workspace, child, screen)
            time.sleep(0.1)
        _show(run, workspace, child, screen)
    finally:
        child.kill()
        run.exit_code = child.wait()
        end_leftovers(workspace)  # a pipeline step outlives the loop that started it
    return run


def _show(run: _LoopRun, workspace: Workspace, child: subprocess.Popen[bytes], screen: Screen) -> None:
    for line in run.log.lines():
        screen.log(line.decode(errors="replace"))
    for line in run.events.lines():
        event = parse(line)
        if event["kind"] == "failed":
            run.failure = event
        elif event["kind"] == "finished":
            run.finished = True
        elif _is_the_moment(event, workspace):
            write_json(workspace.home / INTERRUPTED, {key: event[key] for key in ("now", "weight", "window", "done")})
            screen.say(f"SIGKILL in the middle of the canary, at {event['weight']} % and {event['done']} requests")
            child.kill()
        screen.show(event)


def _is_the_moment(event: dict[str, Any], workspace: Workspace) -> bool:
    return (
        event["kind"] == "traffic"
        and bool(event["interrupt"])
        and event["stage"] == "canary"
        and event["done"] * 10 >= event["total"] * 4
        and not (workspace.home / INTERRUPTED).exists()
    )
