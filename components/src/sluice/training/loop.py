"""
Training step by step, under any ``tf.distribute`` strategy, from checkpoint to checkpoint.

Keras 3's ``fit`` runs under one worker only and cannot go on in the middle of an epoch. Here seed and step number
decide which rows come and which units are silenced, so the same steps follow wherever and however often they run.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sluice.tasks.recipe import Recipe
from sluice.training.checkpoint import Checkpoint, CheckpointStore, identity_of
from sluice.training.curve import Curve
from sluice.training.frame import EncodedSplit
from sluice.training.objective import Objective
from sluice.training.steps import Steps

PREEMPTED = 175
"""Exit code of a training that was stopped and can go on; a TFJob starts again only what ends with one above 127."""
_PIECE = 50
"""Most steps between two looks at whether to stop."""


@dataclass(frozen=True)
class CheckpointPlan:
    """Where checkpoints go, how many steps lie between two, and whether this process is the one that writes them."""

    store: CheckpointStore | None
    every: int
    chief: bool


def train_in_steps(
    keras: Any,
    strategy: Any,
    train: EncodedSplit,
    recipe: Recipe,
    objective: Objective,
    build: Callable[[Any], Any],
    curve: Curve,
    plan: CheckpointPlan,
) -> None:
    """
    Train until the recipe's epochs are over or the curve is flat; ``curve`` has the best weights then.

    Args:
        keras: the module.
        strategy: a ``tf.distribute`` strategy.
        train: rows to learn from; what is left over after an epoch's last whole batch sits that epoch out.
        recipe: the batch over all devices, the epochs, the seed.
        objective: what is minimized.
        build: makes the model of ``keras``.
        curve: measures each epoch.
        plan: where checkpoints go, and how often.

    Raises:
        BadInput: the batch cannot be shared equally, or the checkpoint is of another training.
        SystemExit: with code ``PREEMPTED``, on SIGTERM here or at another worker, or when another worker was lost.
    """
    steps = Steps(keras, strategy, train, recipe, objective, build)
    identity = identity_of(recipe, train)
    step = _resume(steps, curve, plan, identity)
    flat = curve.flat
    with _sigterm_noted() as noted, _lost_worker_ends(strategy):
        while step < steps.in_all and not flat:
            piece = min(_PIECE, steps.an_epoch - step % steps.an_epoch, plan.every - step % plan.every)
            steps.take(step, piece)
            step += piece
            if step % steps.an_epoch == 0:
                curve.add(steps.model)
            stop, flat = steps.anywhere(noted.is_set(), curve.flat)
            if stop or step % plan.every == 0:
                _save(steps, curve, plan, identity, step)
            if stop:
                raise _preemption("stopped by SIGTERM")


def _resume(steps: Steps, curve: Curve, plan: CheckpointPlan, identity: str) -> int:
    """Steps that an earlier try took; model, optimizer and curve are as it left them."""
    saved = plan.store.read(identity) if plan.store else None
    if saved is None:
        return 0
    steps.restore(saved.weights, saved.optimizer)
    curve.epochs, curve.best_epoch, curve.best_weights = list(saved.history), saved.best_epoch, saved.best
    return saved.step


def _save(steps: Steps, curve: Curve, plan: CheckpointPlan, identity: str, step: int) -> None:
    if plan.store is None or not plan.chief:
        return
    weights, optimizer = steps.state()
    history = tuple(curve.epochs)
    plan.store.write(Checkpoint(identity, step, weights, optimizer, curve.best_weights, curve.best_epoch, history))


def _preemption(why: str) -> SystemExit:
    sys.stderr.write(f"training {why}; started again, it goes on from its checkpoint\n")
    return SystemExit(PREEMPTED)


@contextmanager
def _sigterm_noted() -> Iterator[threading.Event]:
    """SIGTERM sets the event instead of ending the process; only the main thread may ask for that."""
    noted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    previous = signal.signal(signal.SIGTERM, lambda _number, _frame: noted.set())
    try:
        yield noted
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _lost_worker_ends(strategy: Any) -> Iterator[None]:
    """What the others see when a worker dies is a failed exchange; all start again from the last checkpoint."""
    import tensorflow as tf

    failures = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError)
    try:
        yield
    except failures as error:
        if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise
        raise _preemption(f"lost another worker ({type(error).__name__})") from error
