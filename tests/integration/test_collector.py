"""Real servers, a real collector, real stores: what was answered is stored once, whoever is killed meanwhile."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sluice.feedback.batch import Batch
from sluice.predictions.log import PredictionRecord, is_sampled
from sluice.workspace import bundle_directory
from tests.support.collector import Post, answer_to_a_slow_sender, call, free_port, metric, post_in, predict
from tests.support.patience import wait_until
from tests.support.servers import running, s3_server
from tests.support.tiny_bundle import tiny_rows, write_tiny_bundle


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    with post_in(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The endpoint of an S3 protocol server with one bucket."""
    with running(s3_server()) as server:
        assert call(f"127.0.0.1:{server.port}", "PUT", "/predictions")[0] == 200
        yield f"http://127.0.0.1:{server.port}"


def test_what_a_server_answers_is_in_the_store_whole(post: Post) -> None:
    post.start_collector()
    _, address, digest = post.start_server()
    row = {"amount": None, "visits": 4, "colour": "red"}
    told = {"time": "2013-08-01T05:10:00Z", "route": "shadow", "rollout": "r0003"}
    assert predict(address, "order-7", [row], **told) == 200
    assert predict(address, "pair", [row, row]) == 200
    wait_until("all are stored", lambda: post.rows().height == 3, progress=lambda: post.rows().height)
    (stored,) = post.rows().filter(request_id="order-7").to_dicts()
    assert json.loads(stored["features"]) == row
    assert (stored["route"], stored["rollout"], stored["digest"], stored["missing"]) == ("shadow", "r0003", digest, 1)
    assert stored["event_time"].isoformat() == "2013-08-01T05:10:00+00:00"
    assert metric(address, "sluice_prediction_log_sent_total") == 3
    assert metric(address, "sluice_prediction_log_dropped_total") == 0
    assert metric(f"127.0.0.1:{post.port}", "sluice_collected_predictions_total") == 3
    wait_until("nothing waits", lambda: post.spooled() == 0, progress=post.spooled)


def test_every_request_is_stored_once_though_both_are_killed(post: Post) -> None:
    post.start_collector()
    server, address, _ = post.start_server()
    answered = []
    rows = tiny_rows(40)
    for number in range(240):
        if number in {60, 150}:
            assert post.collector is not None
            os.kill(post.collector.pid, signal.SIGKILL)
        if number == 110:
            post.start_collector()
        if number == 180:
            os.kill(server.pid, signal.SIGKILL)
            server, address, _ = post.start_server()
        if predict(address, f"q{number}", [rows[number % 40]]) == 200:
            answered.append(f"q{number}")
        time.sleep(0.02)
    post.start_collector()
    wait_until("all are stored", lambda: post.rows().height >= len(answered), progress=lambda: post.rows().height)
    assert Counter(post.rows()["request_id"]) == Counter(answered)
    assert len(answered) == 240


def test_what_a_collector_refuses_is_counted_and_holds_up_nothing(post: Post) -> None:
    (post.home / "spool").mkdir()
    left = post.home / "spool" / "20260101T000000Z-0-000000.jsonl"
    left.write_bytes(b'{"request_id": "of another version"}\n{"request_id": "cut sho')
    post.start_collector()
    _, address, _ = post.start_server()
    assert predict(address, "q", tiny_rows(1)) == 200
    wait_until("it is stored", lambda: post.rows()["request_id"].to_list() == ["q"])
    assert metric(address, "sluice_prediction_log_dropped_total") == 1
    wait_until("nothing waits", lambda: not left.exists() and post.spooled() == 0, progress=post.spooled)


