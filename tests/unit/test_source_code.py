"""The code of a task that is none of ours: what it reaches is in every digest, and nothing else is."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sluice.installation.source_code import reached_sources
from tests.support.shop_kit import FILES, TABLES, TRANSFORM, digests_of_kit, shop_kit
from tests.support.tiny_task import TASK


@pytest.fixture(params=["beside", "site-packages"])
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The package's folder, somewhere on the path or where packages are installed."""
    with shop_kit(tmp_path / str(request.param)) as root:
        yield root


def test_every_module_and_file_that_is_reached_is_in_its_digests_and_no_other(kit: Path) -> None:
    before = digests_of_kit(kit)
    assert digests_of_kit(kit) == before
    for name, text in FILES.items():
        (kit / name).write_text(text + "# edited\n")
        after = digests_of_kit(kit)
        changed = tuple(one != other for one, other in zip(before, after, strict=True))
        tables = name in TABLES - {"shopkit/task.py"}
        assert changed == (tables, name in TRANSFORM, name in TABLES | TRANSFORM), name
        (kit / name).write_text(text)


def test_what_others_version_is_left_out(kit: Path) -> None:
    names = set(reached_sources(["shopkit.task", "no.such.module", "__main__", "sluice.errors", "json", "polars"]))
    assert {"shopkit.deep.rates", "shopkit/sql/visits.sql"} <= names
    assert not {name for name in names if re.split(r"\W", name)[0] not in {"shopkit", "tests", "sluice"}}
    assert not {name for name in names if name.startswith("sluice.") and not name.startswith("sluice.tasks")}


def test_a_function_that_is_wrapped_is_found_where_it_is() -> None:
    class Callable:
        def __call__(self, *_: Any) -> Any:
            return {}

    task = dataclasses.replace(TASK, read_feature_tables=Callable(), read_examples=partial(TASK.read_examples))
    assert set(task.modules) == {__name__, "tests.support.tiny_task"}
