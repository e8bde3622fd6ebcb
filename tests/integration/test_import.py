"""`sluice import`: a model trained elsewhere becomes a candidate, or is refused in one line with nothing written."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from onnx import helper

from sluice.documents.evaluation import Evaluation
from sluice.errors import BadArtifact, BadInput, SluiceError
from sluice.models.bundle import load_bundle
from sluice.operations.import_model import Import, import_model
from sluice.operations.import_spec import read_spec
from tests.support import command as commands
from tests.support import tiny_training
from tests.support.onnx_models import HOSTILE, onnx_model
from tests.support.tiny_bundle import TINY_MODEL

TASK = "tests.support.tiny_training:TASK"
NUMBERS_SPEC = {"inputs": ["size", "price"]}
WEIGHTS = np.array([[0.3], [0.9]], np.float32)


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = tiny_training.sample().with_columns(pl.col("size").fill_null(0.0))
    return tiny_training.write_frame(tmp_path_factory.mktemp("frame"), rows)


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., Path]:
    def write(**keys: Any) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(json.dumps(keys))
        return path

    return write


def sluice_import(tmp_path: Path, model: Path, frame: Path, *more: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {"SLUICE_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    arguments = ("import", model, "--task", TASK, "--frame", frame, "--out", tmp_path / "out", *more)
    return commands.sluice(*arguments, env=environment, cwd=tmp_path)


def evaluated(tmp_path: Path) -> Evaluation:
    return Evaluation.model_validate_json((tmp_path / "out/evaluation.json").read_bytes())


def linear(*tail: Any, outputs: int = 1, **constants: Any) -> bytes:
    """Size and price times fixed weights, ``raw``; then ``tail`` to ``y``."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["raw"]), *tail]
    return bytes(onnx_model(nodes, {"w": WEIGHTS, **constants}, 2, outputs).SerializeToString())


def logits(rows: pl.DataFrame) -> Any:
    return rows.select("size", "price").to_numpy().astype(np.float32) @ WEIGHTS[:, 0]


def identity() -> Any:
    return helper.make_node("Identity", ["raw"], ["y"])


