"""The step that submits a training to a cluster; what it does on one is in ``tests/cluster``."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from kubernetes import config

from sluice.steps import patience
from tests.support.train_job import TrainOnNodes


def test_an_unknown_operator_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = TrainOnNodes("PyTorchJob", "nowhere", tmp_path)
    step.ends()
    assert isinstance(step.error, SystemExit)
    assert "choose TrainJob or TFJob" in capsys.readouterr().err


@pytest.mark.parametrize(
    "answer",
    [
        (403, 2, "sluice: BadInput: trainingruntimes.trainer.kubeflow.org in runs: the API server answers 403"),
        (404, 2, "install the operator, and let the step's service account create and get them"),
        (503, 1, "sluice: Unavailable: "),
        (429, 1, "sluice: Unavailable: "),
    ],
)
def test_an_operator_that_does_not_let_us_is_told_from_one_that_does_not_answer(
    answer: tuple[int, int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, code, says = answer
    monkeypatch.setattr(patience, "PAUSES", (0.0,))
    with answering(status) as server:
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": {"server": server}}],
            "users": [{"name": "it", "user": {}}],
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
        for module in (config, config.kube_config):  # read of the environment when they are imported
            monkeypatch.setattr(module, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
        step = TrainOnNodes("TrainJob", "runs", tmp_path)
        step.ends()
    assert isinstance(step.error, SystemExit)
    assert step.error.code == code
    line = capsys.readouterr().err.splitlines()[-1]
    assert says in line


@contextlib.contextmanager
def answering(status: int) -> Iterator[str]:
    """An API server that answers everything with one status."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
