"""A request that carries an image and keys: what the feature store has comes beside it, online as in training."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest

from sluice.data.ingest import ingest
from sluice.features.build import build_features
from sluice.features.manifest import FeatureManifest
from sluice.features.parity import FeatureHistory, offline_cells
from sluice.features.publish import FeaturePublisher
from sluice.features.reader import OnlineReader
from sluice.inputs.tensors import TensorInput
from sluice.models.encoder import fit_encoder
from sluice.models.request import BadRequest, parse_v1
from tests.support import tiny_task

REPO = Path(tiny_task.__file__).with_name("tiny_feature_repo")
PICTURE = TensorInput(shape=(2, 2))


def read_examples(start: datetime, end: datetime) -> pl.DataFrame:
    """The orders with a picture each, the same for the same order."""
    rows = tiny_task.read_examples(start, end)
    numbers = rows["example_id"].str.slice(6).cast(pl.Int64).to_numpy()
    return rows.with_columns(picture=(numbers[:, None, None] * np.array([[3, 5], [7, 11]]) % 256).astype(np.uint8))


TASK = dataclasses.replace(
    tiny_task.TASK,
    read_examples=read_examples,
    request_inputs={**tiny_task.TASK.request_inputs, "picture": PICTURE},
)


def test_an_image_passes_the_feature_store_as_it_is(tmp_path: Path) -> None:
    ingest(TASK, tmp_path / "span")
    build_features(TASK, tmp_path / "span", REPO, tmp_path / "training", tmp_path / "frame")
    frame = pl.read_parquet(tmp_path / "frame/frame.parquet")
    manifest = FeatureManifest.model_validate_json((tmp_path / "frame/manifest.json").read_bytes())
    assert frame.schema["picture"] == pl.Array(pl.UInt8, (2, 2))
    names = ("amount", "shop_orders", "picture")
    manifest = manifest.model_copy(update={"features": tuple(f for f in manifest.features if f.name in names)})
    moment = TASK.splits.live + timedelta(hours=1)
    publisher = FeaturePublisher(TASK, tmp_path / "serving", REPO)
    publisher.reset(moment)
    asked = read_examples(moment, TASK.splits.end).head(5)
    sent: list[dict[str, Any]] = asked.select(*TASK.carried).to_dicts()
    request = parse_v1(orjson.dumps({"instances": sent}), manifest)
    assert request.online
    read = OnlineReader(tmp_path / "serving", manifest).read(request.instances, moment)
    assert [row["picture"].tolist() for row in read.rows] == asked["picture"].to_list()
    assert all(row["shop_orders"] > 0 for row in read.rows)
    requests = asked.with_columns(event_time=pl.lit(moment).dt.cast_time_unit("us"))
    offline = offline_cells(FeatureHistory.of_store(TASK, tmp_path / "serving"), requests, manifest.names)
    encoder = fit_encoder(frame, manifest)
    online = {name: [row[name] for row in read.rows] for name in manifest.names}
    assert np.array_equal(encoder.encode(online), encoder.encode(offline.cells))
    with pytest.raises(BadRequest, match=r"instances\[0\]\.picture: has a list of 1 at its top, not a list of 2"):
        parse_v1(orjson.dumps({"instances": [{**sent[0], "picture": [[1, 2]]}]}), manifest)
