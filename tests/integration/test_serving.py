"""The real server on a real bundle: it answers as offline, refuses what is wrong, and lives on."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sluice.child_process import ChildServer
from sluice.models.bundle import Bundle, load_bundle
from sluice.models.request import columns_of
from sluice.predictions.log import read_lines
from sluice.workspace import bundle_directory
from tests.support.collector import answer_to_a_slow_sender
from tests.support.patience import url_of
from tests.support.tiny_bundle import FEATURES, tiny_rows, write_tiny_bundle

PREDICTOR = ("-m", "sluice_serving.predictor")
V1, V2 = "/v1/models/tiny:predict", "/v2/models/tiny/infer"
JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Served:
    bundle: Bundle
    address: str
    log: Path
    output: Path

    def text(self, path: str) -> str:
        connection = http.client.HTTPConnection(self.address, timeout=20)
        connection.request("GET", path)
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def refused(self) -> float:
        """Instances, by its own count."""
        lines = self.text("/metrics").splitlines()
        return sum(float(line.split()[1]) for line in lines if line.startswith("sluice_requests_refused_total{"))

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] = JSON) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self.address, timeout=20)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("serving")
    digest = write_tiny_bundle(home / "bundles")
    directory = bundle_directory(home / "bundles", digest)
    command = [sys.executable, *PREDICTOR, "--bundle", str(directory), "--digest", digest]
    command += ["--model_name", "tiny", "--http_port", "0", "--log", str(home / "log" / "p.jsonl")]
    child = ChildServer(command, home / "server.log")
    try:
        url = url_of(child)
        yield Served(load_bundle(directory, digest), urlsplit(url).netloc, home / "log", home / "server.log")
    finally:
        assert child.stop() == "SIGTERM"


def instances(*rows: Any) -> bytes:
    return json.dumps({"instances": rows}).encode()


def test_v1_and_v2_answer_as_the_offline_model(served: Served) -> None:
    rows = tiny_rows(40)
    offline = served.bundle.predict(columns_of(rows, FEATURES.names)).tolist()
    status, first = served.ask("POST", V1, instances(*rows))
    assert status == 200
    assert [answer["score"] for answer in first["predictions"]] == pytest.approx(offline, abs=1e-9)
    assert [answer["positive"] for answer in first["predictions"]] == [score >= 0.5 for score in offline]
    assert {answer["digest"] for answer in first["predictions"]} == {served.bundle.digest}
    kinds = {"amount": "FP64", "visits": "INT64", "colour": "BYTES"}
    tensors = [
        {"name": name, "datatype": kind, "shape": [40, 1], "data": [row[name] for row in rows]}
        for name, kind in kinds.items()
    ]
    status, second = served.ask("POST", V2, json.dumps({"id": "q", "inputs": tensors}).encode())
    assert (status, second["id"], second["parameters"]["digest"]) == (200, "q", served.bundle.digest)
    assert second["outputs"][0]["data"] == pytest.approx(offline, abs=1e-9)
    wanted = [{"name": "positive"}]
    _, third = served.ask("POST", V2, json.dumps({"inputs": tensors, "outputs": wanted}).encode())
    assert third["outputs"] == [second["outputs"][1]]


def test_the_server_says_what_it_serves(served: Served) -> None:
    assert served.ask("GET", "/-/sluice")[1]["digest"] == served.bundle.digest
    assert served.ask("GET", f"/-/serves/{served.bundle.digest}")[0] == 200
    assert served.ask("GET", "/-/serves/sha256:" + "0" * 64)[0] == 409
    assert served.ask("GET", "/v2/health/ready") == (200, {"ready": True})
    assert served.ask("GET", "/v1/models/tiny") == (200, {"name": "tiny", "ready": True})
    inputs = served.ask("GET", "/v2/models/tiny")[1]["inputs"]
    assert [each["name"] for each in inputs] == list(FEATURES.names)


def test_it_listens_on_loopback_only(served: Served) -> None:
    # 127.0.0.2 is this machine too: who listens on 0.0.0.0, as kserve does by itself, answers there.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", int(served.address.rpartition(":")[2])), timeout=2)


def test_predictions_are_logged_before_they_are_answered(served: Served) -> None:
    headers = {"x-request-id": "order-7", "x-sluice-time": "2013-08-01T05:10:00Z", "x-sluice-route": "shadow"}
    row = {"amount": None, "visits": 4, "colour": "red"}
    _, answer = served.ask("POST", V1, instances(row), JSON | headers | {"x-sluice-rollout": "r0003"})
    (line,) = [line for line in read_lines(served.log, {}) if line["request_id"] == "order-7"]
    assert line["score"] == answer["predictions"][0]["score"]
    told = {key: line[key] for key in ("event_time", "route", "rollout", "status", "features", "missing", "digest")}
    assert told == {
        "event_time": "2013-08-01T05:10:00Z",
        "route": "shadow",
        "rollout": "r0003",
        "status": 200,
        "features": row,
        "missing": ["amount"],
        "digest": served.bundle.digest,
    }
    served.ask("POST", V1, instances(row, row), JSON | {"x-request-id": "pair"})
    assert {"pair#0", "pair#1"} <= {line["request_id"] for line in read_lines(served.log, {})}


def test_what_is_refused_is_logged_and_counted_row_by_row(served: Served) -> None:
    headers = JSON | {"x-sluice-route": "shadow", "x-sluice-rollout": "r0003", "x-sluice-time": "2013-08-01T05:10:00Z"}
    good = {"amount": None, "visits": 4, "colour": "red"}
    served.ask("POST", V1, instances(good, good | {"visits": None}, KEYED), headers | {"x-request-id": "batch"})
    served.ask("POST", V1, b"{", headers | {"x-request-id": "torn"})
    served.ask("POST", V1, b"{", headers | {"x-request-id": "lost", "x-sluice-route": "nowhere"})
    lines = {line["request_id"]: line for line in read_lines(served.log, {}) if line["status"] == 400}
    assert {"batch#0", "batch#1", "batch#2", "torn"} <= lines.keys()
    assert "lost" not in lines
    told = {key: lines["batch#2"][key] for key in ("event_time", "route", "rollout", "digest", "score", "keys")}
    assert told == {
        "event_time": "2013-08-01T05:10:00Z",
        "route": "shadow",
        "rollout": "r0003",
        "digest": served.bundle.digest,
        "score": None,
        "keys": {},
    }
    counts = [line for line in served.text("/metrics").splitlines() if 'route="shadow",status="4xx"' in line]
    assert [line.rpartition(" ")[2] for line in counts] == ["4.0"]


GOOD = {"amount": 1.5, "visits": 3, "colour": "red"}
KEYED = {"shop": "oak", "amount": 2.0}
TEXT = {"content-type": "text/plain"}
DEEP = b"[" * 966 + b"]" * 966
EVENT = {"ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-specversion": "1.0"}
BINARY = {"content-type": "application/octet-stream", "inference-header-content-length": "x"}
HOSTILE: list[tuple[str, bytes, dict[str, str], int]] = [
    (V1, b"", JSON, 400),
    (V1, b"{", JSON, 400),
    (V1, b"null", JSON, 400),
    (V1, b"[1, 2]", JSON, 400),
    (V1, b"\xff\xfe\x00", JSON, 400),
    (V1, b"[" * 100_000, JSON, 400),
    (V1, b'{"instances": null}', JSON, 400),
    (V1, b'{"instances": []}', JSON, 400),
    (V1, b'{"instances": [[1, 2, 3]]}', JSON, 400),
    (V1, b'{"instances": [{}]}', JSON, 400),
    (V1, b'{"instances": [{"amount": NaN, "visits": 1, "colour": "x"}]}', JSON, 400),
    (V1, b'{"instances": [{"amount": Infinity, "visits": 1, "colour": "x"}]}', JSON, 400),
    (V1, b'{"instances": [{"amount": 1e999, "visits": 1, "colour": "x"}]}', JSON, 400),
    (V1, instances({**GOOD, "more": 1}), JSON, 400),
    (V1, instances({"amount": 1, "visits": 1}), JSON, 400),
    (V1, instances({**GOOD, "amount": "1"}), JSON, 400),
    (V1, instances({**GOOD, "amount": {"$gt": 0}}), JSON, 400),
    (V1, instances({**GOOD, "visits": 1.5}), JSON, 400),
    (V1, instances({**GOOD, "visits": 10**30}), JSON, 400),
    (V1, instances({**GOOD, "colour": ["red"]}), JSON, 400),
    (V1, instances({**GOOD, "colour": "x" * 100_000}), JSON, 400),
    (V1, instances(KEYED), JSON, 400),
    (V1, instances(GOOD, KEYED), JSON, 400),
    (V1, instances(*[GOOD] * 1001), JSON, 400),
    (V1, b" " * (1 << 20) + b"{}", JSON, 413),
    (V1, instances(GOOD), TEXT, 415),
    (V1, instances(GOOD), {}, 415),
    (V1, instances(GOOD), TEXT | EVENT, 415),
    (V1, instances(GOOD), BINARY, 415),
    (V1, json.dumps({"inputs": []}).encode(), JSON, 400),
    (V1, instances(GOOD), JSON | {"x-sluice-time": "soon"}, 400),
    (V1, instances(GOOD), JSON | {"x-sluice-route": "nowhere"}, 400),
    (V1, instances(GOOD), JSON | {"x-request-id": "i" * 1000}, 400),
    (V2, instances(GOOD), JSON, 400),
    (V2, b'{"inputs": [{"name": "amount", "datatype": "FP64", "shape": [2], "data": [1]}]}', JSON, 400),
    (V2, b'{"inputs": [{"name": "amount", "datatype": "FP64", "shape": [-1], "data": []}]}', JSON, 400),
    (V2, b'{"inputs": [{"name": 1, "datatype": [], "shape": {}, "data": 3}]}', JSON, 400),
    (V2, b'{"inputs": [{"name": "odd", "datatype": "FP64", "shape": [1], "data": [1]}]}', JSON, 400),
    (V1, b'{"instances": [{"amount": %s, "visits": 1, "colour": "x"}]}' % DEEP, JSON, 400),
    (V1, DEEP, JSON, 400),
    (V2, b'{"inputs": [{"name": "amount", "datatype": "FP64", "shape": %s, "data": []}]}' % DEEP, JSON, 400),
    (V2, b"\x00" * 64, BINARY, 415),
    (V1, instances(GOOD), JSON | {f"x-{i}": "y" for i in range(20_000)}, 431),
    (V1, instances(GOOD), JSON | {"cookie": "c" * 100_000}, 431),
    ("/v1/models/other:predict", instances(GOOD), JSON, 404),
    (f"/v1/models/{'o' * 5000}:predict", instances(GOOD), JSON, 404),
    ("/v1/models/tiny:explain", instances(GOOD), JSON, 405),
    ("/v2/models/tiny/versions/1/infer", instances(GOOD), JSON, 404),
    ("/v2/repository/models/tiny/unload", b"", JSON, 404),
]


def test_whatever_a_client_sends_is_its_own_fault_and_the_server_lives(served: Served) -> None:
    before, refused = served.ask("GET", "/-/sluice")[1], served.refused()
    for path, body, headers, expected in HOSTILE:
        status, answer = served.ask("POST", path, body, headers)
        assert status == expected, (path, body[:80], headers, answer)
        assert len(json.dumps(answer)) < 600
        assert answer["error"].count(";") >= 1, answer
    after = served.ask("GET", "/-/sluice")[1]
    assert (after["failed"], after["answered"], after["pid"]) == (0, before["answered"], before["pid"])
    assert served.ask("POST", V1, instances(GOOD))[0] == 200
    assert served.refused() - refused == len(HOSTILE) + 1  # GOOD and KEYED are two rows
    assert served.ask("GET", "/wp-admin")[0] == 404
    assert served.refused() - refused == len(HOSTILE) + 1  # it asks for no score
    assert "other" not in served.text("/metrics").replace('route="other"', "")
    assert "Traceback" not in served.output.read_text()


def test_a_body_that_never_ends_is_given_up_early(served: Served) -> None:
    host, port = served.address.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        head = f"POST {V1} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        raw.sendall(head.encode())
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        try:
            for _ in range(1000):
                raw.sendall(chunk)
        except OSError:
            pass  # it hung up, as it should; the answer may be lost with the connection
        else:
            assert raw.recv(64).startswith(b"HTTP/1.1 413")
    assert served.ask("POST", V1, instances(GOOD))[0] == 200


def test_a_sender_who_writes_first_and_reads_then_sees_the_refusal(served: Served) -> None:
    assert answer_to_a_slow_sender(served.address, "POST", V1, 4 << 20) == 413


@pytest.mark.parametrize("name", ["model.tflite", "bundle.json"])
def test_a_flipped_byte_is_refused_by_name(tmp_path: Path, name: str) -> None:
    digest = write_tiny_bundle(tmp_path)
    bundle = bundle_directory(tmp_path, digest)
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    command = [sys.executable, *PREDICTOR, "--bundle", str(bundle), "--digest", digest, "--model_name", "tiny"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert len(ended.stderr.strip().splitlines()) == 1
    assert name in ended.stderr


def test_a_model_that_is_not_ready_fails_what_it_is_asked(tmp_path: Path) -> None:
    """Nobody but us is to blame: no refusal."""
    digest = write_tiny_bundle(tmp_path / "bundles")
    directory = bundle_directory(tmp_path / "bundles", digest)
    command = [sys.executable, "-m", "tests.support.unready_predictor", "--bundle", str(directory), "--digest", digest]
    command += ["--model_name", "tiny", "--http_port", "0", "--log", str(tmp_path / "log" / "p.jsonl")]
    child = ChildServer(command, tmp_path / "server.log")
    try:
        unready = Served(load_bundle(directory, digest), urlsplit(url_of(child)).netloc, tmp_path / "log", tmp_path)
        assert unready.ask("GET", "/v1/models/tiny")[0] == 503
        for path in (V1, V2):
            assert unready.ask("POST", path, instances(GOOD))[0] == 503
        counts = [line for line in unready.text("/metrics").splitlines() if 'status="5xx"' in line]
        assert sum(float(line.rpartition(" ")[2]) for line in counts if "requests_total{" in line) == 2
        assert unready.refused() == 0
    finally:
        child.stop()
    lines = list(read_lines(tmp_path / "log", {}))
    assert [(line["status"], line["score"]) for line in lines] == [(500, None)] * 2  # as any failure of ours
