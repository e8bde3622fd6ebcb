"""
A ``.keras`` file or a SavedModel to LiteRT, in a process of its own: what it holds is run by TensorFlow.

    python -m sluice.training.conversion MODEL ROWS OUT --answer JSON [--missing NUMBER]

Both are checked against a list first: layers of a ``.keras`` file, operations of a SavedModel. The result answers as
the model on random rows, or there is none. ``--answer``, what goes into the folder ``OUT``, and the end where anything
is wrong are as of ``sluice.models.foreign.trial``.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sluice.content import write_bytes
from sluice.errors import BadArtifact, BadInput, SluiceError, one_line
from sluice.models.foreign.keras_rules import check_keras
from sluice.models.foreign.onnx_answer import GraphAnswer
from sluice.models.foreign.trial import ANSWERS_FILE, MODEL_FILE, OUTPUTS_FILE, check_rows_alone, refusal_exit
from sluice.models.runtime import LiteRTScorer
from sluice.targets.link import LINKS

_CPU_S = 1200
_MEMORY_BYTES = 12 << 30
_TOLERANCE = 1e-4
_ROWS, _BATCH = 64, 4096
_OPERATIONS = """
    Abs Add AddN AddV2 All Any ArgMax AssignVariableOp AvgPool BatchMatMulV2 BiasAdd BroadcastTo Cast ClipByValue
    ConcatV2 Const Conv2D DepthwiseConv2dNative Div DivNoNan Elu Equal Exp ExpandDims Fill Floor FusedBatchNormV3
    GatherV2 Greater GreaterEqual Identity IdentityN IsNan LeakyRelu Less LessEqual Log Log1p LogicalAnd LogicalNot
    LogicalOr MatMul Max MaxPool Maximum Mean Min Minimum Mul Neg NoOp NotEqual OneHot Pack Pad PadV2
    PartitionedCall Placeholder Pow Prod Range Rank ReadVariableOp RealDiv Relu Relu6 Reshape Round Rsqrt Select
    SelectV2 Selu Shape Sigmoid Sign Slice Softmax Softplus Softsign Split SplitV Sqrt Square SquaredDifference
    Squeeze StatefulPartitionedCall StopGradient StridedSlice Sub Sum Tanh Tile Transpose Unpack VarHandleOp
    VarIsInitializedOp Where ZerosLike
