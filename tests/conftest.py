"""For all tests: servers share their imports, and files that take long begin first."""

from __future__ import annotations

import pytest

from tests.support import forked
from tests.support.order import turn

forked.install()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The same in each process of xdist, which hands files out in this order."""
    items.sort(key=lambda item: turn(item.path))
