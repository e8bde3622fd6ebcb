"""How a step ends when something is wrong: one line that says what and what to do, no traceback."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from sluice.errors import SluiceError


@contextlib.contextmanager
def exit_on_error() -> Iterator[None]:
    """
    End the process with one line ``sluice: <kind>: <thing>: <rule>; <fix>`` where the block meets such an error.

    Raises:
        SystemExit: with the error's exit code, 2 for wrong input and 3 where a rule forbids; others are passed on.
    """
    try:
        yield
    except SluiceError as error:
        sys.stderr.write(f"sluice: {type(error).__name__}: {error}\n")
        sys.stderr.flush()
        raise SystemExit(error.exit_code) from None
