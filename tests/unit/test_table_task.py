"""A table is a task: what its defaults are, and what is said of one that is none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sluice.data.ingest import ingest
from sluice.errors import BadInput
from sluice.targets.counts import Counts
from sluice.targets.multi_class import MultiClass
from sluice.targets.multi_label import MultiLabel
from sluice.targets.regression import Regression
from sluice.tasks.table import TableTask
from sluice.tasks.table_declaration import QUICK_ROWS, moments
from sluice.tasks.table_faults import table_faults
from sluice.tasks.task import Slice, load_task
from tests.support.table_tasks import ROWS, START, orders, table_task

Change = Callable[[pl.DataFrame], pl.DataFrame]
at, late = pl.col("at"), pl.col("late")


def test_four_words_make_a_task_that_ingest_takes(tmp_path: Path) -> None:
    task = table_task(tmp_path, keys=()).task()
    record = ingest(task, tmp_path / "span")
    assert [part.name for part in task.slices] == ["shop", "express"]
    assert task.recipe.features == ("shop", "amount", "express")
    assert (task.splits.train, task.splits.tune) == (START, START + timedelta(days=24))
    assert task.splits.end - task.splits.live < timedelta(days=11)
    assert sum(record.splits.values()) == record.rows < ROWS
    assert task.read_examples(task.splits.live, task.splits.end).height == ROWS - record.rows


def test_a_key_is_carried_and_not_seen(tmp_path: Path) -> None:
    task = table_task(tmp_path).task()
    assert "shop" in task.request_inputs
    assert "shop" not in task.recipe.features
    assert task.feature_service is None


def test_a_history_knows_nothing_of_its_own_day_nor_of_labels_to_come(tmp_path: Path) -> None:
    """Rows after a midnight, and labels that come after it, change nothing of what was known there."""
    day = START + timedelta(days=20)
    fields: dict[str, Any] = {"history": timedelta(days=5), "label_known": timedelta(hours=30)}
    task = table_task(tmp_path, **fields).task()
    assert task.feature_service == "orders"
    assert task.entity_keys == ("shop",)
    there = pl.col("event_timestamp") <= day
    assert task.read_feature_tables is not None
    before = task.read_feature_tables(task.splits.train, task.splits.live)["shop_history"].filter(there)
    later = at >= (day - timedelta(hours=30)).isoformat()
    other = table_task(
        tmp_path,
        lambda frame: frame.with_columns(pl.when(later).then(1 - late).otherwise(late).alias("late")),
        **fields,
    )
    again = other.task().read_feature_tables
    assert again is not None
    assert again(task.splits.train, task.splits.live)["shop_history"].filter(there).equals(before)
    last = before.filter(pl.col("event_timestamp") == day).sort("shop").row(0, named=True)
    rows = orders().with_columns(at=moments(orders()["at"], None)).filter(pl.col("shop") == "ash")
    window = rows.filter(at.is_between(day - timedelta(days=5), day, closed="left"))
    known = window.filter(at < day - timedelta(hours=30))
    assert (last["shop_rows"], last["shop_mean_label"]) == (window.height, known["late"].mean())
    assert last["shop_mean_amount"] == pytest.approx(window["amount"].mean())


@pytest.mark.parametrize(
    ("target", "label"),
    [
        (MultiClass(classes=("no", "yes")), pl.when(late == 1).then(pl.lit("yes")).otherwise(pl.lit("no"))),
        (MultiLabel(names=("late", "dear")), pl.when(late == 1).then(pl.lit("late|dear")).otherwise(pl.lit(""))),
        (Regression(), pl.col("amount") * 2 + late),
        (Counts(), late * 3),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_labels_of_every_kind(tmp_path: Path, target: Any, label: pl.Expr) -> None:
    task = table_task(tmp_path, lambda frame: frame.with_columns(label.alias("late")), target=target).task()
    frame = task.read_examples(task.splits.train, task.splits.end)
    assert frame.schema["label"] == target.label_type
    assert target.label_fault(frame["label"]) is None


@pytest.mark.parametrize(
    ("text", "zone", "moment"),
    [
        ("2024-03-01T12:00:00+02:00", None, datetime(2024, 3, 1, 10, tzinfo=UTC)),
        ("2024-03-01T12:00:00", "Europe/Berlin", datetime(2024, 3, 1, 11, tzinfo=UTC)),
        ("2024-03-01", None, "without a time zone"),
        ("01.03.2024 12:00", "Europe/Berlin", "no time as"),
        ("2024-13-01T00:00:00Z", None, "no times"),
    ],
)
def test_moments(text: str, zone: str | None, moment: datetime | str) -> None:
    column = pl.Series([text, text])
    if isinstance(moment, datetime):
        assert moments(column, zone)[0] == moment
        return
    with pytest.raises(ValueError, match=moment):
        moments(column, zone)


def _with(**columns: pl.Expr) -> Change:
    return lambda frame: frame.with_columns(**columns)


FIRST = pl.int_range(pl.len()) < 3
LABEL = ("inputs", "is the label in every row")
FAULTS: dict[str, tuple[Change, dict[str, Any], str, str]] = {
    "naive time": (_with(at=at.str.slice(0, 19)), {}, "time", "without a time zone"),
    "misspelt column": (_with(), {"label": "lat"}, "label", "no column"),
    "label as input": (_with(), {"inputs": ("amount", "late")}, "inputs", "no model may see it"),
    "copy of the label": (_with(copy=late), {}, "inputs", "is the label in every row"),
    "null key": (_with(shop=pl.when(~FIRST).then(pl.col("shop"))), {}, "keys", "missing in 3"),
    "null input": (_with(amount=pl.when(~FIRST).then(pl.col("amount"))), {}, "inputs", "missing in 3"),
    "duplicate rows": (lambda frame: pl.concat([frame, frame.head(5)]), {}, "table", "5 rows that equal"),
    "constant label": (_with(late=pl.lit(1)), {}, "label", "in every row"),
    "misspelt slice": (_with(), {"slices": (Slice("shop", "shopp"),)}, "slices", "asks for 'shopp'"),
    "no slice": (_with(), {"slices": (Slice("shop", "shop ="),)}, "slices", "cannot be read"),
    "another kind": (_with(late=late * 2), {}, "label", "label"),
    "texts as labels": (_with(late=pl.lit("late")), {}, "label", "values that are no"),
    "halves as classes": (_with(late=late * 0.5), {}, "label", "not whole"),
    "a future": (_with(at=at.str.replace("2024", "2924")), {}, "time", "in the future"),
    "known before": (_with(done=pl.lit("2023-01-01T00:00:00Z")), {"label_known": "done"}, "label_known", "before"),
    "known in the future": (
        _with(done=pl.lit("2930-01-01T00:00:00Z")),
        {"label_known": "done"},
        "label_known",
        "lies in the future",
    ),
    "history of nothing": (_with(), {"keys": (), "history": timedelta(days=3)}, "history", "there are none"),
    "shares": (_with(), {"shares": (0.5, 0.5, 0.5, 0.5)}, "shares", "whose sum is 1"),
    "a type": (_with(late2=pl.lit([1])), {}, "inputs", "no request carries"),
    "few rows": (lambda frame: frame.head(20), {}, "table", "20 rows"),
    "no name": (_with(), {"name": "My Task"}, "name", "no name"),
    "one name twice": (_with(number=pl.lit("7")), {"id": "number"}, "id", "names"),
    "the label in words": (_with(came=pl.when(late == 1).then(pl.lit("no")).otherwise(pl.lit("yes"))), {}, *LABEL),
    "the label turned round": (_with(punctual=1 - late), {}, *LABEL),
    "the label behind a bound": (_with(refund=late * (pl.col("amount") + 1)), {}, *LABEL),
    "missing with the label": (_with(refund=pl.when(late == 1).then(pl.col("amount"))), {}, *LABEL),
    "the label in another unit": (
        _with(late=pl.col("amount") * 60 + 5, hours=pl.col("amount") + 1),
        {"target": Regression(), "inputs": ("hours",)},
        *LABEL,
    ),
    "numbers with a comma": (
        _with(amount=pl.col("amount").cast(pl.String).str.replace(".", ",", literal=True)),
        {},
        "inputs",
        "is text, though its values are numbers",
    ),
    "a mark among numbers": (
        _with(amount=pl.when(FIRST).then(pl.lit("n/a")).otherwise(pl.col("amount").cast(pl.String))),
        {},
        "inputs",
        "for one of them is 'n/a'",
    ),
    "names of rows": (
        _with(order="A" + pl.int_range(pl.len()).cast(pl.String)),
        {},
        "inputs",
        "another text in every row",
    ),
    "numbers of rows": (_with(order=7 + pl.int_range(pl.len())), {}, "inputs", "grows by one with each row"),
    "times among inputs": (_with(wanted=at), {}, "inputs", "has times as text"),
    "a name of ours": (_with(split=pl.lit(1)), {}, "inputs", "rows of the platform have already"),
    "missing in every row": (_with(floor=pl.lit(None, pl.Int64)), {}, "inputs", "missing in 600 of 600"),
    "other marks between columns": (lambda frame: frame.select(late.alias("at;shop;late")), {}, "table", "has ';'"),
    "seconds since 1970": (_with(at=pl.int_range(pl.len()) * 3600), {}, "time", "has type Int64"),
    "yes and no": (_with(late=pl.when(late == 1).then(pl.lit("yes")).otherwise(pl.lit("no"))), {}, "label", "such as"),
    "a text for a tuple": (_with(), {"keys": "shop"}, "keys", "is the text 'shop', no tuple"),
    "numbers for names": (_with(), {"nullable": (1,)}, "nullable", "no tuple of texts"),
    "texts for slices": (_with(), {"slices": ("shop",)}, "slices", "no tuple of slices"),
    "a class for a target": (_with(), {"target": Regression}, "target", "is the class Regression"),
    "days as a number": (_with(), {"label_known": 1}, "label_known", "is 1 of type int"),
    "a text for a function": (_with(), {"prepare": "clean"}, "prepare", "no function"),
    "a zone of nowhere": (_with(), {"time_zone": "Europe/Berln"}, "time_zone", "no time zone"),
    "one class in train": (_with(late=pl.int_range(pl.len()) // 400), {}, "label", "in train"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_field_and_a_fix(tmp_path: Path, name: str) -> None:
    change, fields, field, words = FAULTS[name]
    declared = table_task(tmp_path, change, **fields)
    found = table_faults(declared, declared.file())
    assert [fault for fault in found if fault.field == field and words in fault.rule], found
    assert all(fault.fix for fault in found)


@pytest.mark.parametrize(
    "column",
    [
        pl.lit("1011") + (pl.int_range(pl.len()) % 7).cast(pl.String),
        (pl.int_range(pl.len()) % 40).cast(pl.String) + pl.when(FIRST).then(pl.lit("b")).otherwise(pl.lit("")),
        pl.when(late == 1).then(pl.col("amount")).otherwise(pl.col("amount") - 9),
        late.shuffle(seed=3),
        pl.int_range(pl.len()) * 3 % 601,
        pl.lit(4),
    ],
    ids=["codes", "numbers of houses", "much of the label", "shares of the label", "any order", "one value"],
)
def test_an_input_that_is_like_one_of_those_is_none(tmp_path: Path, column: pl.Expr) -> None:
    declared = table_task(tmp_path, _with(other=column))
    assert table_faults(declared, declared.file()) == []


def test_a_field_of_another_type_keeps_the_task_from_being_made(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="task 'orders': prepare: is 'clean' of type str, no function"):
        table_task(tmp_path, prepare="clean").task()


def test_what_prepare_raises_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"prepare of task 'orders': raises ColumnNotFoundError in test_table_task.py"):
        table_task(tmp_path, prepare=lambda frame: frame.drop("colour")).task()


def test_what_a_module_raises_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "misspelt_module.py").write_text("TASK = TabelTask()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match=r"cannot be loaded \(name 'TabelTask' is not defined\)"):
        load_task("misspelt_module:TASK")


def test_a_path_from_nowhere_says_where_it_was_looked_for() -> None:
    with pytest.raises(BadInput, match=r"with_name\(\"data\"\).* looked for in"):
        TableTask(name="none", table=Path("data/orders.csv"), time="at", label="late").task()


def test_a_sound_table_has_no_fault(tmp_path: Path) -> None:
    declared = table_task(tmp_path, history=timedelta(days=3))
    assert table_faults(declared, declared.raw()) == []


def test_several_faults_are_named_at_once(tmp_path: Path) -> None:
    declared = table_task(tmp_path, _with(at=at.str.slice(0, 19), late=pl.lit(1)), slices=(Slice("a", "b"),))
    assert {fault.field for fault in table_faults(declared, declared.raw())} == {"time", "label", "slices"}


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (Path.exists, "cannot be read"),
        (lambda path: path.write_bytes(b"PAR1 nothing"), "is no table"),
        (Path.mkdir, "is no table|cannot be read"),
    ],
)
def test_a_table_that_is_none_is_one_line(tmp_path: Path, write: Callable[[Path], Any], words: str) -> None:
    path = tmp_path / "table.parquet"
    write(path)
    with pytest.raises(BadInput, match=words):
        TableTask(name="none", table=path, time="at", label="late").task()


def test_a_sample_is_even_over_time_and_leaves_the_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = table_task(tmp_path).task()
    monkeypatch.setenv(QUICK_ROWS, "100")
    task = table_task(tmp_path).task()
    few = task.read_examples(task.splits.train, task.splits.end)
    assert few.height == 100
    assert abs(few.filter(pl.col("event_time") < task.splits.tune).height - 48) <= 1
    assert task.splits.tune == whole.splits.tune
