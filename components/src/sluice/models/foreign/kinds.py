"""What kind of model a file or folder holds, by its content; what could run code when it is read is named, not read."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from sluice.errors import BadInput

ForeignKind = Literal["onnx", "litert", "keras", "savedmodel", "lightgbm", "xgboost"]
TREES: tuple[ForeignKind, ...] = ("lightgbm", "xgboost")
MOST_BYTES = 1 << 30
MOST_TREE_BYTES = 256 << 20
"""Of a document of trees: Python takes up to 24 bytes for each that it reads."""
_MOST_PARTS = 100
_TOO_LARGE, _FEWER = f"holds more than {MOST_TREE_BYTES >> 20} MiB of trees", "train fewer trees or smaller ones"
_EXPORT = "export it as ONNX in your own process, see docs/import.md"
_PICKLED = "is a pickle, which runs code when it is read"
_FIXES = {
    "a PyTorch model": "torch.onnx.export(model, …, 'model.onnx') in your own process, see docs/import.md",
    "a pickle": "scikit-learn by skl2onnx.to_onnx(…), XGBoost and LightGBM by save_model(…), see docs/import.md",
}
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x78\x01": "zlib",
    b"\x78\x5e": "zlib",
    b"\x78\x9c": "zlib",
    b"\x78\xda": "zlib",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_OTHERS = {
    b"\x89HDF\r\n": ("an HDF5 file", "save it by model.save('model.keras')"),
    b"CBM1": ("CatBoost's own format", "save it by save_model('model.onnx', format='onnx')"),
    b"\x93NUMPY": ("a NumPy array", "give the model, not its weights"),
    b"<?xml": ("XML", _EXPORT),
}
_OLD_PICKLE = re.compile(rb"\A(?:[(\]}]|c[\w.]+\n[\w.]+\n)")


@dataclass(frozen=True)
class ForeignModel:
    """A model as it was given: a file's content, the folder of a SavedModel, or one of models of trees side by side."""

    path: Path
    kind: ForeignKind
    data: bytes = b""
    parts: tuple[ForeignModel, ...] = ()
    """Of a folder of trees: its files by name."""


def read_source(path: Path) -> ForeignModel:
    """
    The model at ``path``.

    Raises:
        BadInput: it is not there, too large, a pickle (plain, compressed or zipped), or of no kind known here.
    """
    try:
        if path.is_dir():
            return _folder(path)
        if not path.is_file() and path.exists():
            raise BadInput(str(path), "is neither a file nor a folder", "name a model's file or folder")
        if path.stat().st_size > MOST_BYTES:
            raise BadInput(str(path), f"is larger than {MOST_BYTES >> 20} MiB", "give a smaller model")
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror})", "name a model's file or folder") from error
    kind = _kind(path, data)
    if kind in TREES and len(data) > MOST_TREE_BYTES:
        raise BadInput(str(path), _TOO_LARGE, _FEWER)
    return ForeignModel(path, kind, data)


def _folder(path: Path) -> ForeignModel:
    if (path / "saved_model.pb").is_file():
        return ForeignModel(path, "savedmodel")
    files = sorted(islice(path.iterdir(), _MOST_PARTS + 1))
    if not files or len(files) > _MOST_PARTS or any(each.is_dir() for each in files):
        rule = f"is a folder without saved_model.pb, and not one of 1 to {_MOST_PARTS} models of trees"
        raise BadInput(str(path), rule, "name a SavedModel, or a model's file")
    if sum(each.stat().st_size for each in files) > MOST_TREE_BYTES:
        raise BadInput(str(path), _TOO_LARGE, _FEWER)
    parts = tuple(map(read_source, files))
    for part in parts:
        if part.kind not in TREES or part.kind != parts[0].kind:
            rule = f"holds {part.path.name!r} ({part.kind}) beside {parts[0].path.name!r} ({parts[0].kind})"
            raise BadInput(str(path), rule, "put models of trees of one library side by side, and nothing else")
    return ForeignModel(path, parts[0].kind, parts=parts)


def _kind(path: Path, data: bytes) -> ForeignKind:
    if not data:
        raise BadInput(str(path), "is empty", "save the model again")
    _refuse_pickle(path, data)
    if data[4:8] == b"TFL3":
        return "litert"
    if data.startswith(b"PK"):
        return _zipped(path)
    if data.startswith(b"tree\n"):
        return "lightgbm"
    if data.lstrip()[:1] == b"{":
        return _json(path, data)
    for head, (what, fix) in _OTHERS.items():
        if data.startswith(head):
            raise BadInput(str(path), f"is {what}, which cannot be imported", fix)
    if path.suffix != ".onnx" and not data.startswith(b"\x08"):  # field 1 of ModelProto, ir_version, comes first
        kinds = "ONNX, LiteRT, .keras, SavedModel, or XGBoost's or LightGBM's text or JSON"
        raise BadInput(str(path), f"is no model of a known kind ({kinds})", _EXPORT)
    return "onnx"


def _refuse_pickle(path: Path, data: bytes) -> None:
    protocol = data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    old = _OLD_PICKLE.match(data) and data.rstrip().endswith(b".")
    if protocol or old:
        raise BadInput(str(path), _PICKLED, _FIXES["a pickle"])
    for head, name in _COMPRESSED.items():
        if data.startswith(head):
            rule = f"is compressed by {name}, as joblib does with a pickle, which runs code when it is read"
            raise BadInput(str(path), rule, _FIXES["a pickle"])


def _zipped(path: Path) -> ForeignKind:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BadInput(str(path), f"is a damaged zip file ({error})", "save the model again") from error
    names = {entry.filename for entry in entries}
    if any(name.endswith((".pkl", ".pickle", ".joblib")) for name in names):
        raise BadInput(str(path), f"holds a pickle, as PyTorch saves it: it {_PICKLED}", _FIXES["a PyTorch model"])
    if sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise BadInput(str(path), f"unpacks to more than {MOST_BYTES >> 20} MiB", "give a smaller model")
    if not {"config.json", "model.weights.h5"} <= names:
        raise BadInput(str(path), "is a zip file that is no .keras model", _EXPORT)
    return "keras"


def _json(path: Path, data: bytes) -> ForeignKind:
    if b'"learner"' in data:
        return "xgboost"
    if b'"tree_info"' in data:
        return "lightgbm"
    if b"learner" in data[:64]:
        raise BadInput(str(path), "is XGBoost's binary form (UBJSON)", "save it by save_model('model.json')")
    raise BadInput(str(path), "is JSON of neither XGBoost nor LightGBM", "save it by save_model('model.json')")