def test_an_onnx_model_becomes_a_candidate(tmp_path: Path, frame: Path, spec: Callable[..., Path]) -> None:
    (tmp_path / "m.onnx").write_bytes(linear(identity()))
    done = sluice_import(tmp_path, tmp_path / "m.onnx", frame, "--spec", spec(**NUMBERS_SPEC, name="theirs"), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    bundle = load_bundle(Path(told["bundle"]), told["digest"])
    assert (bundle.manifest.format, bundle.manifest.recipe.name) == ("onnx", "theirs")
    assert bundle.manifest.features.names == ("size", "price")
    assert {"model.onnx", "card.json", "card.html"} == set(bundle.files)
    rows = pl.read_parquet(frame / "frame.parquet")
    assert bundle.predict(rows) == pytest.approx(1 / (1 + np.exp(-logits(rows))), abs=1e-6)
    evaluation = evaluated(tmp_path)
    assert evaluation.threshold == bundle.manifest.threshold
    assert evaluation.n == rows.filter(pl.col("split") == "test").height
    assert evaluation.metrics["auc"].value > 0.5


def test_one_column_of_a_probability_is_served_as_its_logit(
    tmp_path: Path, frame: Path, spec: Callable[..., Path]
) -> None:
    nodes = [
        helper.make_node("Sigmoid", ["raw"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"], ["y"], axis=1),
        helper.make_node("Loop", ["q"], ["label"]),
    ]
    model = onnx_model(
        [helper.make_node("MatMul", ["x", "w"], ["raw"]), *nodes], {"w": WEIGHTS, "one": np.float32(1)}, 2, 2
    )
    model.graph.output.insert(0, helper.make_tensor_value_info("label", 7, [None]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    told = spec(**NUMBERS_SPEC, answers="probability", output="y", column=1)
    done = sluice_import(tmp_path, tmp_path / "m.onnx", frame, "--spec", told, "--json")
    assert done.returncode == 0, done.stderr
    rows = pl.read_parquet(frame / "frame.parquet")
    bundle = load_bundle(Path(json.loads(done.stdout)["bundle"]))
    assert bundle.predict(rows) == pytest.approx(1 / (1 + np.exp(-logits(rows))), abs=1e-5)


LIGHTGBM = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=1
objective=binary sigmoid:1
feature_names={names}
feature_infos=[-9:9] [-9:9]
tree_sizes=100

Tree=0
num_leaves=2
num_cat=0
split_feature=0
split_gain=1
threshold=0.25
decision_type=10
left_child=-1
right_child=-2
leaf_value=-1.5 0.75
is_linear=0
shrinkage=1


end of trees
"""


def test_trees_bring_their_own_document_along(tmp_path: Path, frame: Path, spec: Callable[..., Path]) -> None:
    (tmp_path / "trees.txt").write_text(LIGHTGBM.format(names="size price"))
    done = sluice_import(tmp_path, tmp_path / "trees.txt", frame, "--spec", spec(**NUMBERS_SPEC), "--json")
    assert done.returncode == 0, done.stderr
    bundle = load_bundle(Path(json.loads(done.stdout)["bundle"]))
    assert json.loads(bundle.files["trees.json"])["lightgbm"].startswith("tree\n")
    scores = bundle.predict({"size": [0.25, 0.3, None], "price": [0.0, 0.0, 0.0]})
    assert scores == pytest.approx([1 / (1 + np.exp(1.5)), 1 / (1 + np.exp(-0.75)), 1 / (1 + np.exp(1.5))])


def test_texts_are_one_hot_after_the_numbers(tmp_path: Path, frame: Path, spec: Callable[..., Path]) -> None:
    weights = np.array([[0.3], [0.0], [5.0]], np.float32)
    model = onnx_model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weights}, 3)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    told = spec(inputs=["size"], one_hot={"shop": ["a", "b"]})
    done = sluice_import(tmp_path, tmp_path / "m.onnx", frame, "--spec", told, "--json")
    assert done.returncode == 0, done.stderr
    bundle = load_bundle(Path(json.loads(done.stdout)["bundle"]))
    scores = bundle.predict({"size": [0.0, 0.0], "shop": ["b", "c"]})
    assert scores == pytest.approx([1 / (1 + np.exp(-5)), 0.5])


def _zip(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), data)
    return stream.getvalue()


def _keras(layer: dict[str, Any]) -> bytes:
    config = {
        "module": "keras",
        "class_name": "Sequential",
        "registered_name": "Sequential",
        "config": {"layers": [layer]},
    }
    return _zip(
        config_dot_json=json.dumps(config).encode(), metadata_dot_json=b"{}", model_dot_weights_dot_h5=b"\x89HDF"
    )


def _lambda() -> bytes:
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}
    return _keras({"module": "keras.layers", "class_name": "Lambda", "config": {"function": code}})


REFUSED: dict[str, tuple[str, Callable[[], bytes], dict[str, Any], str]] = {
    "a pickle": ("m.pkl", lambda: pickle.dumps({"a": 1}), {}, "is a pickle, which runs code"),
    "an old pickle": ("m.bin", lambda: pickle.dumps({"a": 1}, protocol=0), {}, "is a pickle, which runs code"),
    "a pickle called ONNX": ("m.onnx", lambda: pickle.dumps([1]), {}, "skl2onnx"),
    "PyTorch's zip": ("m.pt", lambda: _zip(m__data_dot_pkl=b"\x80\x02}q\x00."), {}, "torch.onnx.export"),
    "joblib's zlib": ("m.joblib", lambda: b"\x78\x9c\x01\x02\x03", {}, "is compressed by zlib"),
    "HDF5": ("m.h5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(64), {}, "model.save('model.keras')"),
    "another zip": ("m.zip", lambda: _zip(readme_dot_txt=b"hello"), {}, "no .keras model"),
    "a text": ("m.txt", lambda: b"hello", {}, "no model of a known kind"),
    "an empty file": ("m.onnx", lambda: b"", NUMBERS_SPEC, "m.onnx: is empty"),
    "other JSON": ("m.json", lambda: b'{"a": 1}', {}, "neither XGBoost nor LightGBM"),
    "a Lambda": ("m.keras", _lambda, NUMBERS_SPEC, "keras.layers.Lambda, which is not in the list"),
    "a SavedModel in a layer": (
        "m.keras",
        lambda: _keras({"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/etc"}}),
        NUMBERS_SPEC,
        "keras.layers.TFSMLayer, which is not in the list",
    ),
    "a module of the system": (
        "m.keras",
        lambda: _keras({"module": "os", "class_name": "system", "config": "id"}),
        NUMBERS_SPEC,
        "os.system, which is not in the list",
    ),
    "external data": (
        "m.onnx",
        lambda: HOSTILE["external data"][0]().SerializeToString(),
        NUMBERS_SPEC,
        "external data",
    ),
    "a width of its own": ("m.onnx", lambda: linear(identity()), {"inputs": ["size"]}, "takes 2 columns"),
    "texts without a code": ("m.onnx", lambda: linear(identity()), {}, "of the task is text (shop)"),
    "a feature that is not there": (
        "m.onnx",
        lambda: linear(identity()),
        {"inputs": ["size", "weight"]},
        "asks for feature 'weight'",
    ),
    "a text as a number": (
        "m.onnx",
        lambda: linear(identity()),
        {"inputs": ["size", "shop"]},
        "put texts under one_hot",
    ),
    "a key that is not known": ("m.onnx", lambda: linear(identity()), {"input": ["size"]}, "input"),
    "an answer that depends on the batch": (
        "m.onnx",
        lambda: linear(
            helper.make_node("ReduceMean", ["raw"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["raw", "mean"], ["y"]),
        ),
        NUMBERS_SPEC,
        "otherwise when it is asked alone",
    ),
    "a probability that nobody called so": (
        "m.onnx",
        lambda: linear(helper.make_node("Sigmoid", ["raw"], ["y"])),
        NUMBERS_SPEC,
        "a probability or a logit in all 1500 rows of the holdout; say `answers: probability` or `answers: logit`",
    ),
    "another output": ("m.onnx", lambda: linear(identity()), {**NUMBERS_SPEC, "output": "z"}, "output 'z'"),
    "no number": (
        "m.onnx",
        lambda: linear(helper.make_node("Log", ["raw"], ["y"])),
        NUMBERS_SPEC,
        "answers NaN or infinity in 726 of 1500 rows of the holdout",
    ),
    "LiteRT that answers probabilities": (
        "m.tflite",
        lambda: TINY_MODEL,
        {**NUMBERS_SPEC, "answers": "probability"},
        "a logit as its output",
    ),
    "a tree of other columns": (
        "m.txt",
        lambda: LIGHTGBM.format(names="price size").encode(),
        NUMBERS_SPEC,
        "calls its columns price, size",
    ),
    "a tree of another target": (
        "m.txt",
        lambda: LIGHTGBM.format(names="size price").replace("binary sigmoid:1", "poisson").encode(),
        NUMBERS_SPEC,
        "the task's label is binary",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_a_candidate_is_refused_in_one_line(
    tmp_path: Path, frame: Path, spec: Callable[..., Path], kind: str
) -> None:
    name, make, keys, reason = REFUSED[kind]
    (tmp_path / name).write_bytes(make())
    with pytest.raises(SluiceError) as refusal:
        import_model(tiny_training.TASK, tmp_path / name, read_spec(spec(**keys)), frame, tmp_path / "out")
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_the_command_ends_with_the_line(tmp_path: Path, frame: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps([1]))
    done = sluice_import(tmp_path, tmp_path / "m.pkl", frame)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.strip().splitlines()
    assert "is a pickle, which runs code when it is read; scikit-learn by skl2onnx" in line


def test_what_it_said_elsewhere_has_to_come_out_again(tmp_path: Path, frame: Path, spec: Callable[..., Path]) -> None:
    (tmp_path / "m.onnx").write_bytes(linear(identity()))
    rows = pl.read_parquet(frame / "frame.parquet").head(50)
    said = rows.select("example_id", score=pl.Series(1 / (1 + np.exp(-logits(rows)))))
    places = {"right": said, "swapped": said.with_columns(pl.col("score").reverse()), "none": said.head(0)}
    places["elsewhere"] = said.with_columns(example_id=pl.lit("x"))
    for name, answers in places.items():
        answers.write_parquet(tmp_path / name)

    def imported(name: str) -> Import:
        told = read_spec(spec(**NUMBERS_SPEC))
        out = tmp_path / "out"
        return import_model(tiny_training.TASK, tmp_path / "m.onnx", told, frame, out, tmp_path / name)

    with pytest.raises(BadArtifact, match=r"was said to answer .* apart"):
        imported("swapped")
    for name, reason in {
        "none": "has 0 answers",
        "elsewhere": "0 of them to rows",
        "m.onnx": "has no example_id",
    }.items():
        with pytest.raises(BadInput, match=reason):
            imported(name)
    assert not (tmp_path / "out").exists()
    assert imported("right").bundle.is_dir()


@pytest.mark.slow
def test_keras_models_are_converted_in_a_process_of_their_own(
    tmp_path: Path, frame: Path, spec: Callable[..., Path]
) -> None:
    script = f"""
import sys, numpy as np, keras, tensorflow as tf
weights = np.array({WEIGHTS.tolist()}, np.float32)
inputs = keras.Input((2,))
model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid", use_bias=False)(inputs))
model.set_weights([weights])
model.save(sys.argv[1])
model.export(sys.argv[2], verbose=False)
module = tf.Module()
module.reads = tf.function(
    lambda x: x[:, :1] + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32),
    input_signature=[tf.TensorSpec((None, 2))],
)
tf.saved_model.save(module, sys.argv[3], signatures=module.reads)
"""
    places = [tmp_path / name for name in ("m.keras", "saved", "evil")]
    subprocess.run([sys.executable, "-c", script, *map(str, places)], check=True, capture_output=True)
    told = spec(**NUMBERS_SPEC, answers="probability", missing=0)
    rows = pl.read_parquet(frame / "frame.parquet")
    expected = 1 / (1 + np.exp(-logits(rows)))
    for place in places[:2]:
        done = sluice_import(tmp_path, place, frame, "--spec", told, "--json")
        assert done.returncode == 0, done.stderr
        bundle = load_bundle(Path(json.loads(done.stdout)["bundle"]))
        assert bundle.manifest.format == "litert"
        assert bundle.predict(rows) == pytest.approx(expected, abs=1e-5)
        assert np.isfinite(bundle.predict({"size": [None], "price": [None]})).all()
    done = sluice_import(tmp_path, places[2], frame, "--spec", told)
    assert done.returncode == 2
    assert "has operation 'ReadFile', which is not in the list" in done.stderr
