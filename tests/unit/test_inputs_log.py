"""Images and texts in the prediction log: once, by digest, within a bound; and read again where cells are compared."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest

from sluice.content import digest_of_bytes
from sluice.data.divergence import divergence, profile_of
from sluice.errors import BadInput
from sluice.evidence.recheck import recheck_cells
from sluice.evidence.rows import decoded
from sluice.features.build import manifest_of
from sluice.features.manifest import FeatureManifest
from sluice.features.materialize import materialize
from sluice.features.parity import FeatureHistory
from sluice.features.plan import NO_SERVICE
from sluice.features.request_reader import RequestReader
from sluice.feedback.batch import Batch, parse_predictions
from sluice.feedback.store_source import StoreSource
from sluice.models.bundle import BundleManifest, Provenance, feature_profiles
from sluice.models.encoder import fit_encoder
from sluice.models.request import BadRequest, parse_v1
from sluice.predictions.contents import ContentBudget, beside_their_rows, contents_of
from sluice.predictions.log import LogWriter, PredictionRecord, read_lines, window_frame
from sluice_serving.logged_inputs import LoggedInputs
from sluice_serving.shipping import Spool
from tests.support import tiny_task
from tests.support.digits_task import IMAGE, TASK, drawings

MOMENT = datetime(2024, 3, 2, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
MANIFEST = manifest_of(TASK, NO_SERVICE)
ROWS = drawings().head(6)


def record(number: int, features: FeatureManifest = MANIFEST) -> PredictionRecord:
    """What a server logs of a drawing."""
    body = orjson.dumps({"instances": ROWS.select("image", "pen").slice(number % 6, 1).to_dicts()})
    request = parse_v1(body, features)
    read = RequestReader(features).read(request.instances, MOMENT)
    logged = LoggedInputs(features)
    return PredictionRecord(
        request_id=f"r{number}",
        event_time=MOMENT + timedelta(minutes=number),
        route="stable",
        rollout="",
        digest=DIGEST,
        score=0.5,
        status=200,
        latency_ms=1.0,
        features=logged.logged(read.rows[0]),
        missing=read.missing[0],
        stale=read.stale[0],
        keys=logged.keys(request.instances[0]),
        contents=logged.contents(read.rows[0]),
    )


def logged(folder: Path, records: list[PredictionRecord], budget: ContentBudget | None = None) -> pl.DataFrame:
    writer = LogWriter(folder / "server.jsonl", budget)
    writer.write(records)
    writer.close()
    return window_frame(read_lines(folder, {}))


def test_a_log_names_an_image_by_its_digest_and_says_what_it_is_like(tmp_path: Path) -> None:
    rows = logged(tmp_path, [record(0)])
    pixels = ROWS["image"].to_numpy()[0]
    digest = digest_of_bytes(pixels.tobytes())
    features, keys = (json.loads(rows[name][0]) for name in ("features", "keys"))
    assert keys == {"image": digest, "pen": "brush"}
    assert (features["image"], features["pen"]) == (digest, "brush")
    assert features["image.mean"] == pytest.approx(pixels.mean())
    assert sorted(features) == ["image", "image.deviation", "image.highest", "image.lowest", "image.mean", "pen"]
    assert contents_of(rows["contents"]) == {digest: pixels.tobytes()}
    assert np.array_equal(IMAGE.from_content(contents_of(rows["contents"])[digest]), pixels)


def test_equal_images_are_written_once(tmp_path: Path) -> None:
    rows = logged(tmp_path, [record(number) for number in range(18)])
    assert rows["contents"].null_count() == 12
    assert len(contents_of(rows["contents"])) == 6
    assert (tmp_path / "server.jsonl").stat().st_size < 18 * 700 + 6 * 100


def test_beyond_its_bound_a_log_has_digests_alone_until_the_next_hour(tmp_path: Path) -> None:
    now = [0.0]
    budget = ContentBudget(hour_bytes=150, clock=lambda: now[0])
    writer = LogWriter(tmp_path / "server.jsonl", budget)
    writer.write(record(number) for number in range(6))
    rows = window_frame(read_lines(tmp_path, {}))
    assert rows["contents"].null_count() == 4  # 64 bytes each
    assert all("sha256:" in keys for keys in rows["keys"])
    now[0] = 3600.0
    writer.write([record(4), record(0), record(1)])
    again = window_frame(read_lines(tmp_path, {})[6:])
    assert again["contents"].is_null().to_list() == [False, True, False]  # of 0, 1 and 4, which came first
    assert ContentBudget(hour_bytes=0).fresh({DIGEST: b"x"}) == {}


def test_what_a_spool_drops_it_writes_again(tmp_path: Path) -> None:
    line = len(record(0).line(ContentBudget().fresh(record(0).contents)))
    spool = Spool(tmp_path / "full", line - 1, 100, 60)
    spool.write([record(0)])
    assert spool.dropped == 1
    roomy = Spool(tmp_path / "roomy", 3 * line, 100, 60)
    for number in range(3):
        roomy.write([record(number)])
    lines = read_lines(tmp_path / "roomy", {})
    assert ["contents" in each for each in lines] == [True, True, False]  # half full, it leaves room for predictions


def test_a_collector_takes_contents_and_no_value_in_their_place() -> None:
    body = record(0).line(ContentBudget().fresh(record(0).contents))
    frame = parse_predictions(Batch.of(MOMENT, body), body)
    assert len(contents_of(frame["contents"])) == 1
    for wrong in ({"contents": {"sha256:1": "AA=="}}, {"contents": {DIGEST: 7}}, {"keys": {"image": [[1]]}}):
        body = orjson.dumps({**orjson.loads(record(0).line()), **wrong})
        with pytest.raises(BadRequest, match="line 1"):
            parse_predictions(Batch.of(MOMENT, body), body)


def test_contents_that_are_not_what_their_digest_says_do_not_count() -> None:
    assert contents_of([json.dumps({DIGEST: "AAAA"}), json.dumps({DIGEST: "no base64!"}), None, ""]) == {}


def test_a_sample_gets_its_contents_from_whichever_row_had_them(tmp_path: Path) -> None:
    rows = logged(tmp_path, [record(number) for number in range(12)])
    kept = beside_their_rows(rows, ["r7", "r11"])
    assert kept.filter(pl.col("contents").is_not_null())["request_id"].sort().to_list() == ["r11", "r7"]
    own = {name: contents_of([text]) for name, text in kept.select("request_id", "contents").iter_rows()}
    assert own["r7"] == dict(record(1).contents)
    assert own["r0"] == {}


def bundle_manifest(transform: dict[str, str] | None = None) -> BundleManifest:
    train = drawings().head(200)
    return BundleManifest(
        task="drawings",
        variant="teacher_f32",
        recipe=TASK.recipe.model_copy(update={"features": ("image", "pen"), "transform": transform or {}}),
        features=MANIFEST,
        encoder=fit_encoder(train, MANIFEST),
        threshold=0.5,
        provenance=Provenance(data=DIGEST, frame=DIGEST, recipe=DIGEST, code=DIGEST, window=("a", "b")),
        profiles=feature_profiles(train, MANIFEST),
    )


def test_served_images_are_compared_with_the_training_path(tmp_path: Path) -> None:
    history = FeatureHistory.of_store(TASK, tmp_path / "no store")
    rows = logged(tmp_path, [record(number) for number in range(6)])
    found = recheck_cells(rows, bundle_manifest(), history)
    assert (found.compared, found.different, found.excluded) == (12, 0, 0)
    # the frame's own path does what serving does not
    found = recheck_cells(rows, bundle_manifest({"pen": "UPPER(pen)"}), history)
    assert (found.different, found.worst) == (6, "pen")


@pytest.mark.parametrize("transform", ["255 - image", "image / 255", "image / 1 + image / 1000000"])
def test_images_that_are_trained_on_otherwise_are_wrong_cells(tmp_path: Path, transform: str) -> None:
    # The last is the served image again once it is cut to whole grey levels, but no model learned from that.
    rows = logged(tmp_path, [record(number) for number in range(6)])
    found = recheck_cells(rows, bundle_manifest({"image": transform}), FeatureHistory.of_store(TASK, tmp_path))
    assert (found.different, found.worst) == (6, "image")


def test_an_image_that_is_the_same_in_another_type_is_the_same(tmp_path: Path) -> None:
    rows = logged(tmp_path, [record(number) for number in range(6)])
    found = recheck_cells(rows, bundle_manifest({"image": "image / 1"}), FeatureHistory.of_store(TASK, tmp_path))
    assert (found.compared, found.different) == (12, 0)


def test_a_cluster_compares_requests_of_a_task_without_feature_tables(tmp_path: Path) -> None:
    rows = logged(tmp_path, [record(0)])
    recheck = StoreSource("s3://predictions", "s3://models", {})._recheck(TASK)
    assert recheck is not None
    found = recheck(rows, bundle_manifest())
    assert found is not None
    assert (found.compared, found.different) == (2, 0)
    assert StoreSource("s3://predictions", "s3://models", {})._recheck(tiny_task.TASK) is None


def test_there_is_nothing_to_materialize_without_a_feature_service() -> None:
    assert materialize(TASK, Path("nowhere"), {}, MOMENT) == ()
    with pytest.raises(BadInput, match="SLUICE_FEATURES: is not set"):
        materialize(tiny_task.TASK, Path("nowhere"), {}, MOMENT)


def test_an_image_that_was_served_otherwise_is_a_wrong_cell(tmp_path: Path) -> None:
    first = record(0)
    other = dataclasses.replace(first, features={**first.features, "image": DIGEST})
    rows = logged(tmp_path, [other, record(1)])
    found = recheck_cells(rows, bundle_manifest(), FeatureHistory.of_store(TASK, tmp_path))
    assert (found.compared, found.different, found.worst) == (4, 1, "image")
    said = found.wrong[0].example
    assert said == f"{DIGEST[:19]} was served, {first.features['image'][:19]} is what training would read"


def test_requests_whose_image_nobody_kept_are_not_compared(tmp_path: Path) -> None:
    rows = logged(tmp_path, [record(number) for number in range(3)], ContentBudget(hour_bytes=70))
    found = recheck_cells(rows, bundle_manifest(), FeatureHistory.of_store(TASK, tmp_path))
    assert (found.compared, found.excluded) == (2, 4)


def test_what_images_are_like_is_compared_with_training_as_any_number_is(tmp_path: Path) -> None:
    manifest = bundle_manifest()
    assert sorted(manifest.profiles) == ["image.deviation", "image.highest", "image.lowest", "image.mean", "pen"]
    rows = decoded(
        logged(tmp_path, [record(number) for number in range(6)]), manifest.profiles, TASK.slices, TASK.logged
    )
    assert rows["slice_pen"].to_list() == ["brush", "chalk"] * 3
    served = rows["vector"].struct.field("image.mean")
    assert served.to_list() == pytest.approx(ROWS["image"].to_numpy().mean(axis=(1, 2)).tolist())
    assert divergence(profile_of(served), served) == 0.0
    assert divergence(manifest.profiles["image.mean"], served + 300) > 0.9


def test_a_request_is_read_without_any_store() -> None:
    narrow = MANIFEST.model_copy(update={"features": MANIFEST.features[:1]})
    rows: list[dict[str, Any]] = [{"image": 1, "pen": "brush"}, {"image": 2, "pen": None}]
    read = RequestReader(MANIFEST).read(rows, MOMENT)
    assert (read.rows, read.missing) == (rows, [(), ("pen",)])
    assert RequestReader(narrow).read(rows, MOMENT).rows == [{"image": 1}, {"image": 2}]
