"""The example of delays: its labels are what the source says, its story is whole, its faults are what it says."""

from __future__ import annotations

import csv
import dataclasses
import io
import zipfile
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path

import polars as pl
import pytest
import yaml

from sluice.data.anomalies import find_anomalies
from sluice.data.divergence import profile_of
from sluice.data.ingest import check_columns, check_requests, check_rows, ingest, with_split
from sluice.data.schema import Schema, read_schema
from sluice.data.span import read_span
from sluice.errors import BadInput
from sluice.features.definitions import load_definitions
from sluice.features.manifest import Feature, FeatureManifest
from sluice.features.tables import tables_at
from sluice.gates.policy import GatePolicy, parse_policy
from sluice.gitops.writer import GitOps
from sluice.installation import FEATURE_REPO
from sluice.tasks import flights
from sluice.tasks.flights_source import source_files
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import Splits, load_task
from sluice.training.families.registry import family_of
from sluice.training.frame import as_trained, prepared_frame
from sluice.training.setup import TrainingSetup
from sluice_examples.delay.story import BIAS_MINUTES, BIASED, BIASED_CARRIER, STORY, WRONG_UNIT
from sluice_examples.delay.task import TASK, read_examples
from sluice_local.story import load_story

_START, _END = datetime(2013, 2, 8, 5, tzinfo=UTC), datetime(2013, 2, 10, 5, tzinfo=UTC)
"""Two nights and a blizzard: half of the flights were cancelled."""
_RECIPES: list[Recipe] = [chapter.recipe for chapter in STORY.chapters if chapter.recipe]


@pytest.fixture(scope="module")
def examples() -> pl.DataFrame:
    """Those of the blizzard."""
    return read_examples(_START, _END)


@pytest.fixture(scope="module")
def year() -> pl.DataFrame:
    """All that a span may hold."""
    return read_examples(TASK.splits.train, TASK.splits.live)


def test_labels_are_the_delays_of_the_source(examples: pl.DataFrame) -> None:
    said = dict(examples.select("example_id", "label").iter_rows())
    written = _written(_START, _END)
    assert len(said) == len(written) == examples.height > 1000
    assert said == written
    assert examples["label"].dtype == pl.Float64


def test_what_never_arrived_has_no_label(examples: pl.DataFrame) -> None:
    missing = examples["label"].is_null()
    assert 0.4 < missing.sum() / missing.len() < 0.7, "the blizzard"
    assert missing.equals(examples["label_time"].is_null().alias("label"))
    assert (examples["label"] < 0).sum() > 50, "flights that land early"


def test_rows_are_those_of_flights_and_their_late_ones_fifteen_minutes(examples: pl.DataFrame) -> None:
    theirs = flights.read_examples(_START, _END)
    assert examples.drop("label").equals(theirs.drop("label"))
    assert (examples["label"] >= 15).cast(pl.Int8).equals(theirs["label"])
    check_columns(TASK, examples)
    inside = dataclasses.replace(TASK, splits=Splits(_START, _START, _START, _END, _END))
    check_rows(inside, examples)
    check_requests(TASK, examples)


def test_a_span_keeps_what_never_arrived(tmp_path: Path) -> None:
    inside = dataclasses.replace(TASK, splits=Splits(_START, datetime(2013, 2, 9, 5, tzinfo=UTC), _END, _END, _END))
    record = ingest(inside, tmp_path)
    assert record.columns["label"] == "float64"
    assert read_span(tmp_path)["label"].null_count() > 500


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("range", pl.col("label") * 60),
        ("divergence", pl.col("label") / 60),
        ("divergence", pl.col("label") + 10),
        ("divergence", -pl.col("label")),
        ("presence", pl.when(pl.col("label") < 30).then(pl.col("label"))),
    ],
    ids=["seconds", "hours", "ten minutes more", "early for late", "nobody is very late"],
)
def test_the_schema_knows_minutes(year: pl.DataFrame, rule: str, change: pl.Expr) -> None:
    schema, split = read_schema(TASK.schema_file), with_split(year, TASK.splits)
    train, fresh = split.filter(split="train"), split.filter(split="test")
    label = Schema(features={"label": schema.features["label"]}, unique=(), order=())
    baseline = {"label": profile_of(train["label"])}
    assert find_anomalies(fresh.select("label"), label, baseline) == ()
    broken = find_anomalies(fresh.select(change.alias("label")), label, baseline)
    assert rule in {anomaly.rule for anomaly in broken}


def _policy_text() -> bytes:
    assert STORY.checkout
    return (Path(STORY.checkout) / "manifests/overlays/dev/gate-policy.yaml").read_bytes()


def _policy(text: bytes) -> GatePolicy:
    return parse_policy(text, "gate-policy.yaml", TASK.yardstick.metrics)


def test_the_policy_is_one_of_this_task() -> None:
    policy = _policy(_policy_text())
    assert (policy.task, policy.environment) == (TASK.name, STORY.environment)
    with pytest.raises(BadInput, match=r"line \d+: .*log_loss"):
        _policy(_policy_text().replace(b"metric: pinball", b"metric: log_loss"))
    with pytest.raises(BadInput, match=r"line \d+: .*auc"):
        _policy(_policy_text().replace(b"metric: coverage", b"metric: auc"))


