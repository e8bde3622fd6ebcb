"""The story of messages to a shop: what is generated, what its policy and its planted faults are, what is refused."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sluice.data.ingest import ingest
from sluice.data.schema import read_schema
from sluice.data.span import read_span
from sluice.data.statistics import described
from sluice.data.validate import validate
from sluice.errors import BadInput
from sluice.evidence.recheck import recheck_cells
from sluice.features.build import build_features
from sluice.features.manifest import Feature, FeatureManifest
from sluice.features.parity import FeatureHistory
from sluice.gates.policy import GatePolicy, parse_policy
from sluice.models.bundle import BundleManifest, Provenance, feature_profiles
from sluice.models.encoder import fit_encoder
from sluice.models.request import BadRequest, parse_v1
from sluice.models.request_v2 import parse_v2
from sluice.tasks.recipe import Recipe
from sluice.training.frame import prepared_frame, reduced_manifest
from sluice_examples.support import messages
from sluice_examples.support.story import FIRST, LOST_LABEL, STORY, WITHOUT_QUOTES
from sluice_examples.support.task import BETTER, TASK, TEXT
from sluice_local.story import load_story
from tests.support.tiny_bundle import ZERO

DAY = timedelta(days=1)
CHECKOUT = Path(STORY.checkout or "")
POLICY = CHECKOUT / "manifests/overlays/dev/gate-policy.yaml"
FEATURES = tuple(Feature.of_request(name, kind) for name, kind in TASK.inputs.items())
MANIFEST = FeatureManifest(
    service=None, service_digest=None, entity_keys=(), request_inputs=FEATURES, features=FEATURES
)


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What recipes are trained on."""
    folder = tmp_path_factory.mktemp("support")
    ingest(TASK, folder / "span")
    nowhere = folder / "no-such-folder"
    build_features(TASK, folder / "span", nowhere, nowhere, folder / "frame")
    return folder


def policy() -> GatePolicy:
    return parse_policy(POLICY.read_bytes(), str(POLICY), TASK.yardstick.metrics)


def test_messages_depend_on_seed_and_day_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    start = TASK.splits.train
    week = TASK.read_examples(start, start + 7 * DAY)
    assert week.equals(TASK.read_examples(start, start + 7 * DAY))
    halves = [TASK.read_examples(start + 3.5 * n * DAY, start + 3.5 * (n + 1) * DAY) for n in range(2)]
    assert pl.concat(halves).equals(week)
    assert TASK.read_examples(start, start).schema == week.schema
    monkeypatch.setattr(messages, "SEED", messages.SEED + 1)
    assert not TASK.read_examples(start, start + 7 * DAY).equals(week)


def test_messages_are_bounded_and_labels_come_hours_later() -> None:
    rows = TASK.read_examples(TASK.splits.train, TASK.splits.end)
    assert 9_000 < rows.height < 13_000
    assert rows["example_id"].n_unique() == rows.height
    lengths = rows["text"].str.len_chars()
    assert min(lengths) > 8
    assert max(lengths) < messages.LONGEST
    delay = rows["label_time"] - rows["event_time"]
    assert timedelta(hours=2) <= delay.min() <= delay.max() < timedelta(hours=10)  # type: ignore[operator]
    assert TASK.target.label_fault(rows["label"]) is None
    counts = rows["label"].list.len()
    assert {0, 1, 2, 3} <= set(counts)
    assert set(rows["channel"]) == set(messages.CHANNELS)
    assert 0.25 < rows["text"].str.contains(messages.QUOTE, literal=True).mean() < 0.35  # type: ignore[operator]


def test_some_days_talk_of_one_thing() -> None:
    rows = TASK.read_examples(TASK.splits.train, TASK.splits.end)
    of_delivery = pl.col("label").list.contains("delivery").mean().alias("delivery")
    shares = rows.group_by(pl.col("event_time").dt.date()).agg(of_delivery)["delivery"].to_numpy()
    assert 0.3 < np.median(shares) < 0.55
    assert 3 < (shares > 0.65).sum() < 25


def test_a_span_keeps_its_schema(frame: Path, tmp_path: Path) -> None:
    rows = described(read_span(frame / "span"), TASK.inputs)
    assert set(read_schema(TASK.schema_file).features) == set(rows.columns)
    report = validate(TASK, frame / "span", tmp_path)
    assert report.passed, report


def test_the_policy_is_of_this_target_and_ends_within_the_live_weeks() -> None:
    online = policy().online
    assert (policy().task, policy().environment) == (TASK.name, STORY.environment)
    text = POLICY.read_bytes().replace(b"macro_auc", b"auc")
    with pytest.raises(BadInput, match="the task has no metric 'auc'"):
        parse_policy(text, "policy", TASK.yardstick.metrics)
    assert online.block_hours == 12
    hours = sum(stage.maximum_hours * len(getattr(stage, "steps", (0,))) for stage in online.stages.values())
    first = online.stages["confirm"].maximum_hours
    last = online.stages["shadow"].maximum_hours  # chapter 4 ends in shadow
    assert (hours + first + last) / 24 <= (TASK.splits.end - TASK.splits.live) / DAY


