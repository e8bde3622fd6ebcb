"""`python -m sluice_pipelines.submit` against a server that answers as KFP's API does, and against none."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from sluice_pipelines import submit
from sluice_pipelines.catalogue import CATALOGUE
from sluice_pipelines.submit import main

DIGEST = "sha256:" + "0" * 64
PROMOTION = ["promotion", "-p", "gitops=/r.git", "-p", "bundles=/b", "-p", f"digest={DIGEST}"]

NODES = (
    None,
    "promote-driver(0)",
    "promote-driver",
    "promote(0)",
    "promote",
    "executor(0)",
    "executor",
    "exit-handler-1.onExit",
    "sluice-promotion-bmfw4",
    "sluice-promotion-bmfw4(0)",
    "root",
)
"""Of one step, as KFP 2.17.0 lists a run's tasks."""


class Kfp:
    """What a KFP API server keeps, as far as a submission sees it."""

    def __init__(self) -> None:
        self.versions: list[str] = []
        self.runs: list[dict[str, Any]] = []
        self.recurring: list[dict[str, Any]] = []
        self.uploaded = b""
        self.states = ["RUNNING", "SUCCEEDED"]
        self.refuses = 0
        self.pipelines: list[str] = []
        self.has_pages = True
        self.nodes: tuple[str | None, ...] = NODES

    def answer(  # noqa: PLR0911  one answer a route
        self, method: str, path: str, query: dict[str, list[str]], body: bytes
    ) -> tuple[int, Any]:
        """Status and JSON."""
        route = path.removeprefix("/apis/v2beta1/")
        if route == "healthz":
            return 200, {"multi_user": False}
        if self.refuses:
            return self.refuses, {"error": "no"}
        if route == "pipelines":
            if method == "POST":
                self.pipelines.append(json.loads(body)["name"])
                return 200, {"pipeline_id": "p1"}
            there = [{"pipeline_id": "p1", "display_name": name} for name in self.pipelines]
            return 200, {"pipelines": there, "total_size": len(there)}
        if route == "pipelines/upload_version":
            self.uploaded = body
            self.versions.append(unquote(query["name"][0]))
            return 200, {"pipeline_id": "p1", "pipeline_version_id": self.versions[-1]}
        if route == "pipelines/p1/versions":
            listed = [{"pipeline_version_id": name, "display_name": name} for name in self.versions]
            return 200, {"pipeline_versions": listed}
        if route == "experiments":
            return 200, {"experiment_id": "e1"} if method == "POST" else {"experiments": [{"experiment_id": "e1"}]}
        if route in {"runs", "recurringruns"}:
            kept, key = (self.runs, "run_id") if route == "runs" else (self.recurring, "recurring_run_id")
            kept.append(json.loads(body))
            return 200, {key: f"r{len(kept)}"}
        if re.fullmatch(r"runs/r\d+", route):
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            details = [{"display_name": name, "state": state} for name in self.nodes]
            return 200, {"run_id": "r1", "state": state, "run_details": {"task_details": details}}
        return 404, {"error": f"{method} {path}"}