def test_every_margin_is_smaller_than_the_planted_bias_costs() -> None:
    """A median that is an hour too high costs 30 minutes of its third of pinball loss, the quantiles as they lie."""
    policy = _policy(_policy_text())
    (slices,) = [rule for rule in policy.offline if rule.per_slice]
    assert slices.margin < BIAS_MINUTES / 2 / 3
    assert all(rule.margin < slices.margin for rule in policy.offline if not rule.per_slice and rule.role != "limit")


def test_the_story_is_whole(tmp_path: Path) -> None:
    assert load_story("sluice_examples.delay.story:STORY") is STORY
    assert load_task(STORY.task) is TASK
    assert [chapter.number for chapter in STORY.chapters] == list(range(1, len(STORY.chapters) + 1))
    assert STORY.checkout
    gitops = GitOps(tmp_path / "gitops.git", STORY.environment)
    gitops.seed(Path(STORY.checkout))
    snapshot = gitops.snapshot()
    assert (snapshot.state.stage, snapshot.state.stable) == ("empty", None)
    assert snapshot.policy.task == TASK.name
    release = yaml.safe_load(gitops.file("manifests/overlays/dev/release/kustomization.yaml") or b"")
    assert f"task={TASK.name}" in release["configMapGenerator"][0]["literals"]


def test_the_story_has_a_short_name() -> None:
    named = {entry.name: entry.value for entry in entry_points(group="sluice.stories")}
    assert named["delay"] == "sluice_examples.delay.story:STORY"


@pytest.mark.parametrize("recipe", _RECIPES, ids=lambda recipe: recipe.name)
def test_recipes_ask_for_features_that_feast_has(recipe: Recipe) -> None:
    with tables_at("."):
        (service,) = [each for each in load_definitions(FEATURE_REPO) if each.name == TASK.feature_service]
    known = {feature.name for projection in service.feature_view_projections for feature in projection.features}
    assert set(recipe.features) <= known | {"distance", "scheduled_elapsed", *TASK.entity_keys}
    family_of(recipe).check(recipe, TrainingSetup())


def test_the_bias_is_planted_in_training_rows_of_one_carrier_alone(tmp_path: Path) -> None:
    recipe = BIASED.model_copy(update={"features": ("carrier",)})
    rows = _frame(tmp_path).rows_by_key("example_id", named=True, unique=True)
    moved = 0
    for example_id, split, carrier, label in (
        prepared_frame(tmp_path, recipe, TASK.target).select("example_id", "split", "carrier", "label").iter_rows()
    ):
        bias = BIAS_MINUTES if (split, carrier) == ("train", BIASED_CARRIER) else 0
        assert label == rows[example_id]["label"] + bias, (split, carrier)
        moved += bias > 0
    assert moved > 10


def test_the_unit_is_wrong_in_one_column_alone() -> None:
    cells = pl.DataFrame({"airport_delay_mean": [12.0, None, -3.0], "previous_arr_delay": [5.0, 6.0, 7.0]})
    trained = as_trained(cells, WRONG_UNIT)
    assert trained["airport_delay_mean"].to_list() == [720.0, None, -180.0]
    assert trained.drop("airport_delay_mean").equals(cells.drop("airport_delay_mean"))


def _written(start: datetime, end: datetime) -> dict[str, float | None]:
    """Delays by example, from the file's own lines: what the csv module reads, and arithmetic on its local times."""
    with zipfile.ZipFile(source_files()["flights.csv.zip"]) as archive:
        lines = csv.DictReader(io.StringIO(archive.read("flights.csv").decode()))
        found: dict[str, float | None] = {}
        for line in lines:
            if line["month"] != "2":
                continue
            hour = datetime.fromisoformat(line["time_hour"].replace("Z", "+00:00"))
            departure = hour.replace(minute=int(line["minute"]))
            if start <= departure < end:
                route = f"{line['origin']}-{line['dest']}"
                name = f"{departure:%Y-%m-%dT%H:%MZ}-{line['carrier']}-{line['flight']}-{route}"
                found[name] = None if line["arr_delay"] in ("NA", "") else float(line["arr_delay"])
    return found


def _frame(folder: Path) -> pl.DataFrame:
    """A week's landed flights as a features step writes them, with the carrier alone."""
    splits = Splits(
        datetime(2013, 1, 7, 5, tzinfo=UTC),
        datetime(2013, 1, 10, 5, tzinfo=UTC),
        datetime(2013, 1, 12, 5, tzinfo=UTC),
        datetime(2013, 1, 14, 5, tzinfo=UTC),
        datetime(2013, 1, 14, 5, tzinfo=UTC),
    )
    rows = with_split(read_examples(splits.train, splits.live), splits).filter(pl.col("label").is_not_null())
    rows.write_parquet(folder / "frame.parquet")
    manifest = FeatureManifest(
        service=TASK.feature_service,
        service_digest=None,
        entity_keys=TASK.entity_keys,
        request_inputs=(),
        features=(Feature(name="carrier", dtype="string", view="request"),),
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(), "utf-8")
    return rows
