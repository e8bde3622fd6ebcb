"""How a step ends when something is wrong: one line that says what and what to do, no traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sluice.errors import SluiceError, Unavailable, one_line
from sluice.steps.ending import keep, say


@contextlib.contextmanager
def exit_on_error() -> Iterator[None]:
    """
    End the process with one line ``sluice: <kind>: <thing>: <rule>; <fix>`` where the block meets such an error.

    Raises:
        SystemExit: with the error's exit code, 2 for wrong input, 3 where a rule forbids, 1 where something did not
            answer; others are passed on.
    """
    try:
        yield
    except SluiceError as error:
        say("Unavailable" if isinstance(error, Unavailable) else type(error).__name__, str(error))
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        keep(f"sluice: {type(error).__name__}: {one_line(error)}")
        raise