"""
OPERATIONS = frozenset(_OPERATIONS.split())
"""What a SavedModel may do: arithmetic on tensors and its own variables. No file, no table, no loop, no Python."""
_SAVING = frozenset(
    {
        "DisableCopyOnRead",
        "MergeV2Checkpoints",
        "RestoreV2",
        "SaveV2",
        "ShardedFilename",
        "StaticRegexFullMatch",
        "StringJoin",
    }
)
"""What TensorFlow itself puts beside a model to save and restore it."""
_SAVERS = ("__inference__traced_save", "__inference__traced_restore")


def convert(model: Path, rows: Path, out: Path, answer: GraphAnswer, missing: float | None) -> None:
    """
    The model as a ``.tflite`` file from float32 (n, width) to raw outputs, float32 (n, k), and what both say of rows.

    Args:
        model: a ``.keras`` file, or the folder of a SavedModel.
        rows: ``.npy`` of encoded rows; of another width than the model's they are left alone.
        out: folder for ``model``, ``answers.npy`` and ``outputs.npy``.
        answer: which columns of its output are asked, and the link whose inverse is taken of them.
        missing: what stands in for NaN, or nothing.

    Raises:
        BadArtifact, BadInput: something in it is not allowed, it is not of one float32 input of a fixed width, or the
            converted file answers otherwise.
    """
    import tensorflow as tf

    function, width = _saved_model(model) if model.is_dir() else _keras_model(model)
    choice = _chosen(function, answer, missing)
    data, scorer = _litert(_raw(choice, answer), width, model)
    write_bytes(out / MODEL_FILE, data)
    x = np.load(rows)
    if x.shape[1] == width:
        answers = [np.asarray(choice(tf.constant(x[at : at + _BATCH])), np.float64) for at in range(0, len(x), _BATCH)]
        np.save(out / ANSWERS_FILE, np.concatenate(answers))
        outputs = scorer.raw(x)
        check_rows_alone(scorer, x, outputs)
        np.save(out / OUTPUTS_FILE, outputs)


def _keras_model(path: Path) -> tuple[Callable[[Any], Any], int]:
    check_keras(path)
    import keras

    keras.config.disable_interactive_logging()
    model = keras.models.load_model(path, compile=False, safe_mode=True)
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.inputs[0].shape) != 2:
        raise _refusal(
            path, f"has {len(model.inputs)} inputs and {len(model.outputs)} outputs, or an input of no (n, width)"
        )
    return lambda rows: model(rows, training=False), _width(path, model.inputs[0].shape[1])


def _saved_model(folder: Path) -> tuple[Callable[[Any], Any], int]:
    import tensorflow as tf

    _check_operations(folder)
    model = tf.saved_model.load(str(folder))
    if "serving_default" not in model.signatures:
        raise _refusal(folder, "has no signature serving_default")
    signature = model.signatures["serving_default"]
    inputs = signature.structured_input_signature[1]
    if len(inputs) != 1 or len(signature.structured_outputs) != 1:
        raise _refusal(
            folder, f"has {len(inputs)} inputs and {len(signature.structured_outputs)} outputs, need one each"
        )
    (name, tensor), (output,) = next(iter(inputs.items())), signature.structured_outputs
    if tensor.dtype != tf.float32 or tensor.shape.rank != 2:
        raise _refusal(folder, f"has an input {tensor.dtype.name} {tensor.shape}, need float32 (n, width)")

    def saved(rows: Any) -> Any:
        return model.signatures["serving_default"](**{name: rows})[output]  # the model holds the variables

    return saved, _width(folder, tensor.shape[1])


def _check_operations(folder: Path) -> None:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    except (DecodeError, OSError) as error:
        raise _refusal(folder, "has a saved_model.pb that cannot be read") from error
    for graph in (meta.graph_def for meta in saved.meta_graphs):
        for node in graph.node:
            _check_operation(folder, node, saver=True)
        for function in graph.library.function:
            saver = function.signature.name.startswith(_SAVERS)
            for node in function.node_def:
                _check_operation(folder, node, saver=saver)
    if any(folder.glob("assets/*")) or any(folder.glob("assets.extra/*")):
        raise _refusal(folder, "has assets, files that it would read")


def _check_operation(folder: Path, node: Any, *, saver: bool) -> None:
    function = node.attr["f"].func.name if "f" in node.attr else ""
    if node.op not in OPERATIONS and not (saver and node.op in _SAVING):
        raise _refusal(folder, f"has operation {node.op[:80]!r}, which is not in the list of allowed operations")
    if function.startswith(_SAVERS) and not saver:
        raise _refusal(folder, f"calls {function[:80]!r}, which reads or writes files")


def _width(path: Path, columns: Any) -> int:
    if not isinstance(columns, int) or not 1 <= columns <= 1 << 18:
        raise _refusal(path, f"has an input of {columns} columns, need a fixed number of them")
    return columns


def _chosen(function: Callable[[Any], Any], answer: GraphAnswer, missing: float | None) -> Callable[[Any], Any]:
    import tensorflow as tf

    def choice(rows: Any) -> Any:
        filled = rows if missing is None else tf.where(tf.math.is_nan(rows), tf.constant(missing, tf.float32), rows)
        out = function(filled)
        answer.check_width(int(out.shape[-1]))
        return tf.gather(out, list(answer.columns), axis=1) if answer.columns else out

    return choice


def _raw(choice: Callable[[Any], Any], answer: GraphAnswer) -> Callable[[Any], Any]:
    import tensorflow as tf

    if answer.inverse is None:
        return choice
    link, odds = LINKS[answer.inverse], answer.inverse == "logistic"

    def raw(rows: Any) -> Any:
        p = tf.clip_by_value(choice(rows), link.low, link.high)
        return tf.math.log(p / (1.0 - p) if odds else p)

    return raw


def _litert(answer: Callable[[Any], Any], width: int, model: Path) -> tuple[bytes, LiteRTScorer]:
    import tensorflow as tf

    rows = np.random.default_rng(0).normal(size=(_ROWS, width)).astype(np.float32)
    function = tf.function(answer).get_concrete_function(tf.TensorSpec((None, width), tf.float32, name="x"))
    # The model is not given beside its function: the converter would then lose its weights without a word.
    data = bytes(tf.lite.TFLiteConverter.from_concrete_functions([function]).convert())
    before = np.asarray(answer(tf.constant(rows)), np.float64)
    scorer = LiteRTScorer(data)
    if before.shape != (_ROWS, scorer.outputs):
        raise _refusal(model, f"answers with shape {before.shape} for {_ROWS} rows, need a row of numbers each")
    apart = float(np.abs(scorer.raw(rows) - before).max())
    if not apart <= _TOLERANCE * max(1.0, float(np.abs(before).max())):
        raise _refusal(model, f"answers {apart:.2g} otherwise after its conversion")
    return data, scorer


def _refusal(path: Path, rule: str) -> BadArtifact:
    return BadArtifact(str(path), rule, "save a plainer model, or export it as ONNX, see docs/import.md")


def main(argv: list[str] | None = None) -> int:
    """Entry point: one line and 2 where it cannot be converted."""
    parser = argparse.ArgumentParser(description="Convert a .keras file or a SavedModel to LiteRT.")
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--answer", type=GraphAnswer.of_json, required=True)
    parser.add_argument("--missing", type=float)
    options = parser.parse_args(argv)
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    try:
        convert(options.model, options.rows, options.out, options.answer, options.missing)
    except SluiceError as error:
        return refusal_exit(error)
    except ImportError as error:
        return refusal_exit(BadInput("sluice[steps]", f"is not installed ({error})", "install it, or export ONNX"))
    except Exception as error:  # noqa: BLE001 - whatever TensorFlow raises is said in one line
        return refusal_exit(_refusal(options.model, f"cannot be read or converted ({one_line(error, 160)})"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
