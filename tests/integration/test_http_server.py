"""The servers' own HTTP over real sockets: bounds, an answer to everything, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from sluice.http_server import connection
from sluice.http_server.boundary import ErrorLines
from sluice.http_server.server import HttpServer, listen
from tests.support.patience import wait_until

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

OK = b"HTTP/1.1 200"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Says what it got; fails, sleeps and stops in the middle of an answer where the path asks for it."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        body, more = body + message.get("body", b""), message.get("more_body", False)
    if scope["path"] == "/fails":
        raise ZeroDivisionError("one\nline")
    await asyncio.sleep(0.3 if scope["path"] == "/slow" else 0)
    names = [name.decode() for name, _ in scope["headers"]]
    answer = json.dumps({"headers": names, "body": len(body)}).encode() + b" " * (scope["path"] == "/long") * 10_000_000
    length = b"%d" % (len(answer) + (scope["path"] == "/half"))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": answer, "more_body": scope["path"] == "/half"})
    if scope["path"] == "/half":
        raise ValueError


class Running:
    """A server in a thread of this process."""

    def __init__(self) -> None:
        self.refused: list[int] = []
        self.server = HttpServer(app, 3, ErrorLines("test"), lambda status, _: self.refused.append(status))
        self.listener = listen("127.0.0.1", 0)
        self.port: int = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()
        wait_until("it listens", lambda: self.server.started)

    def _serve(self) -> None:
        asyncio.run(self.server.serve(sockets=[self.listener]))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def answer(self, *pieces: bytes) -> bytes:
        """All that comes back until the server hangs up."""
        with self.connect() as client:
            for piece in pieces:
                client.sendall(piece)
            return b"".join(iter(lambda: client.recv(1 << 16), b""))

    def end(self) -> float:
        """Seconds that it took to end."""
        start = time.monotonic()
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()
        return time.monotonic() - start


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(connection, "LINGER_S", 0.3)
    server = Running()
    yield server
    server.end()


def head(path: str = "/", *more: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: x", *more, "", ""]).encode()


LAST = head("/", "connection: close")
CHUNKED = head("/", "transfer-encoding: chunked", "connection: close", method="POST")


def many(n: int, name: str = "a") -> bytes:
    return b"".join(b"%s%d: b\r\n" % (name.encode(), i) for i in range(n))


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(head()[:-2] + many(100_000) + b"\r\n", id="100,000 headers"),
        pytest.param(head()[:-2] + many(201) + b"\r\n", id="one too many"),
        pytest.param(head("/", "a: " + "b" * 70_000), id="a long header"),
        pytest.param(head("/", *(f"a{i}: {'b' * 700}" for i in range(99))), id="many that are long together"),
        pytest.param(head("/" + "a" * 70_000), id="a long path"),
        pytest.param(b"GET / HTTP/1.1\r\na: " + b"b" * 5_000_000, id="a header that does not end"),
        pytest.param(b"\r\n" * 100_000, id="lines without a request"),
        pytest.param(CHUNKED + b"1\r\nx\r\n0\r\n" + many(100_000) + b"\r\n", id="100,000 trailers"),
        pytest.param(CHUNKED + b"1;" + b"e" * 5_000_000 + b"\r\nx\r\n0\r\n\r\n", id="an endless extension of a chunk"),
    ],
)
def test_a_head_has_bounds_and_the_server_goes_on(running: Running, request_bytes: bytes) -> None:
    start = time.monotonic()
    answer = running.answer(request_bytes)
    assert answer.startswith(b"HTTP/1.1 431"), answer[:200]
    assert b"send fewer" in answer
    assert b"connection: close" in answer
    assert running.answer(LAST).startswith(OK)
    assert time.monotonic() - start < 20


def test_what_gateways_send_passes(running: Running) -> None:
    usual = head("/", *(f"x-{i}: {'v' * 200}" for i in range(150)), "connection: close", method="POST")
    body = b"content-length: 300000\r\n\r\n" + b"b" * 300_000
    answer = running.answer(usual[:-2] + body)
    assert answer.startswith(OK)
    assert answer.endswith(b'"body": 300000}')


def test_answers_do_not_wait_for_more(running: Running) -> None:
    with running.connect() as client:
        client.sendall(head())
        client.recv(1 << 16)
        [ours] = [each.transport.get_extra_info("socket") for each in running.server.server_state.connections]
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_trailers_are_no_headers(running: Running) -> None:
    answer = running.answer(CHUNKED, b"3\r\nabc\r\n", b"0\r\nx-sluice-route: candidate\r\n\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {
        "headers": ["host", "transfer-encoding", "connection"],
        "body": 3,
    }


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
        CHUNKED + b"zz\r\n",
    ],
)
def test_what_is_no_http_is_told_so(running: Running, request_bytes: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    answer = running.answer(request_bytes)
    assert answer.startswith(b"HTTP/1.1 400"), answer[:200]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"].count(";") == 1
    assert running.answer(LAST).startswith(OK)
    assert capfd.readouterr().err == ""


def test_who_was_asked_before_nonsense_is_answered(running: Running) -> None:
    assert running.answer(head("/slow") + b"\x00nonsense").startswith(OK)


def test_an_upgrade_that_nobody_speaks_is_a_request_as_any_other(running: Running) -> None:
    upgrade = head("/", "connection: upgrade", "upgrade: h2c")
    answer = running.answer(upgrade + upgrade + LAST)
    assert answer.count(OK) == 3
    assert running.answer(head("/", "connection: upgrade", "upgrade: websocket") + LAST).count(OK) == 2


@pytest.mark.parametrize("sent", [b"GET / HT", head("/", "content-length: 9", method="POST") + b"half"])
def test_a_request_that_does_not_arrive_is_given_up(
    running: Running, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "READ_S", 0.3)
    assert running.answer(sent).startswith(b"HTTP/1.1 408")
    assert not running.server.server_state.tasks


def test_a_connection_without_a_request_is_closed(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    running.server.config.timeout_keep_alive = 0
    assert running.answer() == b""


def test_whoever_reads_no_answer_is_cut_off(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "READ_S", 0.3)
    with running.connect() as client:
        client.sendall(head("/long") * 3)
        wait_until("it is let go", lambda: not running.server.server_state.connections)
    assert running.answer(LAST).startswith(OK)


def test_a_failure_is_one_line_and_the_connection_goes_on(running: Running, capfd: pytest.CaptureFixture[str]) -> None:
    client = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    client.connect()
    client.auto_open = 0
    statuses = []
    for path in ("/fails", "/", "/fails", "/"):
        client.request("POST", path, b"{}")
        response = client.getresponse()
        statuses.append((response.status, b"Zero" in response.read(), response.getheader("connection")))
    client.close()
    assert statuses == [(500, False, None), (200, False, None)] * 2
    lines = capfd.readouterr().err.splitlines()
    assert [line.startswith("test: ZeroDivisionError: one line (test_http_server.py:") for line in lines] == [True] * 2


def test_failures_do_not_flood_the_log(running: Running, capfd: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    assert running.answer(head("/fails") * 300 + LAST).count(b"HTTP/1.1 500") == 300
    assert len(capfd.readouterr().err.splitlines()) <= 10 * (2 + time.monotonic() - start)


def test_an_answer_that_breaks_off_does_not_look_whole(running: Running) -> None:
    with running.connect() as client:
        client.sendall(head("/half"))
        response = http.client.HTTPResponse(client)
        response.begin()
        with pytest.raises(http.client.IncompleteRead):
            response.read()


def test_who_leaves_in_the_middle_is_not_mourned(running: Running, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        with running.connect() as client:
            client.sendall(head("/", "content-length: 9", method="POST") + b"half")
    assert running.answer(LAST).startswith(OK)
    wait_until("they are gone", lambda: not running.server.server_state.tasks)
    assert capfd.readouterr().err == ""


def ask_until_told(port: int, path: str, pause_s: float, answers: Counter[int], results: list[Any]) -> None:
    """One request after the other on one connection, until an answer says that it is the last; counts answers."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        while True:
            client.request("GET", path)
            response = client.getresponse()
            response.read()
            answers[threading.get_ident()] += 1
            if response.getheader("connection") == "close":
                break
            time.sleep(pause_s)
    except (OSError, http.client.HTTPException) as error:
        results.append(error)
    else:
        results.append("told")
    client.close()


