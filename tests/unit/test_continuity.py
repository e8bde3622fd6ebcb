"""What is counted when a run asks whether anything was lost or done twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from sluice.documents.verdict import Decision, Verdict
from sluice.predictions.log import WINDOW_SCHEMA, window_path
from sluice.workspace import Workspace
from sluice_local.continuity import continuity

DAY = timedelta(days=1)
START = datetime(2013, 8, 1, tzinfo=UTC)


def decision(name: str) -> Decision:
    return Decision(
        id=name,
        task="tiny",
        environment="dev",
        stage="shadow",
        action="set-weight",
        verdict=Verdict.PASS,
        candidate=None,
        stable=None,
        reasons=(),
        now="2013-08-01T00:00:00Z",
        evidence_digest="sha256:0",
        policy_digest="sha256:0",
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def add_window(workspace: Workspace, day: int, requests: list[str]) -> None:
    start = START + day * DAY
    path = window_path(workspace.predictions / "dev", start, start + DAY)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, list[str | None]] = {name: [None] * len(requests) for name in WINDOW_SCHEMA}
    columns |= {"request_id": [*requests], "route": ["stable"] * len(requests)}
    pl.DataFrame(columns, schema=WINDOW_SCHEMA).write_parquet(path)


def test_a_whole_history_is_whole(workspace: Workspace) -> None:
    add_window(workspace, 0, ["a", "b"])
    add_window(workspace, 1, ["c"])
    counted = continuity(workspace, "dev", [decision("x"), decision("y")])
    assert (counted.answers, counted.decisions, counted.whole) == (3, 2, True)


def test_an_answer_that_is_there_twice_is_counted(workspace: Workspace) -> None:
    add_window(workspace, 0, ["a", "b"])
    add_window(workspace, 1, ["b"])
    counted = continuity(workspace, "dev", [])
    assert (counted.answers_twice, counted.whole) == (1, False)


def test_a_missing_window_is_a_gap(workspace: Workspace) -> None:
    add_window(workspace, 0, ["a"])
    add_window(workspace, 2, ["b"])
    counted = continuity(workspace, "dev", [])
    assert (counted.gaps, counted.whole) == (1, False)


def test_a_decision_made_twice_is_counted(workspace: Workspace) -> None:
    counted = continuity(workspace, "dev", [decision("x"), decision("x")])
    assert (counted.decisions_twice, counted.whole) == (1, False)


def test_nothing_yet_is_whole(workspace: Workspace) -> None:
    assert continuity(workspace, "dev", []).whole
