"""One optimizer step after another, each replica on its share of the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sluice.errors import BadInput
from sluice.tasks.recipe import Recipe
from sluice.training.checkpoint import Arrays
from sluice.training.frame import EncodedSplit
from sluice.training.objective import Objective

_WEIGHT_DECAY = 0.01


def optimizer_for(keras: Any, recipe: Recipe, rows: int) -> Any:
    """AdamW whose rate falls along a cosine to zero over the recipe's epochs (Loshchilov, Hutter 2019, equation 14)."""
    steps = max(1, rows // recipe.batch_size) * recipe.epochs
    rate = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps)
    return keras.optimizers.AdamW(rate, weight_decay=_WEIGHT_DECAY)


class Steps:
    """
    The model and its optimizer under a ``tf.distribute`` strategy.

    Attributes:
        model: the network that is trained.
        an_epoch: steps of an epoch.
        in_all: steps of all epochs.
    """

    def __init__(
        self,
        keras: Any,
        strategy: Any,
        train: EncodedSplit,
        recipe: Recipe,
        objective: Objective,
        build: Callable[[Any], Any],
    ) -> None:
        """
        Raises BadInput where the batch cannot be shared equally.

        Args:
            keras: the module.
            strategy: where to.
            train: rows to learn from.
            recipe: the global batch, the epochs, the seed.
            objective: what is minimized.
            build: makes the model of ``keras``; a chain of layers.
        """
        import tensorflow as tf

        self._keras, self._strategy, self._train, self._recipe = keras, strategy, train, recipe
        self._batch = min(recipe.batch_size, len(train.y))
        self._share, rest = divmod(self._batch, strategy.num_replicas_in_sync)
        if rest:
            rule = f"of {self._batch} rows cannot be shared equally by {strategy.num_replicas_in_sync} devices"
            raise BadInput("recipe batch_size", rule, "choose a multiple of the devices")
        self._objective = objective
        self.an_epoch = len(train.y) // self._batch
        self.in_all = self.an_epoch * recipe.epochs
        with strategy.scope():
            self.model = build(keras)
            self._optimizer = optimizer_for(keras, recipe, len(train.y))
            self._optimizer.build(self.model.trainable_variables)
        self._batches: Any = None
        self._advance = tf.function(self._several)
        self._sum = tf.function(self._sum_flags)

    def take(self, first: int, count: int) -> None:
        """Take ``count`` steps after the first ``done``, those that the last call ended with."""
        import tensorflow as tf

        if self._batches is None:
            self._batches = iter(
                self._strategy.distribute_datasets_from_function(lambda place: self._from(first, place))
            )
        self._advance(self._batches, tf.constant(count))

    def anywhere(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, true where it is true at any worker: they have to agree on what comes next."""
        import tensorflow as tf

        return tuple(bool(value > 0) for value in self._sum(tf.constant(flags, tf.float32)).numpy())

    def state(self) -> tuple[Arrays, Arrays]:
        """The weights, and the optimizer's variables."""
        return self.model.get_weights(), [np.asarray(variable.value) for variable in self._optimizer.variables]

    def restore(self, weights: Arrays, optimizer: Arrays) -> None:
        """Set what ``state`` gave."""
        self.model.set_weights(weights)
        for variable, value in zip(self._optimizer.variables, optimizer, strict=True):
            variable.assign(value)

    def _from(self, first: int, place: Any) -> Any:
        """
        Batches of this worker's replicas, in turn, to the end of the training: (rows, labels, step, first row).

        The order of the rows is a permutation drawn from seed and epoch. Indices are shuffled, and rows gathered while
        the device works on the batch before (see tests/bench/input_pipeline.py).
        """
        import tensorflow as tf

        x, y = tf.constant(self._train.x), tf.constant(self._objective.in_units(self._train.y))
        epoch, over = divmod(first, self.an_epoch)
        replicas = self._batch // self._share // place.num_input_pipelines
        mine = tf.range(replicas, dtype=tf.int64) + place.input_pipeline_id * replicas

        def indices(epoch: Any) -> Any:
            order = tf.random.experimental.stateless_shuffle(tf.range(len(y)), seed=(self._recipe.seed, epoch))
            shares = tf.reshape(order[: self.an_epoch * self._batch], (self.an_epoch, -1, self._share))
            steps = epoch * self.an_epoch + tf.range(self.an_epoch, dtype=tf.int64)
            rows = tf.reshape(tf.gather(shares, mine, axis=1), (-1, self._share))
            parts = rows, tf.repeat(steps, replicas), tf.tile(mine * self._share, (self.an_epoch,))
            return tf.data.Dataset.from_tensor_slices(parts)

        batches = tf.data.Dataset.range(epoch, self._recipe.epochs).flat_map(indices).skip(over * replicas)
        gathered = batches.map(lambda at, step, offset: (tf.gather(x, at), tf.gather(y, at), step, offset))
        return gathered.prefetch(tf.data.AUTOTUNE)

    def _several(self, batches: Any, count: Any) -> None:
        import tensorflow as tf

        for _ in tf.range(count):
            self._strategy.run(self._step, args=(next(batches),))

    def _sum_flags(self, flags: Any) -> Any:
        import tensorflow as tf

        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, self._strategy.run(tf.identity, (flags,)), axis=None)

    def _step(self, batch: Any) -> None:
        """Gradients of this replica's part of the batch's mean loss; the optimizer sums them over all replicas."""
        import tensorflow as tf

        x, y, step, offset = batch
        with tf.GradientTape() as tape:
            losses = self._objective.weighted_losses(self._keras.ops, y, self._forward(x, step, offset))
            loss = tf.reduce_sum(losses) / self._batch
        variables = self.model.trainable_variables
        self._optimizer.apply(tape.gradient(loss, variables), variables)

    def _forward(self, x: Any, step: Any, offset: Any) -> Any:
        """The model's outputs; which units dropout silences depends on seed, step and place in the global batch."""
        import tensorflow as tf

        layers = [layer for layer in self.model.layers if not isinstance(layer, self._keras.layers.InputLayer)]
        for depth, layer in enumerate(layers):
            if isinstance(layer, self._keras.layers.Dropout):
                seed = tf.stack([tf.constant(self._recipe.seed + depth, tf.int64), step])
                noise = tf.random.stateless_uniform((self._batch, x.shape[1]), seed)[offset : offset + self._share]
                x = tf.where(noise >= layer.rate, x / (1 - layer.rate), tf.zeros_like(x))
            else:
                x = layer(x)
        return x
