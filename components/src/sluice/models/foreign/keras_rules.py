"""
What a ``.keras`` file may hold: layers of Keras that only compute, nothing that names code of its own.

The file's ``config.json`` names a module and a class for every object; Keras imports what is named there. So all of
them have to be in a list before Keras reads it.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sluice.errors import BadArtifact, one_line

_MOST_CONFIG = 16 << 20
_MOST_DEPTH = 100
_ENTRIES = frozenset({"config.json", "metadata.json", "model.weights.h5"})
_LAYERS = """
    Activation Add Average AveragePooling1D AveragePooling2D BatchNormalization CategoryEncoding Concatenate Conv1D
    Conv2D Cropping1D Cropping2D Dense DepthwiseConv1D DepthwiseConv2D Dropout ELU Embedding Flatten GaussianDropout
    GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalMaxPooling1D GlobalMaxPooling2D Identity
    InputLayer LayerNormalization LeakyReLU Masking MaxPooling1D MaxPooling2D Maximum Minimum Multiply Normalization
    PReLU Permute ReLU Rescaling Reshape SeparableConv1D SeparableConv2D Softmax SpatialDropout1D SpatialDropout2D
    Subtract UnitNormalization ZeroPadding1D ZeroPadding2D
"""
LAYERS = frozenset(_LAYERS.split())
"""Layers that a model may have. No Lambda, no TFSMLayer, no subclass, nothing that wraps another model or loops."""
_MODELS = {"keras.src.models.functional": {"Functional"}, "keras.src.models.sequential": {"Sequential"}}
_MODELS |= {"keras": {"Functional", "Sequential"}, "keras.models": {"Functional", "Sequential", "Model"}}
_PLAIN = ("keras.initializers", "keras.regularizers", "keras.constraints", "keras.dtype_policies", "keras")
"""Modules whose classes hold numbers alone."""
_PLAIN_CLASSES = """
    Constant DTypePolicy GlorotNormal GlorotUniform HeNormal HeUniform Identity L1 L1L2 L2 LecunNormal LecunUniform
    MaxNorm MinMaxNorm NonNeg Ones Orthogonal RandomNormal RandomUniform TruncatedNormal UnitNorm VarianceScaling Zeros
"""
_CLASSES = frozenset(_PLAIN_CLASSES.split())
_HISTORY = "__keras_tensor__"


def check_keras(path: Path) -> None:
    """
    Accept a ``.keras`` file of allowed layers.

    Raises:
        BadArtifact: names the first thing that is not allowed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if extra := sorted(set(archive.namelist()) - _ENTRIES):
                raise _refusal(path, f"holds {extra[0][:80]!r}, which no model needs")
            if archive.getinfo("config.json").file_size > _MOST_CONFIG:
                raise _refusal(path, f"has a config.json of more than {_MOST_CONFIG >> 20} MiB")
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError, OSError, RuntimeError) as error:
        raise _refusal(path, f"cannot be read ({one_line(error, 120)})") from error
    if not isinstance(config, dict):
        raise _refusal(path, "has a config.json that is no object")
    for each in _objects({key: value for key, value in config.items() if key != "compile_config"}, 0):
        _check_object(path, each)


def _objects(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Every JSON object that names a class, wherever it is."""
    if depth > _MOST_DEPTH:
        raise BadArtifact("config.json", f"is nested deeper than {_MOST_DEPTH}", "save a plainer model")
    if isinstance(value, dict):
        if "class_name" in value or "module" in value:
            yield value
        for each in value.values():
            yield from _objects(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            yield from _objects(each, depth + 1)


def _check_object(path: Path, value: dict[str, Any]) -> None:
    module, name, registered = value.get("module"), value.get("class_name"), value.get("registered_name")
    if name == _HISTORY and module is None:
        return
    known = (
        (module == "keras.layers" and name in LAYERS)
        or name in _MODELS.get(str(module), ())
        or (module in _PLAIN and name in _CLASSES)
    )
    if not known or registered not in (None, name):
        where = f"{module}." if module else ""
        rule = f"has {str(where)[:80]}{str(name)[:80]}, which is not in the list of allowed layers"
        raise _refusal(path, rule)


def _refusal(path: Path, rule: str) -> BadArtifact:
    return BadArtifact(str(path), rule, "build it of Keras's own layers, or export it as ONNX, see docs/import.md")
