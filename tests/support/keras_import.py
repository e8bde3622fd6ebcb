"""Keras and TensorFlow as a training imports them, and nothing begun: for what is forked."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import keras  # noqa: F401
import tensorflow as tf  # noqa: F401
