"""Infra validation passes the real server, and fails one that answers something else, nothing, or not at all."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl
import pytest

from sluice.errors import BadInput
from sluice.evaluation.infra import infra_validate
from sluice.steps.infra import infra_page, infra_refusal
from sluice.workspace import bundle_directory
from tests.support.tiny_bundle import tiny_rows, write_tiny_bundle

PREDICTOR = ("-m", "sluice_serving.predictor")
LIAR = """
import http.server, json, signal, sys, time
digest = sys.argv[sys.argv.index("--digest") + 1]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def reply(self, status, document):
        body = json.dumps(document).encode()
        self.wfile.write(b"HTTP/1.1 %d x\\r\\ncontent-length: %d\\r\\n\\r\\n" % (status, len(body)) + body)
    def do_GET(self): self.reply(200, {"digest": digest})
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try: document = json.loads(body)
        except ValueError: return self.reply(500, {})
        rows = document.get("instances") or [None] * (document.get("inputs") or [{"shape": [1]}])[0]["shape"][0]
        scores = [0.5] * len(rows)
        self.reply(200, {"predictions": [{"score": s} for s in scores], "outputs": [{"name": "score", "data": scores}]})
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(f"ready http://127.0.0.1:{server.server_port}", flush=True)
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(6), sys.exit()))  # as on a busy machine
server.serve_forever()
"""


def write_frame(directory: Path) -> Path:
    directory.mkdir()
    frame = pl.DataFrame(tiny_rows(200)).with_columns(
        example_id=pl.format("e{}", pl.int_range(200)),
        split=pl.when(pl.int_range(200) < 100).then(pl.lit("train")).otherwise(pl.lit("test")),
    )
    frame.write_parquet(directory / "frame.parquet")
    return directory


def test_the_real_server_passes_and_is_gone_afterwards(tmp_path: Path) -> None:
    digest = write_tiny_bundle(tmp_path / "b")
    directory, out = bundle_directory(tmp_path / "b", digest), tmp_path / "out"
    report = infra_validate(directory, digest, write_frame(tmp_path / "f"), [sys.executable, *PREDICTOR], out)
    assert infra_refusal(report) == ""
    assert "answers as offline" in infra_page(report, out)
    assert (report.passed, report.reasons, report.rows, report.ended) == (True, (), 32, "SIGTERM")
    assert max(report.difference_v1 or 0, report.difference_v2 or 0, report.difference_single or 0) <= report.tolerance
    assert set(report.refused.values()) <= {400, 415}
    assert report.timing is not None
    assert report.timing.latency_p50_ms <= report.timing.latency_p99_ms
    written = json.loads((out / "infra.json").read_bytes())
    assert "timing" not in written
    assert written["passed"] is True
    assert json.loads((out / "infra_timing.json").read_bytes())["requests"] == 200


def test_a_server_that_answers_something_else_fails(tmp_path: Path) -> None:
    (tmp_path / "liar.py").write_text(LIAR)
    digest = write_tiny_bundle(tmp_path / "b")
    directory = bundle_directory(tmp_path / "b", digest)
    command = [sys.executable, str(tmp_path / "liar.py")]
    report = infra_validate(directory, digest, write_frame(tmp_path / "f"), command, tmp_path / "out")
    assert not report.passed
    assert any(reason.startswith("difference_v1") for reason in report.reasons)
    assert any("got status 200, expected 400" in reason for reason in report.reasons)
    assert infra_refusal(report).startswith(f"{digest}: FAIL by rule infra-validate: difference_v1")
    assert report.ended == "SIGTERM", "who ends slowly is waited for"


def test_a_server_that_does_not_start_fails_with_its_last_words(tmp_path: Path) -> None:
    digest = write_tiny_bundle(tmp_path / "b")
    directory = bundle_directory(tmp_path / "b", digest)
    command = [sys.executable, "-c", "import sys; print('no such disk'); sys.exit(9)"]
    report = infra_validate(directory, digest, write_frame(tmp_path / "f"), command, tmp_path / "out")
    assert not report.passed
    assert "exit code 9; no such disk" in report.reasons[0]
    page = infra_page(report, tmp_path / "out")
    assert page.endswith("\n\n    no such disk\n"), (
        "the server's log is on the page, whatever KFP shows of the artifact"
    )


def test_a_frame_without_test_rows_is_named(tmp_path: Path) -> None:
    digest = write_tiny_bundle(tmp_path / "b")
    directory = bundle_directory(tmp_path / "b", digest)
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "frame.parquet").write_bytes(b"PAR1 truncated")
    with pytest.raises(BadInput, match=r"frame\.parquet"):
        infra_validate(directory, digest, tmp_path / "f", [sys.executable, "-c", ""], tmp_path / "out")
