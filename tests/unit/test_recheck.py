"""Served cells against the same cells read offline: which are compared, and which are the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from sluice.documents.event_time import iso
from sluice.documents.evidence import Cells
from sluice.evidence.recheck import compare_cells
from sluice.features.parity import OfflineCells
from tests.support.rules import spoken
from tests.support.tiny_task import TASK

MOMENT = datetime(2024, 4, 6, tzinfo=UTC)
EARLIER, LATER = MOMENT - timedelta(hours=1), MOMENT + timedelta(seconds=1)
KEYS = {"shop": "elm", "amount": 3.5, "hour": 7}


def _served(features: list[dict[str, Any]], as_of: str | None = "{}", keys: dict[str, Any] | None = None) -> Any:
    columns = {
        "event_time": [MOMENT] * len(features),
        "keys": [json.dumps(KEYS if keys is None else keys)] * len(features),
        "features": [json.dumps(row) for row in features],
        "as_of": [as_of] * len(features),
    }
    return pl.DataFrame(columns, schema_overrides={"as_of": pl.String})


def _offline(rows: dict[str, list[Any]], **as_of: datetime) -> OfflineCells:
    return OfflineCells(pl.DataFrame(rows), [as_of] * len(next(iter(rows.values()))))


@pytest.mark.parametrize(
    ("online", "offline", "same"),
    [
        (1.0, 1.0 + 1e-9, True),
        (1.0, 1.001, False),
        (60.0, 1.0, False),
        (None, None, True),
        (None, 0.0, False),
        (0.0, None, False),
        ("elm", "elm", True),
        ("elm", "oak", False),
        ("1", 1.0, False),
        (3, 3, True),
    ],
)
def test_a_cell_is_the_same_or_it_is_counted(online: Any, offline: Any, same: bool) -> None:
    found = compare_cells(_served([{"x": online}]), ["x"], TASK, lambda _: _offline({"x": [offline]}))
    assert (found.compared, found.different, found.excluded) == (1, 0 if same else 1, 0)
    assert found.worst == (None if same else "x")


def test_the_worst_feature_is_the_one_that_differs_most() -> None:
    served = _served([{"x": 1.0, "y": 1.0}, {"x": 1.0}, {"x": 2.0, "y": 1.0}])
    asked: list[pl.DataFrame] = []

    def read(requests: pl.DataFrame) -> OfflineCells:
        asked.append(requests)
        return _offline({"x": [1.0, 1.0, 1.0], "y": [9.0, 9.0, 9.0]})

    found = compare_cells(served, ["x", "y"], TASK, read)
    assert (found.compared, found.different, found.worst) == (6, 4, "y")
    assert [(each.feature, each.different, each.view) for each in found.wrong] == [("y", 3, None), ("x", 1, None)]
    assert asked[0].columns == ["event_time", *TASK.entity_keys, *TASK.request_inputs]
    assert asked[0]["event_time"].to_list() == [MOMENT] * 3


def test_the_worst_cells_are_told_with_their_view_and_one_example_and_no_text() -> None:
    wide = [f"f{number}" for number in range(9)]
    served = _served([{"name": "Ann", "x": 1.5} | dict.fromkeys(wide, 0)] * 2)
    offline = _offline({"name": ["Bea"] * 2, "x": [None, 1.5], **{each: [0.0, 1.0] for each in wide}})
    names = ["name", "x", *wide]
    found = compare_cells(served, names, TASK, lambda _: offline, {"name": "people", "x": "stays"})
    assert (found.different, len(found.wrong)) == (2 + 1 + 9, 5)
    assert [each.feature for each in found.wrong] == ["name", "f0", "f1", "f2", "f3"]
    (reason,) = spoken("canary", "metric: parity, role: quality, limit: 0.001", cells=found)
    told = "'name' of people in 2, for example a text was served, a text is what training would read; 'f0' in 1, for "
    assert f"most of all {told}example 0 was served, 1 is what training would read; 'f1'" in reason.text
    assert "Ann" not in found.model_dump_json()
    assert "Bea" not in found.model_dump_json()


@pytest.mark.parametrize(
    ("held", "offline", "compared"),
    [
        ({"a": MOMENT}, {"a": MOMENT}, True),
        ({}, {}, True),
        ({"a": EARLIER}, {"a": MOMENT}, False),
        ({}, {"a": MOMENT}, False),
        ({"a": MOMENT, "b": EARLIER}, {"a": MOMENT, "b": MOMENT}, False),
        ({"a": EARLIER, "b": MOMENT}, {"b": MOMENT}, True),  # past its time to live, it is not even looked for
        ({"a": LATER}, {"a": MOMENT}, True),  # a row of the future is not what training would have seen
    ],
)
def test_an_offline_row_that_the_online_store_got_later_excludes_its_request(
    held: dict[str, datetime], offline: dict[str, datetime], compared: bool
) -> None:
    served = _served([{"x": 1.0, "y": 2.0}], json.dumps({view: iso(moment) for view, moment in held.items()}))
    found = compare_cells(served, ["x", "y"], TASK, lambda _: _offline({"x": [5.0], "y": [2.0]}, **offline))
    assert (found.compared, found.different, found.excluded) == ((2, 1, 0) if compared else (0, 0, 2))


@pytest.mark.parametrize(("as_of", "keys"), [(None, None), ("{}", {}), ("{}", {"shop": "elm"})])
def test_what_was_not_read_online_or_not_written_down_is_excluded(as_of: str | None, keys: Any) -> None:
    def read(_: pl.DataFrame) -> OfflineCells:
        pytest.fail("asked about none")

    found = compare_cells(_served([{"x": 1.0}] * 3, as_of, keys), ["x"], TASK, read)
    assert (found.compared, found.different, found.excluded) == (0, 0, 3)


def test_cells_of_which_none_is_excluded_are_written_as_before_and_all_come_back() -> None:
    """Documents that were digested before anything was excluded keep their digest."""
    assert Cells(compared=3, different=1, worst="x").model_dump() == {"compared": 3, "different": 1, "worst": "x"}
    for cells in (Cells(compared=3, different=1), Cells(compared=3, different=1, excluded=2)):
        assert Cells.model_validate_json(cells.model_dump_json()) == cells
