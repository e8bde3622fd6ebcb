"""Servers of our own that run as children on loopback: started, waited for, stopped, and never left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from sluice.errors import BadArtifact

POD_GRACE_S = 30.0
"""From SIGTERM to SIGKILL, as in a pod that says nothing else; more than any server of ours takes to end by itself."""
_READY = re.compile(rb"^ready (http://\S+)$", re.MULTILINE)


def end_with_stdin() -> None:
    """
    End this process at once when standard input ends.

    The parent holds the other end of the pipe, so it closes however the parent dies; PR_SET_PDEATHSIG would also fire
    when only the parent's thread that started us ends.
    """

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="end-with-stdin").start()


class ChildServer:
    """
    One child that prints ``ready http://<host>:<port>`` once it listens and ends when its standard input does.

    We hold the only other end of that input, so the child ends however we end, SIGKILL included.

    Args:
        command: what to run; it must know ``--end_with_stdin``.
        output: file that receives what the child prints; emptied first.
    """

    def __init__(self, command: Sequence[str], output: Path) -> None:
        output.parent.mkdir(parents=True, exist_ok=True)
        self.output = output
        self.name = Path(command[1] if len(command) > 1 else command[0]).name
        with output.open("wb") as stream:
            self._process = subprocess.Popen(
                [*command, "--end_with_stdin"],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                # A Ctrl-C at the terminal is for us; we stop the children in order.
                start_new_session=True,
                env=dict(os.environ, PYTHONUNBUFFERED="1"),
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def wait_ready(self, timeout_s: float) -> str:
        """
        The URL at which the child listens.

        Raises:
            BadArtifact: it ended or is not ready in time; with the last line that it printed.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            match = _READY.search(self.output.read_bytes())
            if match:
                return match.group(1).decode()
            if not self.alive:
                raise BadArtifact(self.name, f"ended with exit code {self._process.returncode}", self.last_line())
            time.sleep(0.02)
        raise BadArtifact(self.name, f"is not ready after {timeout_s:g} s", self.last_line())

    def last_line(self) -> str:
        """The last line of the child's output, for a message."""
        lines = self.output.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"see {self.output}"

    def ask_to_stop(self) -> None:
        """Send SIGTERM and return at once."""
        if self.alive:
            self._process.terminate()

    def stop(self, grace_s: float = POD_GRACE_S) -> str:
        """End the child and wait until it has ended; how it ended: ``exited``, ``SIGTERM`` or ``SIGKILL``."""
        how = "exited"
        if self.alive:
            how = "SIGTERM"
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                how = "SIGKILL"
                self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return how
