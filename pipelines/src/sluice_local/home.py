"""The home directory of a local run: made once, marked as ours, locked by one run at a time."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import filelock
import psutil

from sluice.errors import BadInput, Busy
from sluice.workspace import Workspace

MARK = "sluice-home"
MARK_VARIABLE = "SLUICE_RUN_HOME"
"""Set in every process that a run starts, so that the next run finds those that a kill left behind."""


def prepare_home(home: Path) -> None:
    """
    Make the home directory, or accept one that Sluice made before.

    Raises:
        BadInput: the directory holds something else.
    """
    if home.exists() and any(home.iterdir()) and not (home / MARK).exists():
        raise BadInput(str(home), "is not empty and was not made by Sluice", "name another directory in SLUICE_HOME")
    home.mkdir(parents=True, exist_ok=True)
    (home / MARK).touch()


def forget_home(home: Path) -> None:
    """
    Remove all state of a home directory's runs; one that Sluice did not make is refused.

    The mark stays, so that a kill in between leaves a directory that is still ours, and so does the lock: a new file
    of its name could be locked beside the one that is held.
    """
    if not home.exists():
        return
    prepare_home(home)
    for path in home.iterdir():
        if path.name in (MARK, "lock", "lock.holder"):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def held_lock(workspace: Workspace) -> Iterator[None]:
    """
    Hold the home directory's lock; the operating system frees it when the holder dies.

    Raises:
        Busy: another run holds it; says which process and since when.
    """
    lock = filelock.FileLock(workspace.lock)
    holder = workspace.lock.with_suffix(".holder")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        who = holder.read_text() if holder.exists() else "another process"
        raise Busy(str(workspace.home), f"is in use by {who}", "wait for it to end, or set SLUICE_HOME") from error
    try:
        holder.write_text(f"process {os.getpid()} since {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def end_leftovers(workspace: Workspace) -> int:
    """End processes that an earlier, killed run of this home left behind; returns how many there were."""
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    left = [process for process in psutil.process_iter(["pid"]) if process.pid not in mine and _of(process, workspace)]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=10)
    return len(left)


def _of(process: psutil.Process, workspace: Workspace) -> bool:
    try:
        environment: dict[str, str] = process.environ()
        return environment.get(MARK_VARIABLE) == str(workspace.home)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess, OSError):
        return False
