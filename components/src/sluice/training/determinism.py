"""Keras, started so that equal inputs give equal bits, and without its backend's greetings."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

from sluice.training.absence import absent
from sluice.training.distribution import ONE_DEVICE, Distribution, keras_distribution, strategy_for

_THREADS = 2
"""Fixed, not the number of cores: how a sum is cut into pieces decides its last bits."""


def start_tensorflow(seed: int) -> Any:
    """
    Import TensorFlow, seed Python, NumPy and TensorFlow, and ask for deterministic kernels.

    Returns:
        The module ``keras`` (Keras 3).
    """
    return start_distributed(seed, ONE_DEVICE)[0]


def start_distributed(seed: int, distribution: Distribution) -> tuple[Any, Any]:
    """
    ``start_tensorflow``, with the strategy that has to exist before the first operation.

    Returns:
        The module ``keras`` and a ``tf.distribute`` strategy.

    Raises:
        BadInput: the distribution does not fit TensorFlow or ``TF_CONFIG``.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # its kernels differ between processors
    with quiet_stderr():
        with absent("jax", "sklearn"):
            import keras
            import tensorflow as tf

        if tf.config.threading.get_intra_op_parallelism_threads() != _THREADS:
            tf.config.threading.set_intra_op_parallelism_threads(_THREADS)
            tf.config.threading.set_inter_op_parallelism_threads(_THREADS)
        logging.getLogger("absl").setLevel(logging.ERROR)
        tf.get_logger().setLevel(logging.ERROR)
        tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(seed)
        strategy = strategy_for(distribution, os.environ)
        tf.constant(0.0)
    return keras, strategy


def on_jax() -> bool:
    """Whether ``KERAS_BACKEND`` asks for JAX; nothing else but TensorFlow is known."""
    return os.environ.get("KERAS_BACKEND", "tensorflow") == "jax"


def start_jax(seed: int, distribution: Distribution) -> Any:
    """
    Keras 3 on JAX, seeded, with its devices arranged.

    Returns:
        The module ``keras``.

    Raises:
        BadInput: the distribution does not fit JAX or its devices.
    """
    import keras

    keras.utils.set_random_seed(seed)
    keras.distribution.set_distribution(keras_distribution(keras, distribution))
    return keras


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Silence what native libraries write: they greet on file descriptor 2 before they read any log level."""
    sys.stderr.flush()
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
