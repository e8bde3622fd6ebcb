"""Sluice. ``load`` and what begins with ``read_`` are for notebooks, and imported when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sluice.notebook import load, read_evaluation, read_frame, read_predictions

__all__ = ["load", "read_evaluation", "read_frame", "read_predictions"]


def __getattr__(name: str) -> Any:
    """One of ``__all__``."""
    if name in __all__:
        from sluice import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module 'sluice' has no attribute {name!r}")
