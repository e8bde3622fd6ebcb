"""Waiting for what other processes do, by events and progress: a busy machine is slow, never wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

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