@pytest.mark.parametrize(("path", "pause_s"), [("/", 0), ("/", 0.05), ("/", 0.2), ("/slow", 0)])
def test_the_end_loses_no_request_of_a_busy_connection(path: str, pause_s: float) -> None:
    running, answers, results = Running(), Counter[int](), list[Any]()
    asking = running.port, path, pause_s, answers, results
    clients = [threading.Thread(target=ask_until_told, args=asking) for _ in range(16)]
    for client in clients:
        client.start()
    wait_until("all are busy", lambda: min(counts := [*answers.values()], default=0) > 1 and len(counts) == 16)
    took = running.end()
    for client in clients:
        client.join(30)
    assert results == ["told"] * 16
    assert took < 20


def test_the_end_answers_whoever_waits_to_be_accepted() -> None:
    running = Running()
    loop = running.server.servers[0].get_loop()
    busy = threading.Event()
    loop.call_soon_threadsafe(loop.remove_reader, running.listener.fileno())  # as when it is too busy to accept
    loop.call_soon_threadsafe(busy.set)
    assert busy.wait(20)
    clients = [running.connect() for _ in range(8)]
    for client in clients:
        client.sendall(head())
    running.server.should_exit = True
    answers = [client.recv(1 << 16) for client in clients]
    assert [answer.startswith(OK) for answer in answers] == [True] * 8
    running.end()
    for client in clients:
        client.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", head("/", "content-length: 9", method="POST") + b"half"])
def test_the_end_comes_whatever_clients_do(sent: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    running = Running()
    with running.connect() as client, running.connect() as idle:
        client.sendall(sent)
        idle.sendall(head())
        idle.recv(1 << 16)
        wait_until("both are there", lambda: len(running.server.server_state.connections) == 2)
        assert running.end() < 20
    assert capfd.readouterr().err == ""
