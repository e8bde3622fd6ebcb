"""The report: self-contained, complete, robust to what is missing, safe against what is hostile, and repeatable."""

from __future__ import annotations

import json
import random
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest

from sluice.content import write_json
from sluice.documents.evaluation import VariantMeasurement
from sluice.documents.verdict import Decision, Verdict
from sluice.errors import BadArtifact
from sluice.targets.counts import Counts
from sluice.targets.kind import TargetKind
from sluice.targets.multi_class import MultiClass
from sluice.targets.multi_label import MultiLabel
from sluice.targets.registry import BINARY
from sluice.targets.regression import Regression
from sluice.workspace import Workspace
from sluice_local.report import build_report, charts, write_data_picture
from sluice_local.report.chapter_view import chapter_verdict
from sluice_local.report.inputs import EMPTY, read_chapters
from sluice_local.report.wording import count, number, signed, size
from tests.support import report_evaluations
from tests.support.report_inputs import TITLES, write_run

TITLE, QUESTION = "Flight delays", "Will it arrive 15 minutes late or more?"
HOSTILE = "<script>alert('x')</script>\"><img src=http://example.org/x onerror=alert(1)>&amp;"


class Page(HTMLParser):
    """Elements with their attributes, and whether tags close in the order in which they opened."""

    VOID = frozenset({"meta", "br", "img", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, list[Decision]]:
    workspace = Workspace(tmp_path_factory.mktemp("home"))
    return workspace, write_run(workspace)


@pytest.fixture(scope="module")
def html(run: tuple[Workspace, list[Decision]]) -> str:
    return build_report(*run, TITLE, QUESTION).read_text("utf-8")


def copied(run: tuple[Workspace, list[Decision]], to: Path) -> Workspace:
    shutil.copytree(run[0].home / "runs", to / "runs")
    shutil.copy(run[0].home / "interrupted.json", to)
    return Workspace(to)


def section(html: str, anchor: str) -> str:
    return html.partition(f'id="{anchor}"')[2].partition("</section>")[0]


def test_page_loads_nothing_and_is_well_formed(html: str) -> None:
    page = Page(html)
    assert page.open == []
    loads = [value for _, found in page.elements for key, value in found.items() if key in {"src", "href", "data"}]
    assert loads
    assert all((value or "").startswith("#") for value in loads)
    assert not {tag for tag, _ in page.elements} & {"link", "img", "iframe", "object", "embed", "base"}
    assert not re.search(r"url\(|@import|https?://", html)
    assert len(html) < 2_000_000


def test_every_link_has_its_target(html: str) -> None:
    elements = Page(html).elements
    ids = [found["id"] for _, found in elements if "id" in found]
    assert len(ids) == len(set(ids))
    assert {found["href"] for _, found in elements if "href" in found} <= {f"#{name}" for name in ids}


def test_all_six_lines_with_their_verdicts(html: str) -> None:
    story = html.partition('<ol class="story">')[2].partition("</ol>")[0]
    entries = re.findall(r'<li><a href="#chapter-(\d)"><span class="no">(\d)</span>(.*?)</a></li>', story, re.S)
    lines = [(number, chapter, line) for chapter, number, line in entries]
    verdicts = [re.findall("PASS|FAIL|INCONCLUSIVE", line)[0] for _, _, line in lines]
    assert [int(number) for number, _, _ in lines] == [1, 2, 3, 4, 5, 6]
    assert [int(chapter) for _, chapter, _ in lines] == [1, 2, 3, 4, 5, 2], "the kill leads to the canary it was in"
    for (title, outcome), (_, _, line) in zip(TITLES.values(), lines[:5], strict=True):
        assert title in line
        assert outcome in line
    assert "SIGKILL" in lines[5][2]
    assert verdicts == ["PASS", "PASS", "FAIL", "FAIL", "FAIL", "PASS"]


def test_every_decision_is_in_the_ledger_in_order(run: tuple[Workspace, list[Decision]], html: str) -> None:
    ids = re.findall(r'<li id="decision-([^"]+)"', section(html, "ledger"))
    assert ids == [decision.id for decision in run[1]]
    for reason in (reason for decision in run[1] for reason in decision.reasons):
        assert reason.text in html


def test_decisions_find_their_chapters(run: tuple[Workspace, list[Decision]]) -> None:
    chapters = read_chapters(run[0].home / "runs", run[1])
    actions = [[decision.action for decision in chapter.decisions] for chapter in chapters]
    assert actions[0] == ["bootstrap", "confirm"]
    assert actions[1] == ["start-shadow", "set-weight", "set-weight", "promote", "confirm"]
    assert actions[2] == ["refuse"]
    assert actions[3] == ["start-shadow", "rollback"]
    assert actions[4] == ["refuse"], "a held digest proposed again is the next chapter's"


def test_a_decision_without_a_run_goes_to_the_last_chapter_of_its_candidate(
    run: tuple[Workspace, list[Decision]],
) -> None:
    lifted = run[1][-1].model_copy(update={"run": {}, "action": "release-hold", "id": "hold-1"})
    chapters = read_chapters(run[0].home / "runs", [*run[1], lifted])
    assert [chapter.slug for chapter in chapters if lifted in chapter.decisions] == ["again"]


def test_the_failing_slice_is_marked_and_the_chosen_variant_named(html: str) -> None:
    third = section(html, "chapter-3")
    red = r'<text [^>]*font-weight="bold"[^>]*fill="var\(--fail\)"[^>]*>([^<]*)<'
    assert re.findall(red, third) == ["VX"]
    assert "student_int8 · ships" in third
    assert re.search(r"student_int8 \(litert\), \d+ µs a row", third)
    assert "<td>teacher_f32</td><td>onnx</td>" in third
    assert not re.findall(red, section(html, "chapter-2"))


def test_days_that_were_drawn_in_a_row_are_told(html: str) -> None:
    told = "400 times over 61 days), because rows of one day stand or fall together"
    assert f"{told}." in section(html, "chapter-1")
    assert f"{told}; up to 4.25 days in a row on average" in section(html, "chapter-2")


def test_timeline_shows_bands_bounds_and_decisions(html: str) -> None:
    drawing = re.findall(r"<svg[^>]*Timeline.*?</svg>", section(html, "chapter-2"), re.S)
    assert len(drawing) == 2, "one for wide columns, one for narrow ones"
    root = ElementTree.fromstring(drawing[0])  # noqa: S314  our own page
    shaded = [item for item in root.iter("path") if item.get("fill") == "var(--main-soft)"]
    assert len(shaded) == 1 + 4 * 4, "the traffic, and a band a measure, stage and weight"
    upright = [item for item in root.iter("line") if item.get("stroke-width") == "1.1"]
    assert len(upright) == 5 + 1, "five decisions and the kill"
    told = [item.findtext("title", "") for item in upright]
    assert sum(words.startswith("killed with SIGKILL, 173 requests") for words in told) == 1
    labels = [item.text for item in root.iter("text")]
    assert {"killed, went on", "10 % of traffic", "50 % of traffic", "promoted", "confirmed"} <= set(labels)


NEW_CHART = '''
from sluice.charts import chart, mark
from sluice_local.report.charts import Section, chart_of


@chart_of(Section.LEARNING, 300, 200)
def steps(chapter, width):
    """How many steps a second each epoch took."""
    if chapter.history is None:
        return
    rows = [{"epoch": row["epoch"], "hint": f"steps of epoch {row['epoch']}"} for row in chapter.history["history"][:3]]
    yield chart("Steps a second", rows, [mark("point", x="epoch:Q", description="hint")], {"width": width})
'''


def test_a_chart_in_one_file_takes_part_in_the_page(
    run: tuple[Workspace, list[Decision]], tmp_path: Path, html: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "steps_a_second.py").write_text(NEW_CHART, "utf-8")
    monkeypatch.setattr(charts, "__path__", [*charts.__path__, str(tmp_path / "plugin")])
    workspace = copied(run, tmp_path)
    page = build_report(workspace, run[1], TITLE, QUESTION).read_text("utf-8")
    second = section(page, "chapter-2")
    assert len(re.findall(r'<svg[^>]*aria-label="Steps a second"', second)) == 2, "for wide and for narrow columns"
    assert "<figcaption>How many steps a second each epoch took.</figcaption>" in second
    assert "<title>steps of epoch 3</title>" in second
    assert second.index("Ranking quality") < second.index("How many steps") < second.index("Which variant ships")
    assert "steps of epoch" not in html


@pytest.mark.parametrize("part", [1.0, 1e-3, 1e-6, 1e4])
def test_numbers_below_the_variants_never_overlap(part: float) -> None:
    def smaller(each: VariantMeasurement) -> VariantMeasurement:
        gain = each.versus_teacher["log_loss"]
        ends = {key: getattr(gain, key) * part for key in ("value", "low", "high")}
        return each.model_copy(update={"versus_teacher": {"log_loss": gain.model_copy(update=ends)}})

    kept = tuple(smaller(each) for each in report_evaluations.variants(random.Random(1)))  # noqa: S311  repeatable on purpose
    labels = re.compile(r'<text text-anchor="middle" transform="translate\(([\d.]+),15\)"[^>]*>([−\d.\u202f]+)</text>')
    (pictures,) = charts.figures(replace(EMPTY, variants=kept), "variants")[0].pictures
    assert pictures
    for picture in pictures:
        places = [(float(at), 6.1 * len(text)) for at, text in labels.findall(picture)]
        assert len(places) >= 2
        assert all(at + wide / 2 < then - width / 2 for (at, wide), (then, width) in pairwise(places))


def test_current_state(html: str) -> None:
    top = html.partition("<main>")[0]
    assert "skew[airport_delay_mean] failed in shadow" in top
    assert "stage stable" in top


@pytest.mark.parametrize(
    "name",
    ["chapter", "recipe", "span", "data", "validation", "history", "variants", "selection", "evaluation", "infra"],
)
def test_any_missing_file_is_said(run: tuple[Workspace, list[Decision]], tmp_path: Path, name: str) -> None:
    workspace = copied(run, tmp_path)
    for path in workspace.home.glob(f"runs/*/{name}.json"):
        path.unlink()
    text = build_report(workspace, run[1], TITLE, QUESTION).read_text("utf-8")
    said = {
        "span": "No span of data",
        "validation": "was not validated",
        "history": "no learning curves",
        "variants": "no variants",
        "selection": "No variant was selected",
        "evaluation": "no evaluation",
        "infra": "no check in the real server",
    }
    assert Page(text).open == []
    assert said.get(name, TITLE) in (text if name in {"span", "validation"} else section(text, "chapter-2") + TITLE)


def test_label_rates_come_from_the_statistics_where_there_is_no_picture(tmp_path: Path) -> None:
    label = {"n": 1000, "nulls": 200, "mean": 0.25}
    statistics = {"train": {"columns": {"label": label}}, "test": {"columns": {"label": label}}}
    write_json(tmp_path / "runs/01-a/validation.json", {"anomalies": [], "comparisons": [], "statistics": statistics})
    text = build_report(Workspace(tmp_path), [], TITLE, QUESTION).read_text("utf-8")
    assert "train: 25.0\u202f% of 800 labels" in text


def test_numbers_are_no_share_of_positive_labels(tmp_path: Path) -> None:
    label = {"dtype": "float64", "n": 1000, "nulls": 200, "mean": -4.5}
    statistics = {"train": {"columns": {"label": label}}}
    write_json(tmp_path / "runs/01-a/validation.json", {"anomalies": [], "comparisons": [], "statistics": statistics})
    assert "positive labels" not in build_report(Workspace(tmp_path), [], TITLE, QUESTION).read_text("utf-8")
    week = {"start": "2013-01-07", "split": "train", "rows": 9, "labelled": 8, "quantiles": [-24.0, -3.5, 45.0]}
    write_json(tmp_path / "runs/01-a/data.json", {"weeks": [week, {**week, "start": "2013-01-14"}]})
    text = build_report(Workspace(tmp_path), [], TITLE, QUESTION).read_text("utf-8")
    assert "positive labels" not in text
    assert "week of 2013-01-07, train: middle −3.50, eight of ten −24.00 to 45.00" in text


def test_nothing_at_all_is_still_a_page(tmp_path: Path) -> None:
    text = build_report(Workspace(tmp_path), [], TITLE, QUESTION).read_text("utf-8")
    assert Page(text).open == []
    assert "stopped before its first candidate" in text
    assert "No decision has been made yet" in text


def test_hostile_strings_are_escaped(run: tuple[Workspace, list[Decision]], tmp_path: Path) -> None:
    workspace = copied(run, tmp_path)
    for path in sorted(workspace.home.glob("runs/*/*.json")):
        path.write_text(json.dumps(_poisoned(json.loads(path.read_bytes()), path.name)), "utf-8")
    reasons = tuple(item.model_copy(update={"text": HOSTILE, "rule": HOSTILE}) for item in run[1][0].reasons)
    first = run[1][0].model_copy(update={"reasons": reasons, "after": {"stable": HOSTILE, "stage": HOSTILE}})
    text = build_report(workspace, [first, *run[1][1:]], HOSTILE, HOSTILE).read_text("utf-8")
    page = Page(text)
    assert page.open == []
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not any("onerror" in found or "src" in found for _, found in page.elements)
    assert text.count("&lt;script&gt;") > 50


def _poisoned(value: object, file: str) -> object:
    """Every free text replaced by a hostile one; names, times and digests that have a form of their own stay."""
    kept = {"start", "window", "digest", "candidate", "model", "features"}
    if isinstance(value, dict):
        kept_here = kept | ({"name", "variants"} if file == "recipe.json" else set())
        return {key: item if key in kept_here else _poisoned(item, file) for key, item in value.items()}
    if isinstance(value, list):
        return [_poisoned(item, file) for item in value]
    return HOSTILE if isinstance(value, str) else value


def test_two_builds_are_byte_equal(run: tuple[Workspace, list[Decision]], tmp_path: Path, html: str) -> None:
    again = build_report(copied(run, tmp_path), run[1], TITLE, QUESTION)
    assert again == tmp_path / "reports" / "report.html"
    assert again.read_text("utf-8") == html


def test_a_broken_file_is_named_and_the_old_page_stays(run: tuple[Workspace, list[Decision]], tmp_path: Path) -> None:
    workspace = copied(run, tmp_path)
    page = build_report(workspace, run[1], TITLE, QUESTION)
    before = page.read_bytes()
    (tmp_path / "runs/02-challenger/evaluation.json").write_text('{"model": 3}', "utf-8")
    with pytest.raises(BadArtifact, match=r"02-challenger/evaluation\.json"):
        build_report(workspace, run[1], TITLE, QUESTION)
    (tmp_path / "runs/02-challenger/evaluation.json").write_text("[", "utf-8")
    with pytest.raises(BadArtifact, match=r"02-challenger/evaluation\.json"):
        build_report(workspace, run[1], TITLE, QUESTION)
    assert page.read_bytes() == before
    assert list(page.parent.iterdir()) == [page]


def test_looks_survive_a_killed_run(run: tuple[Workspace, list[Decision]], tmp_path: Path) -> None:
    workspace = copied(run, tmp_path)
    path = workspace.home / "runs/02-challenger/looks.jsonl"
    whole = path.read_text("utf-8")
    assert not whole.endswith("\n"), "the made-up file ends in a torn line"
    first = whole.splitlines()[0]
    path.write_text(first + "\n" + whole, "utf-8")
    looks = read_chapters(workspace.home / "runs", run[1])[1].looks
    assert len(looks) == 20
    path.write_text(first[:40] + "\n" + whole, "utf-8")
    with pytest.raises(BadArtifact, match=r"looks\.jsonl"):
        read_chapters(workspace.home / "runs", run[1])


def test_data_picture_counts_by_week_and_split(tmp_path: Path) -> None:
    times = [datetime(2013, 1, 7, tzinfo=UTC) + timedelta(days=day) for day in (0, 6, 7, 8)]
    span = pl.DataFrame(
        {"event_time": times, "split": ["train", "train", "train", "tune"], "label": [1, None, 0, 1]},
        schema={"event_time": pl.Datetime("us", "UTC"), "split": pl.String, "label": pl.Int8},
    )
    write_data_picture(span, tmp_path / "data.json", BINARY)
    assert json.loads((tmp_path / "data.json").read_bytes())["weeks"] == [
        {"start": "2013-01-07", "split": "train", "rows": 2, "labelled": 1, "positives": 1},
        {"start": "2013-01-14", "split": "train", "rows": 1, "labelled": 1, "positives": 0},
        {"start": "2013-01-14", "split": "tune", "rows": 1, "labelled": 1, "positives": 1},
    ]


def test_data_picture_of_classes_and_of_numbers(tmp_path: Path) -> None:
    start = datetime(2026, 1, 5, tzinfo=UTC)
    times = pl.Series([start, start, start, start + timedelta(days=7)], dtype=pl.Datetime("us", "UTC"))
    span = pl.DataFrame({"event_time": times, "split": ["train"] * 3 + ["test"]})
    classes = span.with_columns(label=pl.Series(["two", "one", "two", None], dtype=pl.String))
    (tmp_path / "runs/01-a").mkdir(parents=True)
    picture = tmp_path / "runs/01-a/data.json"
    write_data_picture(classes, picture, MultiClass(classes=("one", "two")))
    assert json.loads(picture.read_bytes())["weeks"] == [
        {"start": "2026-01-05", "split": "train", "rows": 3, "labelled": 3, "by_label": {"one": 1, "two": 2}},
        {"start": "2026-01-12", "split": "test", "rows": 1, "labelled": 0},
    ]
    text = build_report(Workspace(tmp_path), [], TITLE, QUESTION).read_text("utf-8")
    assert "two, train: 66.7\u202f% of 3 labels" in text
    assert "Share of positive labels" not in text

    write_data_picture(span.with_columns(label=pl.lit(1.5)), picture, Regression())
    assert json.loads(picture.read_bytes())["weeks"][0] == {
        "start": "2026-01-05", "split": "train", "rows": 3, "labelled": 3, "quantiles": [1.5, 1.5, 1.5]
    }  # fmt: skip
    text = build_report(Workspace(tmp_path), [], TITLE, QUESTION).read_text("utf-8")
    assert "Rows per week" in text
    assert "Share of" not in text


@pytest.mark.parametrize(
    ("target", "labels", "more"),
    [
        (Regression(), [-10.0, 0.0, 30.0, None], {"quantiles": [-8.0, 0.0, 24.0]}),
        (Counts(), [0, 1, None, 4], {"quantiles": [0.2, 1.0, 3.4]}),
        (Counts(), [None], {}),
        (MultiClass(classes=("a", "b")), ["a", None, "b"], {"by_label": {"a": 1, "b": 1}}),
        (MultiLabel(names=("a", "b")), [["a", "b"], [], None], {"by_label": {"a": 1, "b": 1}}),
    ],
    ids=["regression", "counts", "no label yet", "multi-class", "multi-label"],
)
def test_data_picture_of_other_kinds(
    target: TargetKind, labels: list[object], more: dict[str, Any], tmp_path: Path
) -> None:
    schema = pl.Schema({"event_time": pl.Datetime("us", "UTC"), "split": pl.String(), "label": target.label_type})
    monday, n = datetime(2013, 1, 7, tzinfo=UTC), len(labels)
    span = pl.DataFrame({"event_time": [monday] * n, "split": ["train"] * n, "label": labels}, schema=schema)
    write_data_picture(span, tmp_path / "data.json", target)
    labelled = n - labels.count(None)
    (week,) = json.loads((tmp_path / "data.json").read_bytes())["weeks"]
    counted = {name: pytest.approx(value) for name, value in more.items()}
    assert week == {"start": "2013-01-07", "split": "train", "rows": n, "labelled": labelled, **counted}


def test_verdict_of_a_chapter(run: tuple[Workspace, list[Decision]]) -> None:
    assert chapter_verdict([]) is None
    assert chapter_verdict(run[1][:3]) is Verdict.PASS
    assert chapter_verdict(run[1]) is Verdict.FAIL


def test_numbers_are_written_for_people() -> None:
    assert [count(1234567), number(0.70449), number(0.00042), number(12.345), number(-0.05), number(None)] == [
        "1\u202f234\u202f567", "0.704", "0.0004", "12.35", "−0.050", "–",
    ]  # fmt: skip
    assert [number(0), number(0.00001), signed(0.05), signed(-0.0123)] == ["0", "< 0.0001", "+0.0500", "−0.0123"]
    assert [size(900), size(12_400), size(2_500), size(1_200_000)] == [
        "900\u202fB", "12\u202fkB", "2.5\u202fkB", "1.2\u202fMB",
    ]  # fmt: skip
