"""Images and texts: what a request may send, what a span may hold, and how both become the same numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from sluice.data.ingest import ingest
from sluice.data.span import content_digest, read_span
from sluice.data.statistics import described
from sluice.data.validate import validate
from sluice.errors import BadInput
from sluice.features.manifest import Feature, FeatureManifest
from sluice.inputs.kind import InputKind, NotOfKindError
from sluice.inputs.numbers import FloatColumn, IntColumn
from sluice.inputs.registry import declared_kind, kind_of, settings_of
from sluice.inputs.strings import StringColumn
from sluice.inputs.tensors import TensorInput
from sluice.inputs.texts import TextInput
from sluice.models.encoder import Encoder, fit_encoder, fit_raw_encoder
from sluice.models.request import BadRequest, parse_v1
from sluice.models.request_v2 import parse_v2
from sluice.tasks.task import Slice, Task
from tests.support import digits_task, sentences_task

IMAGE = TensorInput(shape=(2, 3))
WAVE = TensorInput(shape=(4,), dtype="float32", low=-1, high=1)
NOTE = TextInput(longest=12)
GOOD: dict[str, Any] = {"image": [[0, 1, 2], [3, 4, 255]], "wave": [0, -1, 0.5, 1.0], "note": "Café, ok", "price": 2.5}
KINDS_OF_GOOD = {"image": IMAGE, "wave": WAVE, "note": NOTE, "price": declared_kind("price", pl.Float64)}
FEATURES = tuple(Feature.of_request(name, kind) for name, kind in KINDS_OF_GOOD.items())
MANIFEST = FeatureManifest(
    service=None, service_digest=None, entity_keys=(), request_inputs=FEATURES, features=FEATURES
)


def v1(**changed: Any) -> bytes:
    return orjson.dumps({"instances": [{**GOOD, **changed}]})


def tensor(name: str, datatype: str, shape: list[Any], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


V2 = (
    tensor("image", "UINT8", [2, 2, 3], [0, 1, 2, 3, 4, 255, 9, 9, 9, 9, 9, 9]),
    tensor("wave", "FP32", [2, 4], [[0, -1, 0.5, 1], [0, 0, 0, 0]]),
    tensor("note", "BYTES", [2], ["Café, ok", "b"]),
    tensor("price", "FP64", [2, 1], [2.5, 3]),
)


def v2(*tensors: dict[str, Any]) -> bytes:
    """The tensors with some replaced."""
    named = {each["name"]: each for each in (*V2, *tensors)}
    return orjson.dumps({"inputs": list(named.values())})


def test_a_request_is_read_by_its_kinds() -> None:
    request = parse_v1(v1(), MANIFEST)
    row = request.instances[0]
    assert request.online  # and so a log keeps what it carried
    assert row["image"].dtype == np.uint8
    assert row["image"].tolist() == GOOD["image"]
    assert (row["wave"].dtype, row["wave"].tolist()) == (np.float32, [0.0, -1.0, 0.5, 1.0])
    assert (row["note"], row["price"]) == (GOOD["note"], 2.5)
    second = parse_v2(v2(), MANIFEST).instances
    assert [sorted(each) for each in second] == [sorted(GOOD)] * 2
    assert all(np.array_equal(second[0][name], row[name]) for name in GOOD)
    assert second[1]["image"].tolist() == [[9] * 3] * 2


_WRONG_IMAGES = [
    ([[0, 1, 2], [3, 4, 256]], "has 256 as its number 5, not an integer from 0 to 255"),
    ([[0, 1, 2], [3, 4, -1]], "has -1 as its number 5"),
    ([[0, 1, 2], [3, 4, 0.5]], "has 0.5 as its number 5"),
    ([[0, 1, 2], [3, 4, True]], "has True as its number 5"),
    ([[0, 1, 2], [3, 4, None]], "has None as its number 5"),
    ([[0, 1, 2], [3, 4, "5"]], "has '5' as its number 5"),
    ([[0, 1, 2], [3, 4, [5]]], r"has \[5\] as its number 5"),
    ([[0, 1, 2], [3, 4, 10**18]], "has 1000000000000000000 as its number 5"),
    ([[0, 1, 2], [3, 4, 1e308]], r"has 1e\+308 as its number 5"),
    ([[0, 1, 2], [3, 4]], r"has a list of 2 at \[1\], not a list of 3"),
    ([[0, 1, 2]], "has a list of 1 at its top, not a list of 2"),
    ([0, 1, 2, 3, 4, 5], "has a list of 6 at its top, not a list of 2"),
    ([[0, 1, 2], 3], r"has int at \[1\], not a list of 3"),
    ("AAEC", "has str at its top"),
    ({"b64": "AAEC"}, "has dict at its top"),
    (None, "has NoneType at its top"),
    ([], "has a list of 0 at its top"),
]


@pytest.mark.parametrize(("value", "rule"), _WRONG_IMAGES)
def test_what_is_no_such_image_is_refused_by_name(value: Any, rule: str) -> None:
    with pytest.raises(
        BadRequest, match=rf"^instances\[0\]\.image: {rule}.*; send nested lists of 2 x 3 integers"
    ) as e:
        parse_v1(v1(image=value), MANIFEST)
    assert (e.value.status, e.value.part) == (400, "values")


def test_beside_a_feature_store_an_image_is_not_missing_either() -> None:
    beside = MANIFEST.model_copy(update={"service": "shops", "service_digest": "sha256:0", "entity_keys": ("shop",)})
    assert parse_v1(v1(price=None), beside).online is False  # a feature may be missing
    with pytest.raises(BadRequest, match=r"instances\[0\]\.image: has NoneType at its top"):
        parse_v1(v1(image=None), beside)
    with pytest.raises(BadRequest, match=r"inputs\[1\]\.note: is null, not a text"):
        parse_v2(v2(tensor("note", "BYTES", [2], ["a", None])), beside)


@pytest.mark.parametrize("value", [[0, 0, 0, 1.5], [0, 0, 0, -1.0000001], [0, 0, 0, 1e308], [0, 0, 0], ["0"] * 4])
def test_floats_are_held_to_their_range_too(value: Any) -> None:
    with pytest.raises(BadRequest, match=r"instances\[0\]\.wave: has "):
        parse_v1(v1(wave=value), MANIFEST)


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("a" * 13, "has 13 characters, more than 12; "),
        ("", "is empty; "),
        (" \n\t", "is empty; "),
        ("\u00a0", "is empty; "),
        ("a\0b", "has a NUL at character 1; "),
        (7, "is a number, not a text of at most 12 characters, not empty"),
        (None, "is null, not a text"),
        (["a"], "is a list, not a text"),
    ],
)
def test_what_is_no_such_text_is_refused_by_name(value: Any, rule: str) -> None:
    with pytest.raises(BadRequest, match=rf"^instances\[0\]\.note: {rule}"):
        parse_v1(v1(note=value), MANIFEST)
    with pytest.raises(BadRequest, match=r"^inputs\[1\]\.note: "):
        parse_v2(v2(tensor("note", "BYTES", [2], ["b", value])), MANIFEST)


def test_a_nul_ends_no_text_and_no_key() -> None:
    """Neither in requests, which ``read`` takes, nor in rows to learn from."""
    column = pl.Series(["a", "b\0", "\U0001f469\u200d\U0001f4bb \u202eשלום"])
    for kind in (StringColumn(), TextInput(), TextInput(empty=True)):
        with pytest.raises(NotOfKindError):
            kind.read("b\0")
        odd, rule = kind.refused(column)
        assert (odd.to_list(), rule) == (["b\0"], "has a NUL")
        assert [kind.read(text) for text in (column[0], column[2])] == [column[0], column[2]]


def test_text_that_is_no_unicode_is_refused() -> None:
    for text in (b'"\\ud800"', b'"\xff"', b'"\xc3("'):
        with pytest.raises(BadRequest):
            parse_v1(
                b'{"instances":[{"image":[[0,1,2],[3,4,5]],"wave":[0,0,0,0],"price":1,"note":%s}]}' % text, MANIFEST
            )
    with pytest.raises(ValueError, match="no valid Unicode at character 1"):
        NOTE.read("a\ud800")
    assert TextInput(empty=True).read("") == ""


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (tensor("image", "FP32", [2, 2, 3], [0] * 12), "input 'image': has datatype 'FP32'; send one of INT16"),
        (tensor("image", "BYTES", [2, 2, 3], [0] * 12), "input 'image': has datatype 'BYTES'"),
        (tensor("image", "INT8", [2, 2, 3], [200] * 12), r"inputs\[0\]\.image: is \[\[200, .*, which INT8 cannot hold"),
        (tensor("image", "UINT8", [2, 6], [0] * 12), r"input 'image': has shape \[2, 6\] and 12 values; send shape"),
        (tensor("image", "UINT8", [2, 3, 2], [0] * 12), r"input 'image': has shape \[2, 3, 2\]"),
        (tensor("image", "UINT8", [2, 2, 3], [0] * 11), "input 'image': has shape .* and 11 values"),
        (tensor("image", "UINT8", [2, 2, 3], [[[0] * 3] * 2]), "input 'image': has shape .* and 1 rows"),
        (tensor("image", "UINT8", [2, 2, 3], [[[0] * 3] * 2, [[0] * 3]]), r"inputs\[1\]\.image: has a list of 1"),
        (tensor("image", "UINT8", [2, 2, 3], [[[0] * 3] * 2, 7]), r"inputs\[1\]\.image: has int at its top"),
        (tensor("image", "UINT8", [1, 2, 3], [0] * 6), "has 2 values where the first tensor has 1"),
        (tensor("image", "UINT8", ["2", 2, 3], [0] * 12), "input 'image': has shape"),
        (tensor("image", "UINT8", [-2, 2, 3], [0] * 12), "input 'image': has shape"),
        (tensor("image", "UINT8", [True, 2, 3], [0] * 6), "input 'image': has shape"),
        (tensor("image", "UINT8", [0, 2, 3], []), "inputs: has 0 rows"),
        (tensor("image", "UINT8", [2, 2, 3], [0] * 11 + [None]), r"inputs\[1\]\.image: has None as its number 5"),
    ],
)
def test_a_tensor_of_v2_is_of_the_declared_shape_and_type(wrong: dict[str, Any], rule: str) -> None:
    with pytest.raises(BadRequest, match=rule) as error:
        parse_v2(v2(wrong), MANIFEST)
    assert error.value.status == 400


def test_rows_of_a_refused_tensor_are_counted() -> None:
    with pytest.raises(BadRequest) as error:
        parse_v2(v2(tensor("wave", "FP32", [2, 4], [9] * 8)), MANIFEST)
    assert error.value.rows == 2


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"shape": ()}, "shape"),
        ({"shape": (2, 0)}, "is not of 1 to"),
        ({"shape": (300, 300)}, "is not of 1 to 65536 numbers"),
        ({"shape": (2,), "dtype": "float32"}, "floats need a range"),
        ({"shape": (2,), "low": 5, "high": 5}, "low 5 is not below high 5"),
        ({"shape": (2,), "high": 256}, "uint8 cannot hold all of 0 to 256"),
        ({"shape": (2,), "dtype": "float32", "low": 0, "high": float("inf")}, "finite"),
        ({"shape": (2,), "dtype": "float64", "low": 0, "high": 1}, "dtype"),
        ({"shape": (2,), "colour": True}, "colour"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused_where_it_is_declared(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        TensorInput(**settings)


@pytest.mark.parametrize("kind", [IMAGE, WAVE, NOTE, *(kind_of(name, None) for name in ("float", "int", "string"))])
def test_a_kind_says_everything_that_a_server_asks(kind: InputKind) -> None:
    assert kind_of(kind.kind, settings_of(kind)) == kind
    assert Feature.model_validate_json(Feature.of_request("x", kind).model_dump_json()).kind == kind
    assert kind.datatype in kind.datatypes
    assert orjson.dumps(kind.description)
    value = kind.read(kind.zero)
    column = pl.Series("x", [value, value], kind.column_type)
    assert len(kind.refused(column)[0]) == 0
    if code := kind.code("x"):
        assert code.encode(column).shape == (2, code.width)
        assert np.array_equal(kind.from_content(kind.content(value)), value)
        assert kind.logged("x", value) == kind.logged("x", column[0])
        assert kind.logged("x", value)["x"] == kind.digest(kind.zero)


def test_documents_of_tables_are_what_they_were() -> None:
    feature = Feature(name="amount", dtype="float", view="request")
    assert feature.model_dump() == {"name": "amount", "dtype": "float", "view": "request", "ttl_seconds": None}
    with pytest.raises(ValidationError, match="'sound': is not known"):
        Feature(name="amount", dtype="sound", view="request")
    with pytest.raises(ValidationError, match="shape"):
        Feature(name="amount", dtype="tensor", view="request")


def frame(rows: int = 50) -> pl.DataFrame:
    random = np.random.default_rng(3)
    return pl.DataFrame(
        {
            "image": random.integers(0, 256, (rows, 2, 3), np.uint8),
            "wave": random.uniform(-1, 1, (rows, 4)).astype(np.float32),
            "note": [f"Word {row % 7} ÄÖ {row}" for row in range(rows)],
            "price": random.normal(size=rows),
        }
    )


def test_training_and_serving_give_a_model_the_same_bits() -> None:
    rows = frame()
    encoder = fit_encoder(rows, MANIFEST)
    whole = encoder.encode(rows)
    body = orjson.dumps({"instances": rows.to_dicts()})
    served = parse_v1(body, MANIFEST).instances
    columns = {name: [row[name] for row in served] for name in MANIFEST.names}
    assert np.array_equal(encoder.encode(columns), whole)
    assert np.array_equal(encoder.encode(rows.to_dict(as_series=False)), whole)
    assert np.array_equal(encoder.encode({name: each[7:8] for name, each in columns.items()}), whole[7:8])
    again = Encoder.model_validate_json(encoder.model_dump_json())
    assert np.array_equal(again.encode(rows), whole)
    (image, code), (wave, _), (note, _) = encoder.blocks
    assert np.array_equal(
        whole[:, image], rows["image"].to_numpy().reshape(50, 6).astype(np.float32) * np.float32(1 / 255)
    )
    assert (code.row_shape, whole[:, wave].min() >= 0, whole[:, wave].max() <= 1) == ((2, 3), True, True)
    assert np.allclose(np.square(whole[:, note]).sum(axis=1), 1)
    assert note.stop == encoder.width == whole.shape[1]
    assert encoder.numbers == image.start
    assert np.array_equal(fit_raw_encoder(rows, MANIFEST).encode(rows)[:, 1:], whole[:, image.start :])


def test_rows_of_another_shape_or_none_are_refused_before_a_model_sees_them() -> None:
    encoder = fit_encoder(frame(), MANIFEST)
    columns = {name: [value] for name, value in GOOD.items()}
    for name, value in (("image", [[1, 2], [3, 4]]), ("image", None), ("note", None), ("wave", [1.0])):
        with pytest.raises(BadInput, match=f"feature '{name}': holds a value that is no"):
            encoder.encode({**columns, name: [value]})
    with pytest.raises(BadInput, match="feature 'note': has other than 1 values"):
        encoder.encode({**columns, "note": ["a", "b"]})
    with pytest.raises(BadInput, match="feature 'note': is missing"):
        encoder.encode({name: value for name, value in columns.items() if name != "note"})
    with pytest.raises(BadInput, match=r"column 'image': is Array.*, the manifest says Array"):
        fit_encoder(frame().with_columns(image=pl.Series(np.zeros((50, 3, 2), np.uint8))), MANIFEST)


def test_a_text_is_counted_by_words_whatever_its_case() -> None:
    code = TextInput(buckets=4096, words=2).code("x")
    same, other, unknown = code.encode(["Not GOOD, not bad", "not bad not good", "\x00 😀"])
    assert np.array_equal(code.encode(["not good not  bad!"])[0], same)
    assert not np.array_equal(same, other)  # pairs of words know their order
    assert not unknown.any()
    bag = TextInput(buckets=4096, words=1).code("x").encode(["a b", "b a"])
    assert np.array_equal(*bag)
    letters = TextInput(words=0, characters=3).code("x")
    assert letters.encode(["😀"]).any()
    assert list(letters.grams("Ab")) == ["\0 ab", "\0ab "]


def test_a_summary_says_what_values_are_like() -> None:
    values = {name: each.tolist() for name, each in IMAGE.summary([[[0, 0, 0], [255, 255, 90]]]).items()}
    assert values["mean"] == [100.0]
    assert (values["lowest"], values["highest"]) == ([0.5], [pytest.approx(1 / 3)])
    assert values["deviation"] == [pytest.approx(np.std([0, 0, 0, 255, 255, 90]))]
    texts = {name: each.tolist() for name, each in NOTE.summary(["Café ok", "", "äö"]).items()}
    assert texts == {"length": [7, 0, 2], "words": [2, 0, 1], "foreign": [pytest.approx(1 / 7), 0, 1]}
    looked_at = described(frame().with_columns(kept=1), KINDS_OF_GOOD)
    assert looked_at.columns[:2] == ["price", "kept"]
    assert {"image.mean", "wave.highest", "note.length"} < set(looked_at.columns)


def images(**changed: Any) -> Task:
    return dataclasses.replace(digits_task.TASK, **changed)


def with_image(value: np.ndarray, dtype: Any) -> Callable[..., pl.DataFrame]:
    """The drawings with another first image."""

    def read(start: Any, end: Any) -> pl.DataFrame:
        rows = digits_task.read_examples(start, end)
        pictures = rows["image"].to_numpy().astype(value.dtype)
        pictures[0] = value
        return rows.with_columns(image=pl.Series(pictures, dtype=dtype))

    return read


FLOATS = TensorInput(shape=(8, 8), dtype="float32", low=0, high=255)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 255.5])
def test_a_number_that_no_server_takes_is_refused_when_a_span_is_made(value: float, tmp_path: Path) -> None:
    first = np.full((8, 8), 7, np.float32)
    sound = images(
        request_inputs={"image": FLOATS, "pen": pl.String}, read_examples=with_image(first, FLOATS.column_type)
    )
    ingest(sound, tmp_path / "sound")
    first[3, 3] = value
    with pytest.raises(
        BadInput, match=r"column 'image' .*: has a number that is not from 0 to 255 in 1 of \d+ rows, which"
    ):
        ingest(sound, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_images_of_another_size_or_type_are_refused_when_a_span_is_made(tmp_path: Path) -> None:
    for declared in (TensorInput(shape=(8, 8, 1)), FLOATS, TensorInput(shape=(4, 16))):
        with pytest.raises(BadInput, match=r"column 'image' .*: has type tensor\[uint8, 8x8\], not Array"):
            ingest(images(request_inputs={"image": declared, "pen": pl.String}), tmp_path)


def test_texts_that_no_server_takes_are_refused_without_being_told(tmp_path: Path) -> None:
    for text, rule in (("x" * 201, "has more than 200 characters"), ("\u00a0", "is empty")):

        def read(start: Any, end: Any, text: str = text) -> pl.DataFrame:
            rows = sentences_task.read_examples(start, end)
            return rows.with_columns(text=pl.Series([text, *rows["text"][1:]]))

        with pytest.raises(BadInput, match=f"column 'text' .*: {rule} in 1 of 1400 rows, which no server takes"):
            ingest(dataclasses.replace(sentences_task.TASK, read_examples=read), tmp_path)


def test_what_a_task_may_not_say_of_its_inputs(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"Task\.nullable .*: names 'image', a tensor, which cannot be missing"):
        ingest(images(nullable=frozenset({"image"})), tmp_path)
    with pytest.raises(BadInput, match=r"slice .*asks for 'image', which a prediction log keeps by its digest"):
        ingest(images(slices=(Slice("image", "image"),)), tmp_path)
    with pytest.raises(BadInput, match="request input size: has type Boolean; use Float64, Int64, String, or one of"):
        images(request_inputs={"size": pl.Boolean})
    with pytest.raises(BadInput, match="request input 'my image': is no name"):
        images(request_inputs={"my image": IMAGE})
    with pytest.raises(BadInput, match="entity_keys: are of a feature service, and there is none"):
        images(entity_keys=("pen",))
    with pytest.raises(BadInput, match="feature_service: gives features that nobody reads"):
        images(feature_service="drawings")
    with pytest.raises(BadInput, match="has no feature service"):
        _ = digits_task.TASK.service


def test_a_span_keeps_images_as_they_are_and_is_validated_by_what_they_are_like(tmp_path: Path) -> None:
    record = ingest(digits_task.TASK, tmp_path / "span")
    span = read_span(tmp_path / "span")
    assert record.columns["image"] == "tensor[uint8, 8x8]"
    assert span.schema["image"] == pl.Array(pl.UInt8, (8, 8))
    pictures = span["image"].to_numpy().copy()
    pictures[0, 0, 0] ^= 1
    assert content_digest(span.with_columns(image=pictures)) != record.digest
    assert (
        content_digest(span.sample(fraction=1, shuffle=True, seed=1).sort("event_time", "example_id")) == record.digest
    )
    assert validate(digits_task.TASK, tmp_path / "span", tmp_path).passed

    def bright(start: Any, end: Any) -> pl.DataFrame:
        rows = digits_task.read_examples(start, end)
        return rows.with_columns(image=rows["image"].to_numpy() | np.uint8(200))

    ingest(images(read_examples=bright), tmp_path / "bright")
    report = validate(digits_task.TASK, tmp_path / "bright", tmp_path)
    assert {("image.mean", "range")} < {(each.feature, each.rule) for each in report.anomalies}
    assert {each.feature for each in report.anomalies} <= {f"image.{name}" for name in IMAGE.summary([GOOD["image"]])}


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**2), 10**2),
    st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**400, 3.4e38, -3.5e38, 1e308, -1e308, 2.5]),
    st.floats(),
    st.text(max_size=3),
    st.sampled_from(["x" * 256, "x" * 257]),
)


@given(
    values=st.lists(CELLS, min_size=1, max_size=4), kind=st.sampled_from([FloatColumn(), IntColumn(), StringColumn()])
)
@example(values=[1.0, math.nan], kind=FloatColumn())
@example(values=["", "x" * 257], kind=StringColumn())
@example(values=["", "x\0"], kind=StringColumn())
def test_several_values_are_taken_at_a_glance_only_where_each_is_taken_as_it_is(
    values: list[Any], kind: InputKind
) -> None:
    def as_it_is(value: Any) -> bool:
        try:
            return kind.read(value) is value
        except NotOfKindError:
            return False

    assert kind.takes_all(values) <= all(map(as_it_is, values))


@pytest.mark.parametrize(
    ("kind", "values"),
    [(FloatColumn(), [1, 2.5, -3e38]), (IntColumn(), [0, 2**62]), (StringColumn(), ["", "é"])],
)
def test_a_batch_of_plain_values_is_read_at_a_glance(kind: InputKind, values: list[Any]) -> None:
    assert kind.takes_all(values)