@pytest.fixture
def kfp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Kfp, str]]:
    """The server and its address."""
    played = Kfp()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, document = played.answer(self.command, parts.path, parse_qs(parts.query), body)
            page = parts.path == "/" and played.has_pages
            status, data = (200, b"<html>") if page else (status, json.dumps(document).encode())
            self.send_response(status)
            self.send_header("content-type", "text/html" if page else "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _answer  # noqa: N815  http.server's names

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    monkeypatch.setattr(submit, "_LOOK_SECONDS", 0.01)
    monkeypatch.setenv("HOME", str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield played, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_run_is_uploaded_once_started_and_followed_to_its_end(
    kfp: tuple[Kfp, str], capsys: pytest.CaptureFixture[str]
) -> None:
    played, host = kfp
    for _ in range(2):
        played.states = ["RUNNING", "SUCCEEDED"]
        assert main([*PROMOTION, "--host", host, "--follow", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("state") for line in lines[:4]] == [None, "RUNNING", "SUCCEEDED", "SUCCEEDED"]
    assert lines[0]["link"] == f"{host}/#/runs/details/r1"
    assert b"Verify a bundle of the store" in played.uploaded
    assert played.pipelines == ["sluice-promotion"]
    (version,) = played.versions
    assert re.fullmatch(r"sluice-promotion-[0-9a-f]{12}", version)
    started = played.runs[0]
    assert started["pipeline_version_reference"] == {"pipeline_id": "p1", "pipeline_version_id": version}
    assert started["runtime_config"]["parameters"] == {"gitops": "/r.git", "bundles": "/b", "digest": DIGEST}


def test_a_run_that_fails_is_exit_code_one_and_names_its_step(
    kfp: tuple[Kfp, str], capsys: pytest.CaptureFixture[str]
) -> None:
    played, host = kfp
    played.states = ["FAILED"]
    assert main([*PROMOTION, "--host", host, "--follow"]) == 1
    assert re.search(r"FAILED\s+promote", capsys.readouterr().err)


def test_a_run_that_a_rule_refused_is_exit_code_three(kfp: tuple[Kfp, str], capsys: pytest.CaptureFixture[str]) -> None:
    played, host = kfp
    played.nodes = (*NODES, "gate", "condition-branches-3", "condition-7", "refused-2")
    played.states = ["RUNNING", "SUCCEEDED"]
    assert main([*PROMOTION, "--host", host, "--follow"]) == 3
    assert "ended: SUCCEEDED, refused: see the note of exit-note" in capsys.readouterr().err


def test_a_host_without_pages_is_told_to_be_none(kfp: tuple[Kfp, str], capsys: pytest.CaptureFixture[str]) -> None:
    played, host = kfp
    played.has_pages = False
    assert main([*PROMOTION, "--host", host]) == 0
    line = capsys.readouterr().out
    assert host not in line
    assert "open /#/runs/details/r1 of the dashboard" in line
    assert "svc/ml-pipeline-ui 8888:80" in line


def test_what_steps_wait_for_is_told_and_a_pod_that_waits_too(
    kfp: tuple[Kfp, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    played, host = kfp
    monkeypatch.setattr(submit, "_PATIENCE_SECONDS", 0.0)
    played.states = ["PENDING", "PENDING", "PENDING", "SUCCEEDED"]
    assert main(["training-gpu", "--host", host, "--follow"]) == 0
    said = capsys.readouterr().err
    need = "compress, train: each waits for a node with 1 nvidia.com/gpu, without a log while none is free; "
    assert f"submit: {need}which there are: kubectl get nodes -l nvidia.com/gpu.present=true\n" in said
    assert said.count("waits for a node: kubectl describe pod -l pipeline/runid=r1") == 1
    played.states = ["SUCCEEDED"]
    assert main([*PROMOTION, "--host", host]) == 0
    assert "waits" not in capsys.readouterr().err


def test_a_recurring_run_is_made_with_its_schedule(kfp: tuple[Kfp, str]) -> None:
    played, host = kfp
    assert main([*PROMOTION, "--host", host, "--recurring", "0 0 3 * * *", "--follow"]) == 0
    assert played.recurring[0]["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    assert played.recurring[0]["no_catchup"] is True
    assert played.runs == []


def test_a_host_that_refuses_is_one_line(kfp: tuple[Kfp, str], capsys: pytest.CaptureFixture[str]) -> None:
    played, host = kfp
    played.refuses = 403
    assert main([*PROMOTION, "--host", host]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "refuses it (status 403" in line


@pytest.mark.parametrize("host", ["http://127.0.0.1:9", "localhost:8888", ""])
def test_a_host_that_is_none_is_one_line(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PROMOTION, "--host", host]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("submit: host ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trainings"], "pipeline 'trainings': is not known"),
        (["training", "-p", "epochs=3"], "parameter epochs: is none of training"),
        (["training", "-p", "epochs"], "-p epochs: has no ="),
        (["training", "-p", "checkpoint_every=often"], "parameter checkpoint_every: is not a whole number"),
        (["training", "-p", "checkpoint_every=0"], "parameter checkpoint_every: Input should be greater"),
        (["training", "-p", "gitops=https://me:word@host/r.git"], "parameter gitops: holds a password"),
        (["training", "--parameters", "/nowhere.json"], "/nowhere.json: cannot be read"),
        (["promotion", "-p", "gitops=/r.git"], "parameter bundles: is missing"),
        (["monitor-and-retrain", "-p", 'limits={"drift": 2}'], "parameter limits: drift"),
        (
            ["training-on-nodes", "-p", "claim=c", "-p", "nodes=0"],
            "parameter nodes: Input should be greater than or equal to 1, got 0",
        ),
        (
            ["training-on-nodes", "-p", "claim=c", "-p", "operator=Job"],
            "parameter operator: Input should be 'TrainJob' or 'TFJob', got 'Job'",
        ),
        (["materialize", "-p", "tables=no"], "parameter tables: is not true or false"),
        (["materialize", "-p", "until=noon"], "time 'noon': is not ISO 8601"),
        (["training", "--recurring", "0 3 * * *"], "--recurring '0 3 * * *': has not six fields"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_sent(
    arguments: list[str], said: str, kfp: tuple[Kfp, str], capsys: pytest.CaptureFixture[str]
) -> None:
    played, host = kfp
    assert main([*arguments, "--host", host]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"submit: {said}")
    assert "word" not in line.replace("password", "")
    assert (played.versions, played.runs) == ([], [])


def test_parameters_come_from_a_file_and_the_command_line_wins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.json").write_text('{"checkpoint_every": 50, "distribution": "mirrored"}')
    more = ["--parameters", str(tmp_path / "p.json"), "-p", "checkpoint_every=60", "--validate", "--json"]
    assert main(["training-gpu", *more]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == {"checkpoint_every": 60, "distribution": "mirrored"}


def test_a_token_goes_to_the_host_alone_and_into_no_message(
    kfp: tuple[Kfp, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens: list[str | None] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Sends every request on, with no word about the token."""
            tokens.append(self.headers["authorization"])
            self.send_response(302)
            self.send_header("location", f"http://127.0.0.1:{other.server_port}/again")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    other = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    monkeypatch.setenv("KFP_TOKEN", "secret")
    assert main([*PROMOTION, "--host", f"http://127.0.0.1:{other.server_port}"]) == 2
    other.shutdown()
    assert tokens == ["Bearer secret"]
    assert "does not answer as KFP does (status 302); set KFP_TOKEN" in capsys.readouterr().err
    monkeypatch.setenv("KFP_TOKEN", "secret\nhost: elsewhere")
    assert main([*PROMOTION, "--host", kfp[1]]) == 2
    message = capsys.readouterr().err
    assert "KFP_TOKEN: has characters that no header may have" in message
    assert "secret" not in message


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_pipeline_can_be_submitted_with_what_it_needs_alone(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = {"promotion": ["gitops=/r.git", "bundles=/b"], "training-on-nodes": ["claim=c"]}.get(name, [])
    assert main([name, "--validate", *(word for one in needed for word in ("-p", one))]) == 0
    assert capsys.readouterr().out == f"{name}: all parameters are in range\n"


def test_a_switch_is_given_as_true_or_false(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["materialize", "-p", "tables=False", "--validate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == {"tables": False}
