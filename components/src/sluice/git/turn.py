"""
Writers of one repository on one machine stand in line.

A writer that loses a race decides again for nothing, and with many of them some lose again and again. In line, each
writes once. The line is a courtesy: the push alone decides who was first, so a writer that cannot see the line, or
has waited long enough, goes ahead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

_PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.01


@contextlib.contextmanager
def in_turn(remote: str) -> Iterator[None]:
    """
    The block runs when all writers on this machine that came earlier are done, are gone, or took too long.

    A ticket is a file whose name says when it was drawn, locked by its owner: the lock goes with its holder, so a
    killed writer holds nobody up. Tickets of this same process are passed over: it cannot wait for itself.
    """
    line = Path(remote) / "sluice-line"
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # not a folder on this machine, or not ours to write to
            if (Path(remote) / "objects").is_dir():
                line.mkdir(exist_ok=True)
                ticket = stack.enter_context(_ticket(line))
                _wait(line, ticket)
        yield


@contextlib.contextmanager
def _ticket(line: Path) -> Iterator[Path]:
    ticket = line / f"{time.time_ns():020d}.{os.getpid()}"
    unseen = ticket.with_name(f".{ticket.name}")
    with unseen.open("x") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unseen.rename(ticket)
        try:
            yield ticket
        finally:
            ticket.unlink(missing_ok=True)


def _wait(line: Path, ticket: Path) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while (ahead := _ahead(line, ticket)) and time.monotonic() < end:
        if _is_taken(ahead[0]):
            time.sleep(_PAUSE_SECONDS * len(ahead))


def _ahead(line: Path, ticket: Path) -> list[Path]:
    """Tickets of other processes that were drawn earlier, the first one first."""
    mine = ticket.name.partition(".")[2]
    tickets = [path for path in line.iterdir() if not path.name.startswith(".") and path.name < ticket.name]
    return sorted(path for path in tickets if path.name.partition(".")[2] != mine)


def _is_taken(ticket: Path) -> bool:
    """Whether its owner is still there; a ticket that was left behind is thrown away."""
    try:
        with ticket.open("r") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ticket.unlink(missing_ok=True)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
