"""
How a step ended, in one line: its log's last one, and what Kubernetes keeps of its pod (the termination message).

The note of a run is made of these lines, whatever KFP keeps of a step.
"""

from __future__ import annotations

import contextlib
import re
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

TERMINATION_LOG = Path("/dev/termination-log")
"""In a container: what is written here is its termination message."""
_MOST = 4096
"""Bytes that Kubernetes keeps of it."""
_LINE = re.compile(r"sluice: (\w+): (.*)", re.DOTALL)


class EndingKind(StrEnum):
    """Of a step that did what it is for; what stops a step is called by its error's type."""

    DONE = "Done"
    REFUSED = "Refused"
    """A rule forbids to go on: nothing is broken."""
    NOT_DUE = "NotDue"


@dataclass(frozen=True)
class StepEnding:
    """
    Of one step of a run.

    Attributes:
        step: its name in the graph.
        failed: its pod ended so.
        kind: an ``EndingKind``, an error's type, or nothing where the step said no line.
        text: its own words; where it had none, why its pod ended.
    """

    step: str
    failed: bool
    kind: str
    text: str

    @classmethod
    def of_message(cls, step: str, message: str, *, failed: bool, cause: str = "") -> StepEnding:
        """From a termination message; ``cause`` is what is known without one."""
        line = _LINE.fullmatch(message.strip())
        return cls(step, failed, *(line.groups() if line else ("", message.strip() or cause)))


def say(kind: str, text: str) -> None:
    """End the step's log with its line, and leave that as the pod's termination message."""
    line = f"sluice: {kind}: {' '.join(text.split())}"
    sys.stdout.flush()
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
    keep(line)


def keep(line: str) -> None:
    """Leave a line as the pod's termination message; without a word where this is no container."""
    with contextlib.suppress(OSError):
        if TERMINATION_LOG.exists():
            TERMINATION_LOG.write_bytes(line.encode()[:_MOST])