def test_a_batch_that_is_sent_again_later_and_to_another_collector_is_stored_once(post: Post) -> None:
    record = PredictionRecord("q", datetime.now(UTC), "stable", "", "sha256:" + "a" * 64, 0.5, 200, 1.0, {}, [], [], {})
    body = record.line()
    path = f"/v1/predictions/{Batch.of(datetime.now(UTC), body).name}"
    for _ in range(2):
        post.start_collector()
        assert call(f"127.0.0.1:{post.port}", "PUT", path, body) == (200, b'{"stored":1}')
        post.port = free_port()
        time.sleep(1.1)
    assert post.rows()["request_id"].to_list() == ["q"]


def test_a_server_that_ends_sends_what_it_has(post: Post) -> None:
    post.start_collector()
    server, address, _ = post.start_server()
    for number in range(20):
        assert predict(address, f"q{number}", tiny_rows(1)) == 200
    assert server.stop() == "SIGTERM"
    assert post.rows().height == 20
    assert post.spooled() == 0


def test_a_sink_that_hangs_costs_no_answer_and_bounded_disk(post: Post) -> None:
    with socket.create_server(("127.0.0.1", post.port)):  # accepts and never answers
        _, address, _ = post.start_server(0.5, "--spool_bytes", "20000")
        for number in range(100):
            assert predict(address, f"q{number}", tiny_rows(1)) == 200
        dropped = metric(address, "sluice_prediction_log_dropped_total")
        assert 0 < dropped < 100
        assert post.spooled() <= 20000
        assert metric(address, "sluice_prediction_log_spooled_bytes") == post.spooled()
    post.start_collector()
    wait_until("the rest is stored", lambda: post.rows().height == 100 - dropped, progress=lambda: post.rows().height)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--collector", "http://127.0.0.1:9"], "needs --spool"),
        (["--collector", "http://127.0.0.1:9", "--spool", "s", "--log", "l"], "no --log"),
        (["--collector", "collector:8080", "--spool", "s"], "not http://host:port"),
        (["--collector", "http://127.0.0.1:9", "--spool", "s", "--log_percent", "120"], "--log_percent: is 120"),
        (["--collector", "http://127.0.0.1:9", "--spool", "/proc/nowhere"], "cannot be written"),
    ],
)
def test_a_server_that_could_not_ship_does_not_start(tmp_path: Path, more: list[str], says: str) -> None:
    digest = write_tiny_bundle(tmp_path / "bundles")
    command = [sys.executable, "-m", "sluice_serving.predictor", "--digest", digest, "--model_name", "tiny"]
    command += ["--bundle", str(bundle_directory(tmp_path / "bundles", digest)), "--http_port", "0", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_both_sides_keep_the_same_requests(post: Post) -> None:
    post.start_collector()
    sides = [post.start_server(limit, "--log_percent", "30", spool=f"spool-{limit}") for limit in (0.5, 0.4)]
    ids = [f"q{number}" for number in range(60)]
    for name in ids:
        for _, address, _ in sides:
            assert predict(address, name, tiny_rows(2)) == 200
    wanted = {f"{name}#{row}" for name in ids if is_sampled(name, 30) for row in (0, 1)}
    assert 10 < len(wanted) < 60
    wait_until("all are stored", lambda: post.rows().height == 2 * len(wanted), progress=lambda: post.rows().height)
    rows = post.rows()
    for _, _, digest in sides:
        assert set(rows.filter(digest=digest)["request_id"]) == wanted


def test_s3_is_a_store_too_and_its_absence_loses_nothing(
    tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (settings | {"AWS_ENDPOINT_URL": s3}).items():
        monkeypatch.setenv(name, value)
    with post_in(tmp_path, "s3://predictions/nowhere-yet") as post:
        post.start_collector()
        _, address, _ = post.start_server()
        for number in range(10):
            assert predict(address, f"q{number}", tiny_rows(1)) == 200
        wait_until("all are stored", lambda: post.rows().height == 10, progress=lambda: post.rows().height)
        label = json.dumps({"labels": [{"request_id": "q1", "label": 1}]}).encode()
        assert call(f"127.0.0.1:{post.port}", "POST", "/v1/feedback", label) == (200, b'{"stored":1}')
        assert post.rows("labels")["request_id"].to_list() == ["q1"]
    with post_in(tmp_path / "b", "s3://no-such-bucket/x") as post:
        post.start_collector()
        status, said = call(f"127.0.0.1:{post.port}", "POST", "/v1/feedback", label)
        assert status == 503
        assert b"cannot be written" in said
        assert b"bucket does not exist" in said


def test_labels_that_come_at_once_are_all_answered_when_stored(post: Post) -> None:
    post.start_collector()
    answers: list[int] = []

    def send(number: int) -> None:
        body = {"labels": [{"request_id": f"q{number}", "label": number % 2, "reward": 0.5}]}
        answers.append(call(f"127.0.0.1:{post.port}", "POST", "/v1/feedback", json.dumps(body).encode())[0])

    threads = [threading.Thread(target=send, args=[number]) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 12
    assert set(post.rows("labels")["request_id"]) == {f"q{number}" for number in range(12)}
    assert len(post.store().batches("labels", post.rows("labels")["received"][0])) < 12
    assert metric(f"127.0.0.1:{post.port}", "sluice_feedback_total") == 12
    assert metric(f"127.0.0.1:{post.port}", "sluice_feedback_reward_total") == 6


def test_senders_cannot_make_series(post: Post) -> None:
    post.start_collector()
    address = f"127.0.0.1:{post.port}"

    def series() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for line in call(address, "GET", "/metrics")[1].decode().splitlines():
            if not line.startswith("#") and "_created" not in line:
                found.setdefault(line.partition("{")[0], []).append(line.partition("{")[2].rpartition("}")[0])
        return found

    zeros = series()["sluice_collector_requests_total"]
    assert len(zeros) == len([line for line in zeros if 'task="tiny"' in line]) == 4, "there before the first request"
    digests = [f"sha256:{number:064x}" for number in range(30)]
    for number, digest in enumerate(digests):
        line = PredictionRecord(
            f"q{number}", datetime.now(UTC), "stable", "", digest, 0.5, 200, 1.0, {}, [], [], {}
        ).line()
        batch = Batch.of(datetime.now(UTC), line)
        assert call(address, "PUT", f"/v1/predictions/{batch.name}", line)[0] == 200
        call(address, "POST", f"/v1/{number}", line)
        call(address, "PATCH", f"/metrics/{number}")
        call(address, "PUT", f"/v1/predictions/{number}", line)
    labels = [{"request_id": f"q{i}", "label": 1, "reward": 1, "digest": digest} for i, digest in enumerate(digests)]
    labels.append({"request_id": "q", "label": 0})
    assert call(address, "POST", "/v1/feedback", json.dumps({"labels": labels}).encode())[0] == 200
    assert call(address, "POST", "/v1/feedback", b"{}")[0] == 400
    found = {name: len(each) for name, each in series().items()}
    assert found == {
        "sluice_collected_predictions_total": 20,
        "sluice_feedback_total": 20 + 2,
        "sluice_feedback_reward_total": 20 + 2,
        "sluice_collector_requests_total": 4 + 4,
    }
    assert metric(address, "sluice_feedback_total") == 31, "of digests that nobody knows any more, as one"


def test_kserves_logger_may_send_what_it_carries(post: Post) -> None:
    post.start_collector()
    digest = "sha256:" + "a" * 64
    headers = {"ce-id": "e1", "ce-specversion": "1.0", "ce-type": "org.kubeflow.serving.inference.response"}
    body = json.dumps({"predictions": [{"score": 0.5, "positive": True, "digest": digest}]}).encode()
    for _ in range(2):
        assert call(f"127.0.0.1:{post.port}", "POST", "/v1/events", body, headers) == (200, b'{"stored":1}')
    assert post.rows().select("request_id", "score", "digest").unique().rows() == [("e1", 0.5, digest)]
    assert call(f"127.0.0.1:{post.port}", "POST", "/v1/events", body)[0] == 400


GOOD = {"request_id": "q", "label": 1}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("POST", "/v1/feedback", b"", 400, "is not JSON"),
        ("POST", "/v1/feedback", b"[1]", 400, "body"),
        ("POST", "/v1/feedback", b"[" * 100_000, 400, "is not JSON"),
        ("POST", "/v1/feedback", b'{"labels": []}', 400, "labels"),
        ("POST", "/v1/feedback", json.dumps({"labels": [GOOD | {"label": 2}]}).encode(), 400, "labels.0.label"),
        ("POST", "/v1/feedback", json.dumps({"labels": [GOOD, {"label": 1}]}).encode(), 400, "labels.1.request_id"),
        ("POST", "/v1/feedback", json.dumps({"labels": [GOOD | {"label_time": "soon"}]}).encode(), 400, "label_time"),
        ("POST", "/v1/feedback", json.dumps({"labels": [GOOD | {"label_time": "2020-01-01"}]}).encode(), 400, "zone"),
        ("POST", "/v1/feedback", json.dumps({"labels": [GOOD | {"reward": "1"}]}).encode(), 400, "reward"),
        ("POST", "/v1/feedback", json.dumps({"labels": [GOOD | {"more": 1}]}).encode(), 400, "more"),
        ("POST", "/v1/feedback", json.dumps({"labels": [GOOD] * 1001}).encode(), 400, "labels"),
        ("POST", "/v1/feedback", b" " * (2 << 20), 413, "is larger than"),
        ("PUT", "/v1/predictions/today", b"{}", 400, "batch 'today'"),
        ("PUT", "/v1/predictions/20261321T000000Z-" + "0" * 64, b"{}", 400, "batch"),
        ("PUT", "/v1/predictions/20261121T000000Z-" + "0" * 64, b"{}", 400, "is not what the batch's name says"),
        ("POST", "/v1/predictions/x", b"", 404, "is not one of"),
        ("GET", "/../../etc/passwd", b"", 404, "is not one of"),
    ],
)
def test_what_is_wrong_is_refused_with_the_reason(
    refusing: Post, *, method: str, path: str, body: bytes, status: int, says: str
) -> None:
    found, said = call(f"127.0.0.1:{refusing.port}", method, path, body)
    assert (found, says in json.loads(said)["error"]) == (status, True), said
    assert refusing.rows().is_empty()
    assert refusing.rows("labels").is_empty()


def test_a_batch_that_is_too_large_is_refused_before_it_is_sent(refusing: Post) -> None:
    connection = http.client.HTTPConnection(f"127.0.0.1:{refusing.port}", timeout=20)
    connection.putrequest("PUT", "/v1/predictions/20261121T000000Z-" + "0" * 64)
    connection.putheader("content-length", str(9 << 20))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, b"is larger than" in answer.read()) == (413, True)
    connection.close()


def test_a_head_without_bounds_is_refused_and_counted(refusing: Post) -> None:
    address, headers = f"127.0.0.1:{refusing.port}", {f"x-{number}": "y" for number in range(20_000)}
    assert call(address, "POST", "/v1/feedback", b"{}", headers)[0] == 431
    counts = call(address, "GET", "/metrics")[1].decode()
    assert 'sluice_collector_requests_total{endpoint="other",status="431",task="tiny"} 1.0' in counts


def test_a_sender_who_writes_first_and_reads_then_sees_the_refusal(refusing: Post) -> None:
    assert answer_to_a_slow_sender(f"127.0.0.1:{refusing.port}", "POST", "/v1/feedback", 2 << 20) == 413
    assert answer_to_a_slow_sender(f"127.0.0.1:{refusing.port}", "POST", "/v1/nothing", 2 << 20) == 404


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    with post_in(tmp_path_factory.mktemp("refusing")) as found:
        found.start_collector()
        yield found
        assert found.collector is not None
        assert found.collector.alive
