"""A preview is asked the requests of a file, on its own host, while there is one."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice.monitoring.preview_checks import main


class Gateway(http.server.BaseHTTPRequestHandler):
    """Answers 500 to one of the requests, and remembers host and path."""

    asked: list[tuple[str, str]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append((self.headers["host"], self.path))
        self.send_response(500 if body["instances"] == [3] else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Not on standard error."""


@pytest.fixture
def gateway() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    Gateway.asked = []
    with http.server.HTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", Gateway.asked
        server.shutdown()
        thread.join()


def _arguments(folder: Path, gateway: str, stage: str = "preview", lines: str = "") -> list[str]:
    values = {"stage": stage, "task": "tiny", "host": "tiny.example.com", "requests.jsonl": lines}
    for name, text in values.items():
        (folder / name).write_text(text)
    options = {"environment": folder, "release": folder, "requests": folder / "requests.jsonl"}
    return [f"--gateway={gateway}", *(f"--{key}={value}" for key, value in options.items())]


LINES = "".join(f'{{"instances": [{number}]}}\n' for number in range(5))


def test_each_line_is_asked_of_the_preview_host(
    gateway: tuple[str, list[tuple[str, str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, asked = gateway
    assert main(_arguments(tmp_path, url, lines=LINES)) == 0
    assert asked == [("preview-tiny.example.com", "/v1/models/tiny:predict")] * 5
    assert json.loads(capsys.readouterr().out) == {"stage": "preview", "asked": 5, "answers": {"200": 4, "500": 1}}


def test_nothing_is_asked_in_another_stage(
    gateway: tuple[str, list[tuple[str, str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, asked = gateway
    assert main(_arguments(tmp_path, url, "canary", LINES)) == 0
    assert not asked
    assert json.loads(capsys.readouterr().out)["stage"] == "canary"


@pytest.mark.parametrize(
    ("lines", "code", "says"),
    [
        ("", 2, "holds no request"),
        (LINES + "[1]\n", 2, "requests.jsonl, line 6: is no JSON object"),
        (LINES + "{\n", 2, "requests.jsonl, line 6: is no JSON object"),
        (LINES, 1, "http://127.0.0.1:1: does not answer"),
    ],
)
def test_what_cannot_be_asked_is_named_in_one_line(
    lines: str, code: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_arguments(tmp_path, "http://127.0.0.1:1", lines=lines)) == code
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