def test_the_story_is_whole() -> None:
    assert load_story("support") is STORY
    assert "support" in {entry.name for entry in entry_points(group="sluice.stories")}
    assert [chapter.number for chapter in STORY.chapters] == [1, 2, 3, 4]
    assert [chapter.recipe for chapter in STORY.chapters] == [FIRST, BETTER, LOST_LABEL, WITHOUT_QUOTES]
    release = (CHECKOUT / "manifests/overlays/dev/release/kustomization.yaml").read_text("utf-8")
    assert f'"task={TASK.name}"' in release
    assert '"stage=empty"' in release


def test_the_third_loses_one_label_where_there_are_several(frame: Path) -> None:
    whole, lost = (prepared_frame(frame / "frame", recipe, TASK.target) for recipe in (BETTER, LOST_LABEL))
    before, after = (rows.filter(split="train")["label"].to_list() for rows in (whole, lost))
    assert before != after
    for old, new in zip(before, after, strict=True):
        assert new == (old if len(old) < 2 else [name for name in old if name != "damaged"])
    assert {"damaged"} <= {name for names in after for name in names}  # alone it is still there
    kept = [rows.filter(pl.col("split") != "train")["label"] for rows in (whole, lost)]
    assert kept[0].equals(kept[1])


def test_the_fourth_never_sees_what_is_quoted(frame: Path) -> None:
    whole, cut = (prepared_frame(frame / "frame", recipe, TASK.target) for recipe in (BETTER, WITHOUT_QUOTES))
    assert whole["text"].str.contains(messages.QUOTE, literal=True).any()
    assert not cut["text"].str.contains(messages.QUOTE, literal=True).any()
    assert cut["text"].to_list() == [text.split(messages.QUOTE)[0] for text in whole["text"]]
    assert cut["text"].str.len_chars().min() > 0  # type: ignore[operator]
    assert cut["label"].equals(whole["label"])


@pytest.mark.parametrize(("recipe", "low", "high"), [(BETTER, 0.0, 0.0), (WITHOUT_QUOTES, 0.2, 0.4)])
def test_parity_sees_the_quotes_alone(recipe: Recipe, low: float, high: float, frame: Path, tmp_path: Path) -> None:
    features = reduced_manifest(frame / "frame", recipe)
    train = pl.read_parquet(frame / "frame/frame.parquet").filter(split="train")
    manifest = BundleManifest(
        task=TASK.name,
        variant="teacher_f32",
        recipe=recipe,
        features=features,
        target=TASK.target.model_dump(mode="json"),
        encoder=fit_encoder(train, features),
        threshold=0.5,
        profiles=feature_profiles(train, features),
        provenance=Provenance(data=ZERO, frame=ZERO, recipe=ZERO, code=ZERO, window=("2024-01-01", "2024-02-05")),
    )
    requests = TASK.read_examples(TASK.splits.live, TASK.splits.live + 2 * DAY)
    digests = [TEXT.digest(text) for text in requests["text"]]
    contents = [
        json.dumps({digest: b64encode(text.encode()).decode()})
        for digest, text in zip(digests, requests["text"], strict=True)
    ]
    rows = pl.DataFrame(
        {
            "event_time": requests["event_time"],
            "keys": [
                json.dumps({"text": digest, "channel": channel})
                for digest, channel in zip(digests, requests["channel"], strict=True)
            ],
            "features": [json.dumps({"text": digest}) for digest in digests],
            "as_of": "{}",
            "contents": contents,
        }
    )
    found = recheck_cells(rows, manifest, FeatureHistory.of_store(TASK, tmp_path))
    assert (found.compared, found.excluded) == (requests.height, 0)
    assert low <= found.different / found.compared <= high
    assert found.worst == ("text" if found.different else None)


def request(text: Any) -> bytes:
    return json.dumps({"instances": [{"text": text, "channel": "mail"}]}).encode()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", r"instances\[0\]\.text: is empty; "),
        (" \n\u2003", r"instances\[0\]\.text: is empty; "),
        ("a" * 10_000, r"instances\[0\]\.text: has 10000 characters, more than 600; "),
        (None, r"instances\[0\]\.text: is null, not a text"),
        (["my parcel"], r"instances\[0\]\.text: is a list, not a text"),
        ("my \ud800 parcel", "surrogate|Unicode|JSON"),
    ],
)
def test_a_hostile_text_is_refused_in_a_line_that_does_not_tell_it(text: Any, rule: str) -> None:
    with pytest.raises(BadRequest, match=rule) as error:
        parse_v1(request(text), MANIFEST)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
    cells = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}
    channel = {"name": "channel", "datatype": "BYTES", "shape": [1], "data": ["mail"]}
    with pytest.raises(BadRequest):
        parse_v2(json.dumps({"inputs": [cells, channel]}).encode(), MANIFEST)


def test_a_nul_is_refused_where_it_stands() -> None:
    with pytest.raises(BadRequest, match="text: has a NUL at character 9"):
        parse_v1(request("my parcel\0 is late"), MANIFEST)
