"""
What a device gives: the teacher's training and the distillation on whatever Keras's backend finds, as one line of JSON.

    KERAS_BACKEND=jax python tests/bench/device_training.py FRAME_DIRECTORY RECIPE.json [seconds]

The figures are seconds of the clock and belong to the machine that they were taken on; docs/train-on-more-gpus.md has
some. ``seconds`` bounds how long the steps alone are timed.
"""

from __future__ import annotations

import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sluice.compression.student import Lessons, distil
from sluice.models.encoder import Encoder
from sluice.targets.registry import BINARY
from sluice.tasks.recipe import Recipe
from sluice.training.curve import predicted
from sluice.training.determinism import on_jax
from sluice.training.families.mlp import FAMILY
from sluice.training.families.network import WEIGHTS
from sluice.training.frame import EncodedSplit, encoded_splits, prepared_frame
from sluice.training.objective import Objective, objective_of
from sluice.training.steps import optimizer_for
from sluice.training.teacher import train_teacher


def main() -> None:
    """Train, time steps, distil; print."""
    frame, recipe = Path(sys.argv[1]), Recipe.model_validate_json(Path(sys.argv[2]).read_text())
    limit = float(sys.argv[3]) if len(sys.argv) > 3 else 10.0
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as directory, _utilisation() as busy:
        began = time.perf_counter()
        record = train_teacher(frame, recipe, Path(directory), progress=lambda _line: ends.append(time.perf_counter()))
        wall = time.perf_counter() - began
        encoder = Encoder.model_validate_json((Path(directory) / "encoder.json").read_bytes())
        splits = encoded_splits(prepared_frame(frame, recipe), encoder)
        import keras

        objective = objective_of(BINARY, splits["train"].y)
        teacher = FAMILY.model(keras, encoder=encoder, recipe=recipe, objective=objective)
        teacher.load_weights(Path(directory) / WEIGHTS)
    epochs = [later - earlier for earlier, later in itertools.pairwise(ends)]
    told = {
        "recipe": recipe.name,
        "device": _device(keras),
        "precision": recipe.precision,
        "parameters": record.parameters,
        "wall_s": round(wall, 2),
        "first_epoch_s": round(ends[0] - began, 2),
        "epoch_s": round(statistics.median(epochs), 3) if epochs else None,
        "busy_percent_training": _mean(busy),
        "tune_auc": record.tune_auc,
        "tune_log_loss": record.tune_loss,
        **_steps_alone(keras, encoder, splits["train"], recipe, objective=objective, limit=limit),
        **_distillation(keras, teacher, splits, recipe, objective),
    }
    sys.stdout.write(json.dumps(told) + "\n")


def _steps_alone(
    keras: Any, encoder: Encoder, train: EncodedSplit, recipe: Recipe, *, objective: Objective, limit: float
) -> dict[str, Any]:
    """Steps a second of ``fit`` without what happens between epochs, compiled beforehand; at least one epoch."""
    steps = -(-len(train.y) // recipe.batch_size)
    model = FAMILY.model(keras, encoder=encoder, recipe=recipe, objective=objective, precision=recipe.precision)
    per_call = min(50, max(1, len(train.y) // recipe.batch_size))
    optimizer = optimizer_for(keras, recipe, len(train.y))
    model.compile(
        optimizer=optimizer,
        loss=partial(objective.network_loss, keras.ops),
        steps_per_execution=per_call,
        jit_compile=on_jax(),
    )
    first = slice(0, recipe.batch_size * min(steps, 3))
    model.fit(train.x[first], train.y[first], batch_size=recipe.batch_size, verbose=0)
    rates: list[float] = []
    began = time.perf_counter()
    with _utilisation() as busy:
        while not rates or time.perf_counter() - began < limit:
            start = time.perf_counter()
            model.fit(train.x, train.y, batch_size=recipe.batch_size, verbose=0)
            float(np.asarray(model.get_weights()[0]).sum())  # JAX answers before it has computed
            rates.append(steps / (time.perf_counter() - start))
    return {
        "steps_per_s": round(statistics.median(rates), 1),
        "steps_per_s_range": [round(min(rates), 1), round(max(rates), 1)],
        "epochs_timed": len(rates),
        "busy_percent_steps": _mean(busy),
    }


def _distillation(
    keras: Any, teacher: Any, splits: dict[str, EncodedSplit], recipe: Recipe, objective: Objective
) -> dict[str, Any]:
    train, tune = splits["train"], splits["tune"]
    targets = objective.lessons(train.y, predicted(teacher, train.x))
    walls = []
    for _ in range(2):
        began = time.perf_counter()
        student = distil(keras, Lessons(train.x, targets, objective), recipe)
        loss = objective.mean_loss(tune.y, predicted(student, tune.x))
        walls.append(round(time.perf_counter() - began, 2))
    return {"distil_first_s": walls[0], "distil_s": walls[1], "student_log_loss": loss}


def _device(keras: Any) -> str:
    if on_jax():
        import jax

        return f"jax {jax.__version__} {jax.devices()[0].device_kind} x{jax.device_count()}"
    return f"{keras.backend.backend()} {keras.distribution.list_devices()}"


@contextmanager
def _utilisation() -> Iterator[list[float]]:
    """Percent of the time in which a kernel ran on the GPU, as nvidia-smi has it five times a second."""
    seen: list[float] = []
    if not shutil.which("nvidia-smi"):
        yield seen
        return
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
    watch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    reader = threading.Thread(target=lambda: seen.extend(float(line) for line in watch.stdout or ()), daemon=True)
    reader.start()
    try:
        yield seen
    finally:
        watch.terminate()
        watch.wait()
        reader.join()


def _mean(values: list[float]) -> float | None:
    return round(statistics.mean(values), 1) if values else None


if __name__ == "__main__":
    main()
