"""Several devices and several processes train together, one is lost, and the result is that of one process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sluice.errors import BadArtifact
from sluice.training.checkpoint import CheckpointStore, identity_of
from sluice.training.distribution import tf_config
from sluice.training.frame import encoded_splits, prepared_frame, reduced_manifest
from sluice.training.loop import PREEMPTED
from tests.support.forked import AS_A_TRAINING
from tests.support.patience import wait_until
from tests.support.servers import s3_bucket
from tests.support.tiny_training import RECIPE, sample, write_frame

ROOT = Path(__file__).parents[2]
TOGETHER = RECIPE.model_copy(update={"epochs": 6, "dropout": 0.2})
EVERY = 25
CHECKPOINTS = "s3://training/two"
TOLERANCE = 1e-5
"""Largest difference of a weight: the sums of gradients are cut into pieces where they are shared."""
ONE_PROCESS = (
    AS_A_TRAINING
    + """
import json, os, signal, sys
from pathlib import Path
import tensorflow as tf
processors = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(processors[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from sluice.errors import BadInput
from sluice.tasks.recipe import Recipe
from sluice.training.distribution import Distribution
from sluice.training.teacher import TrainingSetup, train_teacher

frame, out, recipe = Path(sys.argv[1]), Path(sys.argv[2]), Recipe.model_validate_json(sys.argv[3])
mirrored = Distribution(kind="mirrored")

def train(name, progress=print, setup=TrainingSetup(mirrored), **change):
    return train_teacher(frame, recipe.model_copy(update=change), out / name, ("shop",), progress, setup)

kept = TrainingSetup(checkpoints=str(out / "checkpoint"), every=25)
plain = train("plain", setup=TrainingSetup())
single = train("single", setup=TrainingSetup(checkpoints=str(out / "single-checkpoint")))
train("mirrored")
bfloat16 = train("bfloat16", precision="mixed_bfloat16")
try:
    train("stopped", lambda line: line.startswith("epoch 3/") and os.kill(os.getpid(), signal.SIGTERM), kept)
except SystemExit as end:
    code = end.code
unfinished = (out / "stopped").exists()
lines = []
train("stopped", lines.append, kept)
try:
    train("uneven", batch_size=63)
    refused = ""
except BadInput as error:
    refused = str(error)
told = {"code": code, "unfinished": unfinished, "lines": lines, "refused": refused, "plain": plain.tune_auc,
        "single": single.tune_auc, "bfloat16": bfloat16.tune_auc}
(out / "told.json").write_text(json.dumps(told))
"""
)


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_frame(tmp_path_factory.mktemp("frame"), sample())


@pytest.fixture(scope="module")
def started(frame: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.Popen[str], Path]:
    """One process that trains on one device, on two, and through a SIGTERM; it runs beside the two workers."""
    out = tmp_path_factory.mktemp("one")
    command = [sys.executable, "-c", ONE_PROCESS, str(frame), str(out), TOGETHER.model_dump_json()]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT), out


@pytest.fixture(scope="module")
def one(started: tuple[subprocess.Popen[str], Path]) -> tuple[Path, dict[str, Any]]:
    process, out = started
    said = process.communicate()
    assert process.returncode == 0, said
    return out, json.loads((out / "told.json").read_text())


@pytest.fixture(scope="module")
def kept() -> Iterator[CheckpointStore]:
    """Where the two workers keep their checkpoint: storage of the S3 protocol, which the environment names."""
    with s3_bucket("training"):
        yield CheckpointStore(CHECKPOINTS)


def addresses() -> tuple[str, ...]:
    with socket.socket() as first, socket.socket() as second:
        for meeting in (first, second):
            meeting.bind(("127.0.0.1", 0))
        return tuple(f"127.0.0.1:{meeting.getsockname()[1]}" for meeting in (first, second))


def start_workers(frame: Path, out: Path, by: str) -> list[subprocess.Popen[str]]:
    """Two workers that find each other as in a TrainJob, or as in a TFJob."""
    asked = {
        "task": "tests.support.tiny_training:TASK",
        "recipe": TOGETHER.model_dump_json(),
        "frame": str(frame),
        "out": str(out / "teacher"),
        "checkpoints": CHECKPOINTS,
        "every": str(EVERY),
    }
    command = [sys.executable, "-m", "sluice.training.worker", *(f"--{name}={value}" for name, value in asked.items())]
    nodes = addresses()
    settings = [
        {"SLUICE_NODES": ",".join(nodes), "JOB_COMPLETION_INDEX": str(index)}
        if by == "TrainJob"
        else {"TF_CONFIG": tf_config(nodes, index)}
        for index in range(2)
    ]
    return [
        subprocess.Popen(
            command, env=os.environ | given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        for given in settings
    ]


def identity(frame: Path) -> str:
    from sluice.models.encoder import fit_encoder

    rows = prepared_frame(frame, TOGETHER)
    encoder = fit_encoder(rows.filter(split="train"), reduced_manifest(frame, TOGETHER))
    return identity_of(TOGETHER, encoded_splits(rows, encoder)["train"])


def _is_whole(kept: CheckpointStore, identity: str) -> bool:
    """Whether there is a checkpoint; one that is replaced between the two requests of a read says no."""
    try:
        return kept.read(identity) is not None
    except BadArtifact:
        return False


@pytest.fixture(scope="module")
def lost(
    started: tuple[subprocess.Popen[str], Path],
    frame: Path,
    kept: CheckpointStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """Two workers of which one is killed after the first checkpoint; both started again."""
    out = tmp_path_factory.mktemp("two")
    mine = identity(frame)
    workers = start_workers(frame, out, "TrainJob")
    wait_until("a checkpoint is kept", lambda: _is_whole(kept, mine), 200)
    workers[1].send_signal(signal.SIGKILL)
    killed = [worker.communicate() for worker in workers]
    codes = [worker.returncode for worker in workers]
    newest, whole = kept.read(mine), (out / "teacher").exists()
    again = start_workers(frame, out, "TFJob")
    resumed = [worker.communicate() for worker in again]
    assert [worker.returncode for worker in again] == [0, 0], resumed
    left = kept.read(mine)
    said = {"said": killed, "resumed": resumed}
    return {"out": out, "codes": codes, **said, "kept": newest, "whole": whole, "left": left}


def weights(teacher: Path) -> list[Any]:
    found: list[Any] = []
    with h5py.File(teacher / "teacher.weights.h5") as stored:
        stored.visititems(lambda _name, item: found.append(item[()]) if isinstance(item, h5py.Dataset) else None)
    return found


def apart(first: Path, second: Path) -> float:
    pairs = zip(weights(first), weights(second), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def curve(teacher: Path) -> list[float]:
    return [epoch["tune_loss"] for epoch in json.loads((teacher / "history.json").read_text())["history"]]


def test_a_killed_worker_ends_the_other_to_be_started_again(lost: dict[str, Any]) -> None:
    assert lost["codes"] == [PREEMPTED, -signal.SIGKILL]
    assert "lost another worker" in lost["said"][0][1]
    assert not lost["whole"]


def test_it_costs_at_most_one_interval(lost: dict[str, Any], frame: Path) -> None:
    steps = sample().filter(split="train").height // TOGETHER.batch_size
    seen = steps * len(lost["said"][0][0].splitlines())
    assert lost["kept"].step % EVERY == 0
    assert seen - EVERY < lost["kept"].step < steps * TOGETHER.epochs
    first_after = lost["resumed"][0][0].split()[1]
    assert first_after == f"{lost['kept'].step // steps + 1}/{TOGETHER.epochs}"


def test_two_workers_give_the_result_of_one_process(lost: dict[str, Any], one: tuple[Path, dict[str, Any]]) -> None:
    two = lost["out"] / "teacher"
    assert apart(two, one[0] / "single") < TOLERANCE
    assert np.abs(np.subtract(curve(two), curve(one[0] / "single"))).max() < TOLERANCE
    assert lost["left"] is None


def test_only_the_chief_speaks_and_writes(lost: dict[str, Any]) -> None:
    assert lost["resumed"][1][0] == ""
    assert sorted(path.name for path in lost["out"].iterdir()) == ["teacher"]


def test_two_devices_give_the_result_of_one(one: tuple[Path, dict[str, Any]]) -> None:
    assert apart(one[0] / "mirrored", one[0] / "single") < TOLERANCE


def test_sigterm_saves_and_the_next_start_ends_bit_by_bit_the_same(one: tuple[Path, dict[str, Any]]) -> None:
    out, told = one
    assert told["code"] == PREEMPTED
    assert not told["unfinished"]
    assert [line.split()[1] for line in told["lines"]] == ["4/6", "5/6", "6/6"]
    assert apart(out / "stopped", out / "single") == 0
    assert curve(out / "stopped") == curve(out / "single")


def test_the_loop_learns_what_fit_learns(one: tuple[Path, dict[str, Any]]) -> None:
    assert abs(one[1]["plain"] - one[1]["single"]) < 0.02
    assert abs(one[1]["bfloat16"] - one[1]["single"]) < 0.02
    assert apart(one[0] / "bfloat16", one[0] / "mirrored") > TOLERANCE


def test_a_batch_that_devices_cannot_share_is_refused(one: tuple[Path, dict[str, Any]]) -> None:
    assert "63 rows cannot be shared equally by 2 devices" in one[1]["refused"]
