"""Waiting for what other processes do, by events and progress: a busy machine is slow, never wrong."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import psutil

from sluice.child_process import ChildServer
from sluice.errors import BadArtifact

T = TypeVar("T")


def wait_until(
    what: str,
    holds: Callable[[], T],
    seconds: float = 60,
    *,
    progress: Callable[[], object] = lambda: None,
    not_yet: tuple[type[BaseException], ...] = (),
) -> T:
    """
    What ``holds`` returns as soon as that is true.

    Args:
        what: for the message of a failure.
        seconds: without any progress, after which it fails.
        progress: what changes as long as something goes on, such as a count; the patience begins anew with each change.
        not_yet: errors of ``holds`` that mean no.

    Raises:
        AssertionError: it did not become true.
    """
    end, last, before, pause = time.monotonic() + seconds, "", progress(), 0.02
    while True:
        try:
            if found := holds():
                return found
        except not_yet as error:
            last = f"; {error}"
        if (now := progress()) != before:
            end, before = time.monotonic() + seconds, now
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s{last}"
        time.sleep(pause)
        pause = min(1.2 * pause, 1.0)  # who asks all the time slows down what it waits for


def work_of(pid: int) -> float:
    """Processor seconds that a process and its living children have had: they change as long as it is not stuck."""
    spent = 0.0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            times = each.cpu_times()
            spent += times.user + times.system + times.children_user + times.children_system
    return spent


def url_of(child: ChildServer) -> str:
    """
    Where a server of ours listens, as soon as it does.

    Raises:
        BadArtifact: it ended.
        AssertionError: it is stuck.
    """

    def url() -> str:
        try:
            return child.wait_ready(0.02)
        except BadArtifact:
            if child.alive:
                return ""
            raise

    return wait_until(f"{child.name} is ready", url, progress=lambda: work_of(child.pid))


def code_of(process: subprocess.Popen[bytes]) -> int:
    """
    The exit code of a process whose output goes elsewhere.

    Raises:
        AssertionError: it is stuck.
    """
    wait_until("it ends", lambda: process.poll() is not None, progress=lambda: work_of(process.pid))
    return process.returncode
