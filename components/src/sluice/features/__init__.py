"""
Features: one definition (Feast), one reader, one manifest.

Feast has each of its classes compiled anew at import to check types while it runs: two thirds of what its import takes,
in every server and step. Typeguard means that for tests, and leaves it out under ``python -O``; so do we.
"""

from __future__ import annotations

from typing import Any

import typeguard


def _as_it_is(target: Any) -> Any:
    """A class that is not recompiled."""
    return target


typeguard.typechecked = _as_it_is  # type: ignore[assignment]  # before anything here imports Feast
