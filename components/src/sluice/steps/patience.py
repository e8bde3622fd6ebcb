"""
A network's fault is repeated inside the step: KFP's stock retry policy (OnError) repeats no step that ended by itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from sluice.errors import Unavailable
from sluice.object_store import NoSuchObject

_Result = TypeVar("_Result")
PAUSES = (5.0, 15.0, 45.0)
"""Seconds before each further try."""


def patiently(action: Callable[[], _Result]) -> _Result:
    """
    What ``action`` returns; repeated where a store or a repository does not answer, so it must bear to be done twice.

    Raises:
        Unavailable: it did not answer the last time either.
    """
    for number, pause in enumerate(PAUSES, 1):
        try:
            return action()
        except NoSuchObject:
            raise
        except Unavailable as error:
            sys.stderr.write(f"try {number} of {len(PAUSES) + 1}: {error}; again in {pause:g} s\n")
            sys.stderr.flush()
        time.sleep(pause)
    return action()
