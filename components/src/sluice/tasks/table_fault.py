"""One thing that is wrong with a table that is a task."""

from __future__ import annotations

from typing import NamedTuple


class TableFault(NamedTuple):
    """
    What is wrong, and where.

    Attributes:
        field: of the declaration.
        value: the text in that field that is meant; empty for all of it.
        rule: what is wrong.
        fix: what to do about it.
        fatal: there is no task with it.
    """

    field: str
    value: str
    rule: str
    fix: str
    fatal: bool = True
