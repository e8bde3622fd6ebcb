"""What a server may be asked, and what it says to everything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.models.request import (
    MAX_BODY_BYTES,
    MAX_INSTANCES,
    BadRequest,
    InferenceRequest,
    columns_of,
    parse_v1,
)
from sluice.models.request_headers import check_envelope, context_of_any, parse_context
from sluice.models.request_v2 import parse_v2
from tests.support.tiny_bundle import FEATURES, tiny_rows

GOOD = {"amount": 1.5, "visits": 3, "colour": "red"}
KEYED = {"shop": "oak", "amount": 1.5}


def v1(*instances: Any) -> bytes:
    return orjson.dumps({"instances": list(instances)})


def tensor(name: str, datatype: str, data: list[Any], shape: Any = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def v2(*tensors: Any, **more: Any) -> bytes:
    return orjson.dumps({"inputs": list(tensors), **more})


FULL = (tensor("amount", "FP32", [1, 2.5]), tensor("visits", "INT64", [3, None]), tensor("colour", "BYTES", ["x", "y"]))


def test_features_are_taken_as_given() -> None:
    rows = tiny_rows(9)
    request = parse_v1(orjson.dumps({"instances": rows}), FEATURES)
    assert request == InferenceRequest(tuple(rows), online=False)
    assert columns_of(request.instances, ("visits",)) == {"visits": [row["visits"] for row in rows]}


def test_keys_and_request_inputs_ask_for_a_read() -> None:
    assert parse_v1(v1(KEYED), FEATURES).online
    request = parse_v2(v2(tensor("shop", "BYTES", ["oak"]), tensor("amount", "FP64", [1.5])), FEATURES)
    assert request == InferenceRequest((KEYED,), online=True)


def test_null_stands_where_the_task_lets_it_and_nowhere_else() -> None:
    nameless = FEATURES.model_copy(update={"nullable": ("shop",)})
    tensors = v2(tensor("shop", "BYTES", [None, "oak"]), tensor("amount", "FP64", [1.5, 2.0]))
    assert parse_v1(v1(KEYED | {"shop": None}), nameless).instances == ({"shop": None, "amount": 1.5},)
    assert parse_v2(tensors, nameless).instances[0] == {"shop": None, "amount": 1.5}
    with pytest.raises(BadRequest, match=r"instances\[0\]\.amount: is None, not a finite number; send a [a-z ]+$"):
        parse_v1(v1(KEYED | {"amount": None}), nameless)
    for body, parse in ((v1(KEYED | {"shop": None}), parse_v1), (tensors, parse_v2)):
        with pytest.raises(BadRequest, match="shop: is None, not a text"):
            parse(body, FEATURES)


_LONG = tensor("amount", "FP64", [1.0] * (MAX_INSTANCES + 1))


@pytest.mark.parametrize(
    ("parse", "body", "rows"),
    [
        (parse_v1, v1(GOOD, GOOD, GOOD | {"amount": "1"}), 3),
        (parse_v1, v1(GOOD, KEYED), 2),
        (parse_v1, v1(*[GOOD] * (MAX_INSTANCES + 1)), 1),
        (parse_v1, v1(), 1),
        (parse_v1, b"{", 1),
        (parse_v2, v2(tensor("shop", "BYTES", [None, "a", "b"]), tensor("amount", "FP64", [1, 2, 3])), 3),
        (parse_v2, v2(*FULL, more=1), 2),
        (parse_v2, v2(_LONG), 1),
        (parse_v2, v2(tensor("amount", "FP64", [])), 1),
        (parse_v2, v2([], outputs=3), 1),
    ],
)
def test_a_refusal_says_how_many_rows_get_no_score(parse: Callable[..., Any], body: bytes, rows: int) -> None:
    with pytest.raises(BadRequest) as raised:
        parse(body, FEATURES)
    assert raised.value.rows == rows


def test_what_was_refused_by_its_headers_is_still_on_its_route() -> None:
    late = {"x-sluice-time": "soon", "x-sluice-route": "shadow", "x-sluice-rollout": "r4", "x-request-id": "q"}
    found = context_of_any(late)
    assert found is not None
    assert (found.route, found.rollout, found.event_time.tzinfo) == ("shadow", "r4", UTC)
    assert context_of_any(late | {"x-sluice-route": "nowhere"}) is None
    assert context_of_any(late | {"x-sluice-time": "2013-08-01T05:10:00Z"}) == parse_context(
        late | {"x-sluice-time": "2013-08-01T05:10:00Z"}
    )


def test_v2_gives_the_rows_of_v1() -> None:
    request = parse_v2(v2(*FULL, id="abc"), FEATURES)
    assert [dict(row) for row in request.instances] == [
        {"amount": 1, "visits": 3, "colour": "x"},
        {"amount": 2.5, "visits": None, "colour": "y"},
    ]
    assert (request.online, request.id) == (False, "abc")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"instances": [{"amount": NaN, "visits": 1, "colour": "x"}]}', "not JSON"),
        (b"[" * 5000 + b"]" * 5000, "not JSON"),
        (b"[]", "body: is a list"),
        (b"null", "body: is null"),
        (b"{}", "body: has nothing"),
        (b'{"instances": [], "more": 1}', "body: has 'instances', 'more'"),
        (b'{"inputs": []}', "body: has 'inputs'"),
        (b'{"instances": {}}', "instances: is an object"),
        (v1(), "instances: has 0 rows"),
        (v1(*[GOOD] * (MAX_INSTANCES + 1)), "has 1001 rows"),
        (v1(7), "instances[0]: is a number"),
        (v1(GOOD, [1, 2]), "instances[1]: is a list"),
        (v1({}), "is missing"),
        (v1({**GOOD, "extra": 1}), "instances[0].'extra': is not a field"),
        (v1({"amount": 1.5, "visits": 3}), "instances[0].colour: is missing"),
        (v1({"shop": "oak"}), "instances[0].amount: is missing"),
        (v1(GOOD, KEYED), "instances[1].'shop'"),
        (v1({**GOOD, "amount": "1.5"}), "instances[0].amount: is '1.5', not a finite number"),
        (v1({**GOOD, "amount": True}), "instances[0].amount: is True"),
        (v1({**GOOD, "amount": [1]}), "instances[0].amount: is [1]"),
        (v1({**GOOD, "amount": 1e300}), "instances[0].amount: is 1e+300"),
        (b'{"instances": [{"amount": 1e999, "visits": 1, "colour": "x"}]}', ""),
        (v1({**GOOD, "visits": 2.5}), "instances[0].visits: is 2.5, not an integer"),
        (v1({**GOOD, "visits": 2**63}), "instances[0].visits"),
        (v1({**GOOD, "colour": 3}), "instances[0].colour: is 3, not a text"),
        (v1({**GOOD, "colour": "x" * 300}), "instances[0].colour"),
        (v1({"shop": None, "amount": 1}), "instances[0].shop: is None, not a text"),
        (v1({"shop": 7, "amount": 1}), "is 7, not a text"),
        (v1({"shop": "oak", "amount": None}), "instances[0].amount: is None"),
    ],
)
def test_a_bad_v1_request_is_refused_by_name(body: bytes, named: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_v1(body, FEATURES)
    assert named in str(refused.value)
    assert refused.value.status == 400
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"[]", "body: is a list"),
        (v1(GOOD), "'instances'"),
        (v2(), "inputs: is a list, not a list of tensors"),
        (b'{"inputs": 5}', "inputs: is a number"),
        (v2(5), "inputs[0]: is a number"),
        (v2({"name": "amount"}), "inputs[0]: has no name or no datatype"),
        (v2({**FULL[0], "odd": 1}), "inputs[0]: 'odd'"),
        (v2(tensor("amount", "FP32", [1.0], [2])), "input 'amount': has shape [2] and 1 values"),
        (v2(tensor("amount", "FP32", [1.0], [True])), "input 'amount': has shape"),
        (v2(tensor("amount", "FP32", [[1.0]], [1, 1]), *FULL[1:]), "first tensor"),
        (v2(tensor("amount", "FP32", [[1.0, 2.0]], [1, 2]), *FULL[1:]), "has shape [1, 2]"),
        (v2({**FULL[0], "data": "abc"}), "input 'amount': has data that is a text"),
        (v2(FULL[0], FULL[0]), "inputs[1]: names 'amount' a second time"),
        (v2(FULL[0], FULL[1]), "inputs.colour: is missing"),
        (v2(*FULL, tensor("odd", "FP32", [1, 2])), "inputs.'odd': is not a field"),
        (v2(tensor("amount", "BYTES", ["a", "b"]), *FULL[1:]), "input 'amount': has datatype 'BYTES'"),
        (v2(FULL[0], tensor("visits", "FP32", [1, 2]), FULL[2]), "input 'visits': has datatype 'FP32'"),
        (v2(FULL[0], tensor("visits", "INT64", [1]), FULL[2]), "input 'visits': has 1 values where"),
        (v2(tensor("amount", "FP32", ["a", 1]), *FULL[1:]), "inputs[0].amount: is 'a'"),
        (v2(tensor("amount", "FP32", [], [0])), "inputs: has 0 rows"),
        (v2(*FULL, id=5), "id: is not a text"),
        (v2(*FULL, outputs=5), "outputs: is a number"),
        (v2(*FULL, outputs=["score"]), "outputs[0]: is 'score'"),
        (v2(*FULL, outputs=[{"name": "scores"}]), "outputs[0]: is 'scores', no output"),
        (v2(*FULL, outputs=[{"name": "score"}, {"name": ["positive"]}]), "outputs[1]: is ['positive']"),
        (v2(*FULL, outputs=[{"name": "score"}, {"name": "score"}]), "outputs[1]: names 'score' a second time"),
        (v2(*FULL, outputs=[{"name": "score", "shape": [1]}]), "outputs[0]: 'shape'"),
        (v2(*FULL, outputs=[{"name": "score", "parameters": {"binary_data": True}}]), "outputs[0].parameters"),
        (v2(*FULL, outputs=[{"name": "score", "parameters": {"classification": 3}}]), "'classification': is 3"),
        (v2(*FULL, parameters={"binary_data_output": True}), "parameters: 'binary_data_output': is True"),
        (v2(*FULL, parameters={"content_type": "np"}), "parameters: 'content_type': is 'np'"),
        (v2(*FULL, parameters={"priority": 1}), "parameters: 'priority'"),
        (v2(*FULL, parameters=[]), "parameters: is a list"),
        (v2({**FULL[0], "parameters": {"binary_data_size": 8}}, *FULL[1:]), "inputs[0].parameters: 'binary_data_size'"),
        (v2({**FULL[0], "parameters": {"content_type": "datetime"}}, *FULL[1:]), "is 'datetime', which is not done"),
        (v2(*FULL[:2], {**FULL[2], "parameters": {"content_type": "base64"}}), "is 'base64', which is not done"),
        (v2(tensor("amount", "FP32", [[1], [2, 3]], [2, 1]), *FULL[1:]), "inputs[0].amount: is [1]"),
        (v2(tensor("amount", "FP32", [[[1]], [[2]]], [2, 1]), *FULL[1:]), "inputs[0].amount: is [1]"),
        (v2(tensor("amount", "FP32", [[1], [2]], [2]), *FULL[1:]), "inputs[0].amount: is [1]"),
    ],
)
def test_a_bad_v2_request_is_refused_by_name(body: bytes, named: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_v2(body, FEATURES)
    assert named in str(refused.value)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("datatype", "edges", "beyond"),
    [
        ("INT8", [-128, 127], [-129, 128]),
        ("UINT8", [0, 255], [-1, 256]),
        ("INT16", [-(2**15), 2**15 - 1], [-(2**15) - 1, 2**15]),
        ("UINT16", [0, 2**16 - 1], [-1, 2**16]),
        ("INT32", [-(2**31), 2**31 - 1], [-(2**31) - 1, 2**31]),
        ("UINT32", [0, 2**32 - 1], [-1, 2**32]),
        ("INT64", [1 - 2**63, 2**63 - 1], [-(2**63), 2**63]),
        ("UINT64", [0, 2**63 - 1], [-1, 2**63]),
    ],
)
def test_an_integer_fits_its_own_datatype(datatype: str, edges: list[int], beyond: list[int]) -> None:
    request = parse_v2(v2(FULL[0], tensor("visits", datatype, edges), FULL[2]), FEATURES)
    assert [row["visits"] for row in request.instances] == edges
    for value in beyond:
        with pytest.raises(BadRequest, match=r"inputs\[1\]\.visits: is -?\d+"):
            parse_v2(v2(FULL[0], tensor("visits", datatype, [None, value]), FULL[2]), FEATURES)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("FP16", 65520.0),
        ("FP16", -1e9),
        ("FP32", 3.5e38),
        ("FP64", 1e300),
        ("INT8", 128),
        ("INT64", 1.5),
        ("UINT8", -1),
    ],
)
def test_a_number_fits_its_own_datatype(datatype: str, value: float) -> None:
    with pytest.raises(BadRequest, match=r"inputs\[0\]\.amount"):
        parse_v2(v2(tensor("amount", datatype, [value, None]), *FULL[1:]), FEATURES)
    fitting = parse_v2(v2(tensor("amount", datatype, [100, None]), *FULL[1:]), FEATURES)
    assert [row["amount"] for row in fitting.instances] == [100, None]


def test_data_may_be_nested_as_their_shape_says() -> None:
    nested = [{**each, "shape": [2, 1], "data": [[value] for value in each["data"]]} for each in FULL]
    assert parse_v2(v2(*nested), FEATURES) == parse_v2(v2(*FULL), FEATURES)


def test_what_is_asked_for_anyway_is_granted() -> None:
    plain = {"binary_data": False}
    inputs = [{**FULL[0], "parameters": plain | {"content_type": "np"}}, {**FULL[1], "parameters": {}}]
    inputs.append({**FULL[2], "parameters": {"content_type": "str"}})
    whole = {"binary_data_output": False, "content_type": "pd"}
    wanted = [{"name": "positive", "parameters": plain}, {"name": "score", "parameters": None}]
    request = parse_v2(v2(*inputs, parameters=whole, outputs=wanted), FEATURES)
    assert request.outputs == ("positive", "score")
    assert parse_v2(v2(*FULL, parameters=None, outputs=[]), FEATURES) == parse_v2(v2(*FULL), FEATURES)


@pytest.mark.parametrize("depth", [100, 966, 1020])
@pytest.mark.parametrize("brackets", ["[]", '{"a":}'])
def test_however_deep_a_value_is_its_refusal_is_short(depth: int, brackets: str) -> None:
    deep = (brackets[:-1] * depth + "1" + brackets[-1] * depth).encode()
    row = b'{"instances": [{"amount": %s, "visits": 1, "colour": "x"}]}' % deep
    column = b'{"name": "amount", "datatype": "FP32", "shape": [1], "data": [%s]}' % deep
    for parse, body in (
        (parse_v1, deep),
        (parse_v1, row),
        (parse_v1, b'{"instances": [%s]}' % deep),
        (parse_v2, b'{"inputs": [%s]}' % column),
        (parse_v2, b'{"inputs": [%s], "outputs": [%s]}' % (column, deep)),
        (parse_v2, b'{"inputs": [%s], "parameters": {"content_type": %s}}' % (column, deep)),
        (parse_v2, b'{"inputs": [{"name": "amount", "datatype": "FP32", "shape": %s, "data": [1]}]}' % deep),
    ):
        with pytest.raises(BadRequest) as refused:
            parse(body, FEATURES)
        assert len(str(refused.value)) < 300


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(BadRequest) as refused:
        parse_v1(orjson.dumps({f"{i}{'x' * 100}": 1 for i in range(5000)}), FEATURES)
    assert len(str(refused.value)) < 500


def test_a_server_without_a_store_refuses_keys() -> None:
    with pytest.raises(BadRequest, match="reads no features"):
        parse_v1(v1(KEYED), FEATURES, reads_online=False)


def test_size_and_kind_have_their_own_status() -> None:
    check_envelope({"content-type": "application/json; charset=utf-8", "content-length": "10"})
    for headers, status in (
        ({}, 415),
        ({"content-type": "text/plain", "content-length": "3"}, 415),
        ({"content-type": "application/json", "content-length": "9", "inference-header-content-length": "5"}, 415),
        ({"content-type": "application/json", "content-length": str(MAX_BODY_BYTES + 1)}, 413),
    ):
        with pytest.raises(BadRequest) as refused:
            check_envelope(headers)
        assert refused.value.status == status
    with pytest.raises(BadRequest) as refused:
        parse_v1(b" " * (MAX_BODY_BYTES + 1), FEATURES)
    assert refused.value.status == 413


def test_headers_say_who_when_and_where() -> None:
    headers = {"x-request-id": "r1", "x-sluice-time": "2013-08-01T05:00:00Z", "x-sluice-route": "shadow"}
    context = parse_context(headers | {"x-sluice-rollout": "r0001"})
    assert context.event_time == datetime(2013, 8, 1, 5, tzinfo=UTC)
    assert (context.request_id, context.route, context.rollout) == ("r1", "shadow", "r0001")
    alone = parse_context({})
    assert (alone.route, alone.rollout, bool(alone.request_id)) == ("stable", "", True)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-sluice-time": "yesterday"},
        {"x-sluice-time": "2013-08-01T05:00:00"},
        {"x-sluice-time": "0001-01-01T00:00:00+14:00"},
        {"x-sluice-route": "backdoor"},
        {"x-request-id": "x" * 300},
    ],
)
def test_a_header_without_a_meaning_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadRequest, match="header x-"):
        parse_context(headers)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**65) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["instances", "inputs", "amount", "visits", "colour", "shop", "name", "data", "shape"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(document=JSON, raw=st.binary(max_size=60))
def test_nothing_but_a_bad_request_ever_comes_out(document: Any, raw: bytes) -> None:
    bodies = (json.dumps(document).encode(), json.dumps({"instances": [document]}).encode(), raw)
    outcomes = [_taken_or_refused(parse, body) for parse in (parse_v1, parse_v2) for body in bodies]
    assert len(outcomes) == 6
    assert all(outcomes), "what is taken has at least one instance"


def _taken_or_refused(parse: Callable[[bytes, Any], Any], body: bytes) -> bool:
    try:
        return len(parse(body, FEATURES).instances) > 0
    except BadRequest:
        return True
