"""A model cut over virtual devices, by Keras's distribution on JAX: equal to one device, and really cut."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from sluice.training.distribution import tf_config
from tests.support.tiny_training import RECIPE, sample, write_frame

DEVICES = 8
SHARDS = """
import json, sys
from pathlib import Path
from sluice.errors import BadInput
from sluice.models.builder import build
from sluice.tasks.recipe import Recipe
from sluice.training.determinism import start_jax
from sluice.training.distribution import Distribution
from sluice.training.teacher import TrainingSetup, train_teacher

frame, out, recipe = Path(sys.argv[1]), Path(sys.argv[2]), Recipe.model_validate_json(sys.argv[3])
told = {}
for name, kind, shards in (("one", "single", 1), ("data", "mirrored", 1), ("model", "model_parallel", 4)):
    distribution = Distribution(kind=kind, model_shards=shards)
    record = train_teacher(frame, recipe, out / name, ("shop",), print, TrainingSetup(distribution))
    told[name] = [record.tune_loss, record.tune_auc]
keras = start_jax(0, distribution)
kernel = build(keras, 16, (32, 32), 0.0).layers[1].kernel.value
told["kernel"], told["shard"] = kernel.shape, kernel.addressable_shards[0].data.shape
told["devices"] = len({shard.device for shard in kernel.addressable_shards})
told["refused"] = []
for distribution in (Distribution(kind="model_parallel", model_shards=3), Distribution(kind="multi_worker")):
    try:
        train_teacher(frame, recipe, out / "refused", ("shop",), print, TrainingSetup(distribution))
    except BadInput as error:
        told["refused"].append(str(error))
(out / "told.json").write_text(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    rows = sample()
    rest = rows.filter(split="train").height % DEVICES  # rows that eight devices would leave out, and one would not
    frame, out = write_frame(tmp_path_factory.mktemp("frame"), rows[rest:]), tmp_path_factory.mktemp("jax")
    virtual = {
        "KERAS_BACKEND": "jax",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}",
        "TF_CONFIG": tf_config(("one:1", "two:1"), 0),
    }
    recipe = RECIPE.model_copy(update={"teacher": (32, 32), "train_transform": {}, "epochs": 2})
    done = subprocess.run(
        [sys.executable, "-c", SHARDS, str(frame), str(out), recipe.model_dump_json()],
        env=os.environ | virtual,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((out / "told.json").read_text())
    return found


def test_a_layer_lies_in_shards_on_several_devices(told: dict[str, Any]) -> None:
    assert told["kernel"] == [32, 32]
    assert told["shard"] == [32, 8]
    assert told["devices"] == DEVICES


@pytest.mark.parametrize("spread", ["data", "model"])
def test_spread_over_eight_devices_it_learns_what_one_learns(told: dict[str, Any], spread: str) -> None:
    assert told[spread] == pytest.approx(told["one"], abs=1e-5)


def test_what_the_devices_cannot_do_is_refused(told: dict[str, Any]) -> None:
    assert len(told["refused"]) == 2
    assert "3 do not divide 8 devices" in told["refused"][0]
    assert "needs the TensorFlow backend" in told["refused"][1]
