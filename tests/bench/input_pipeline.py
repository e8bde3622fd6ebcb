"""
How busy the input pipeline keeps the device: optimizer steps a second with it, beside simpler feeds and none at all.

    python tests/bench/input_pipeline.py [rounds]

"no input" repeats one batch that is already there: the rate of the device alone. What the pipeline reaches of it is
the share of time in which the device works. All feeds run in turn, each for one epoch, round after round. The best
round of each counts (on a machine that others use too, the slow ones tell of the others), the median stands beside it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from sluice.models.builder import build
from sluice.targets.registry import BINARY
from sluice.tasks.recipe import Recipe
from sluice.training.determinism import start_distributed
from sluice.training.distribution import ONE_DEVICE
from sluice.training.frame import EncodedSplit
from sluice.training.objective import objective_of
from sluice.training.steps import Steps

ROWS, WIDTH = 102_400, 64
RECIPE = Recipe(name="input", description="as wide as flights", features=("x",), teacher=(256,), epochs=500)


def main() -> None:
    """Measure and print one line a feed."""
    import tensorflow as tf

    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, WIDTH)).astype(np.float32)
    rows = EncodedSplit(pl.Series([""]), x, (x[:, 0] > 0).astype(np.float32))
    keras, strategy = start_distributed(0, ONE_DEVICE)
    model = partial(build, width=rows.x.shape[1], hidden=RECIPE.teacher, dropout=RECIPE.dropout)
    steps = Steps(keras, strategy, rows, RECIPE, objective_of(BINARY, rows.y), model)
    one = tf.function(lambda batch: strategy.run(steps._step, (batch,)))
    repeated = strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensors(next(_numpy(rows))).repeat())
    feeds: dict[str, Callable[[], Any]] = {
        "no input": lambda: steps._advance(iter(repeated), tf.constant(steps.an_epoch)),
        "pipeline": lambda: steps.take(0, steps.an_epoch),  # goes on from its last epoch
        "numpy batches": lambda: _each(one, _numpy(rows)),
        "shuffle().batch()": lambda: _each(one, _shuffled(rows)),
    }
    rates: dict[str, list[float]] = {name: [] for name in feeds}
    for _ in range(rounds + 1):  # the first one compiles
        for name, run in feeds.items():
            began = time.perf_counter()
            run()
            steps.model.get_weights()
            rates[name].append(steps.an_epoch / (time.perf_counter() - began))
    best = {name: max(found[1:]) for name, found in rates.items()}
    for name, found in rates.items():
        line = f"{name:<18} best {best[name]:7.1f} steps/s, median {statistics.median(found[1:]):7.1f}"
        sys.stdout.write(f"{line}  {best[name] / best['no input']:6.1%} of the device's rate\n")


def _each(step: Callable[[Any], None], batches: Iterator[Any]) -> None:
    for batch in batches:
        step(batch)


def _numpy(rows: EncodedSplit) -> Iterator[Any]:
    import tensorflow as tf

    order, batch = np.random.default_rng(0).permutation(ROWS), RECIPE.batch_size
    for number, at in enumerate(range(0, ROWS, batch)):
        chosen = order[at : at + batch]
        yield tf.constant(rows.x[chosen]), tf.constant(rows.y[chosen]), tf.constant(number, tf.int64), _first_row()


def _shuffled(rows: EncodedSplit) -> Iterator[Any]:
    import tensorflow as tf

    batches = tf.data.Dataset.from_tensor_slices((rows.x, rows.y)).shuffle(ROWS).batch(RECIPE.batch_size)
    for number, (x, y) in enumerate(batches.prefetch(tf.data.AUTOTUNE)):
        yield x, y, tf.constant(number, tf.int64), _first_row()


def _first_row() -> Any:
    import tensorflow as tf

    return tf.constant(0, tf.int64)


if __name__ == "__main__":
    main()
