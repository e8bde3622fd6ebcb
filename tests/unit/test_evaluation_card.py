"""The model card: whole, escaped, self-contained, and the same for the same model."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sluice.content import canonical_json
from sluice.evaluation.card import card_html, card_json
from sluice.evaluation.evaluate import evaluate
from sluice.evaluation.measure import measure_ladder
from tests.support.evaluation import RECIPE, production, sample_task, write_sample, write_slow_signal

PROVENANCE = {"data": "sha256:da", "frame": "sha256:fa", "window": ["2020-01-01T00:00:00Z", "2020-01-11T00:00:00Z"]}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("sample")).directory


def _card(directory: Path, stable: bool = True, latency: float = 20.0) -> dict[str, Any]:
    serving = production() if stable else None
    found = evaluate(sample_task(), directory, directory, directory, "student_int8", serving, seed=1)
    ladder = [rung.model_copy(update={"latency_p99_us": latency}) for rung in measure_ladder(directory, directory, 1)]
    return card_json(sample_task(), RECIPE, found, ladder, PROVENANCE)


class _Page(HTMLParser):
    """Collects tags, the links out of the page, and its text; a tag that is never closed stays in ``open``."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [f"{name}={value}" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_card_is_the_models_alone(sample: Path) -> None:
    first = canonical_json(_card(sample))
    assert canonical_json(_card(sample, stable=False, latency=4000.0)) == first
    assert b"latency" not in first
    assert b"production" not in first
    assert json.loads(first)["task"]["name"] == "sample"


def test_the_card_is_the_models_alone_although_longer_runs_are_against_production(tmp_path: Path) -> None:
    write_slow_signal(tmp_path)
    evaluation = evaluate(sample_task(), tmp_path, tmp_path, tmp_path, "student_int8", production(), seed=1)
    assert evaluation.bootstrap["production_mean_run_days"] > 3
    assert canonical_json(_card(tmp_path)) == canonical_json(_card(tmp_path, stable=False))


def test_the_page_is_well_formed_and_needs_no_network(sample: Path) -> None:
    page = card_html(_card(sample))
    parsed = _Page(page)
    assert parsed.open == []
    assert parsed.links == []
    assert "script" not in parsed.tags
    assert parsed.tags.count("svg") == 2
    assert not re.search(r"https?://|@import|url\(", page)
    assert card_html(_card(sample)) == page


def test_everything_is_escaped(sample: Path) -> None:
    page = card_html(_card(sample))
    assert "Sample &lt;b&gt;task&lt;/b&gt;" in page
    assert "A sample &amp; nothing &lt;else&gt;." in page
    assert "b" not in _Page(page).tags


def test_the_page_says_what_a_reader_asks(sample: Path) -> None:
    text = " ".join(_Page(card_html(_card(sample))).text.split())
    for part in (
        "Intended use",
        "Limits",
        "baseline: logistic",
        "shop = north",
        "student_int8 (this model)",
        "sha256:da",
    ):
        assert part in text, part
    assert "It is weakest in slice" in text
    assert "fewer than 500 rows: size=huge (6)" in text
    assert "not measured" in text
    assert "whole days were drawn again 400 times." in text


def test_days_that_were_drawn_in_a_row_are_told(sample: Path) -> None:
    card = _card(sample)
    card["holdout"]["bootstrap"]["mean_run_days"] = 4.25
    assert "400 times, on average 4.25 in a row, because" in card_html(card)
    del card["holdout"]["bootstrap"]["mean_run_days"]
    assert "400 times." in card_html(card)


def test_a_card_without_measurements_still_renders(sample: Path) -> None:
    bare = {**_card(sample), "metrics": {}, "slices": [], "baselines": [], "teacher": None, "ladder": []}
    bare["curves"] = {"roc": [], "precision_recall": [], "reliability": []}
    assert _Page(card_html(bare)).open == []
