"""What a task's own functions raise or give is input, whoever asks them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sluice.errors import BadInput
from sluice.evidence.prediction_source import WindowLog
from sluice.features.tables import origin_of_tables, task_tables
from sluice.tasks.task import Task, load_task
from sluice_local.traffic import TrafficReplay
from tests.support.release import state_in

TINY = load_task("tests.support.tiny_task:TASK")
LIVE = TINY.splits.live


def _raises(*_: Any) -> Any:
    raise ZeroDivisionError("the source divides by nothing")


def _without(column: str) -> Callable[[datetime, datetime], pl.DataFrame]:
    return lambda start, end: TINY.read_examples(start, end).drop(column)


def _texts(column: str) -> Callable[[datetime, datetime], pl.DataFrame]:
    return lambda start, end: TINY.read_examples(start, end).with_columns(pl.col(column).cast(pl.String))


def _labels(task: Task) -> pl.DataFrame:
    return WindowLog(Path("nowhere"), task).labels(state_in("canary"), LIVE + timedelta(days=1))


def _requests(task: Task) -> Any:
    traffic = TrafficReplay.__new__(TrafficReplay)
    traffic.task = task
    return traffic._requests(LIVE, LIVE + timedelta(days=1))


@pytest.mark.parametrize("ask", [_labels, _requests])
@pytest.mark.parametrize(
    ("function", "rule"),
    [
        (_raises, "raises ZeroDivisionError in test_task_answers.py, line"),
        (lambda *_: None, "gives builtins.NoneType, no polars.DataFrame"),
        (lambda start, end: TINY.read_examples(start, end).lazy(), "no polars.DataFrame; collect it"),
        (_without("example_id"), "gives no column 'example_id'"),
        (_texts("example_id"), None),
    ],
)
def test_who_asks_for_live_examples_hears_what_is_wrong_with_them(
    ask: Callable[[Task], Any], function: Callable[..., Any], rule: str | None
) -> None:
    task = replace(TINY, read_examples=function)
    if rule is None:
        assert len(ask(task)) == len(ask(TINY)) > 0
        return
    with pytest.raises(BadInput, match=rule):
        ask(task)


@pytest.mark.parametrize(("ask", "column"), [(_labels, "label_time"), (_requests, "event_time")])
def test_a_column_of_another_type_is_named(ask: Callable[[Task], Any], column: str) -> None:
    with pytest.raises(BadInput, match=f"column '{column}' of task 'tiny'.*has type String"):
        ask(replace(TINY, read_examples=_texts(column)))


def test_raw_files_and_tables_are_asked_as_carefully() -> None:
    with pytest.raises(BadInput, match=r"source_files of task 'tiny'.*raises ZeroDivisionError"):
        origin_of_tables(replace(TINY, source_files=_raises), LIVE)
    with pytest.raises(BadInput, match="gives no paths by name"):
        origin_of_tables(replace(TINY, source_files=lambda: {"raw": "a text"}), LIVE)  # type: ignore[dict-item]
    with pytest.raises(BadInput, match=r"read_feature_tables of task 'tiny'.*raises ZeroDivisionError"):
        task_tables(replace(TINY, read_feature_tables=_raises), LIVE, ())
