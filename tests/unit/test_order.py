"""Files of tests that take long begin first."""

from __future__ import annotations

import pytest

from tests.support.order import LONGEST, TESTS, turn


def test_each_that_takes_long_is_there() -> None:
    assert [name for name in LONGEST if not (TESTS / name).is_file()] == []


def test_they_come_in_their_order_and_before_all_others() -> None:
    paths = sorted(TESTS.rglob("test_*.py"))
    names = [path.relative_to(TESTS).as_posix() for path in sorted(paths, key=turn)]
    assert names[: len(LONGEST)] == list(LONGEST)
    assert names[len(LONGEST) :] == [path.relative_to(TESTS).as_posix() for path in paths if turn(path) == len(LONGEST)]


def test_pytest_runs_them_so(request: pytest.FixtureRequest) -> None:
    """The items of this very run."""
    turns = [turn(item.path) for item in request.session.items]
    assert turns == sorted(turns)
