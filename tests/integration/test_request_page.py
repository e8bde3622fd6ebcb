"""``sluice serve``: a model on this machine, and a page on which it is asked."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import urllib3

from sluice.models.bundle import load_bundle
from sluice.workspace import Workspace
from sluice_local.request_page import ROWS, page_of, request_names, sample_requests
from tests.support.command import MAIN, sluice
from tests.support.forked import AS_A_COMMAND
from tests.support.patience import code_of, wait_until, work_of
from tests.support.tiny_bundle import FEATURES, tiny_rows, write_tiny_bundle


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, and a run whose frame has 30 rows of the test split."""
    home = tmp_path_factory.mktemp("home")
    write_tiny_bundle(home / "bundles")
    begin = datetime(2024, 5, 1, tzinfo=UTC)
    rows = [
        row | {"shop": "ash", "event_time": begin + timedelta(hours=i), "label": i % 2, "split": "test"}
        for i, row in enumerate(tiny_rows(30))
    ]
    (home / "runs/first").mkdir(parents=True)
    frame = pl.DataFrame(rows).with_columns(pl.col("amount").fill_null(float("nan")))
    frame.write_parquet(home / "runs/first/frame.parquet")
    (home / "runs/first/inputs.json").write_text(json.dumps({"frame": str(home / "runs/first")}))
    return home


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    (bundle,) = (home / "bundles").iterdir()
    begin = bundle.name.removeprefix("sha256-")[:6]
    with (home / "serve.log").open("wb") as log:
        command = [sys.executable, "-c", AS_A_COMMAND + MAIN, "serve", begin]
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=home, env={"SLUICE_HOME": str(home), "PATH": "/usr/bin:/bin"}
        )
    said = home / "serve.log"
    wait_until("it says where", lambda: "/\n" in said.read_text(), progress=lambda: work_of(process.pid))
    yield said.read_text().strip()
    process.send_signal(signal.SIGINT)
    assert code_of(process) in (0, 130)
    assert "Traceback" not in said.read_text()


def test_the_page_has_rows_and_the_model_answers_them(home: Path, address: str) -> None:
    page = urllib3.request("GET", address)
    assert page.status == 200
    assert "src=" not in page.data.decode(), "nothing is loaded from elsewhere"
    rows = sample_requests(Workspace(home), FEATURES.names)
    assert json.dumps(rows[0]["instance"])[1:-1] in page.data.decode()
    (bundle,) = (home / "bundles").iterdir()
    answer = urllib3.request(
        "POST",
        f"{address}v1/models/tiny:predict",
        json={"instances": [row["instance"] for row in rows]},
        headers={"x-sluice-time": rows[0]["time"]},
    )
    assert answer.status == 200, answer.data
    served = [row["score"] for row in answer.json()["predictions"]]
    offline = load_bundle(bundle).predict(pl.DataFrame([row["instance"] for row in rows], infer_schema_length=None))
    assert served == pytest.approx(offline.ravel().tolist(), abs=1e-6)


@pytest.mark.parametrize("path", ["-/routes", "-/sluice", "v3/x", "metrics"])
def test_nothing_else_is_there(address: str, path: str) -> None:
    assert urllib3.request("GET", address + path).status == 404


def test_nothing_asked_is_logged(home: Path, address: str) -> None:
    assert urllib3.request("GET", address).status == 200
    assert not (home / "predictions").exists()


def test_rows_are_the_last_of_the_test_split(home: Path) -> None:
    rows = sample_requests(Workspace(home), FEATURES.names)
    assert len(rows) == ROWS
    assert rows[-1]["time"] == "2024-05-02T05:00:00Z"
    assert rows[4]["instance"]["amount"] is None, "a NaN of the frame"


def test_without_a_run_there_is_a_row_of_nulls(tmp_path: Path) -> None:
    assert sample_requests(Workspace(tmp_path), ("a", "b")) == [
        {"instance": {"a": None, "b": None}, "time": None, "label": None}
    ]


def test_where_features_are_read_an_instance_carries_keys_and_inputs() -> None:
    assert request_names(FEATURES, online=True) == ("shop", "amount")
    assert request_names(FEATURES, online=False) == ("amount", "visits", "colour")


def test_what_rows_say_ends_no_script(home: Path) -> None:
    (bundle,) = (home / "bundles").iterdir()
    page = page_of(load_bundle(bundle), [{"instance": {"colour": "</script><b>"}, "time": None, "label": None}])
    assert "</script><b>" not in page


def test_a_port_that_is_taken_and_a_digest_of_none_are_one_line(home: Path) -> None:
    (bundle,) = (home / "bundles").iterdir()
    environment = {"SLUICE_HOME": str(home), "PATH": "/usr/bin:/bin"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = sluice("serve", bundle.name.replace("-", ":"), "--port", port, env=environment, cwd=home)
    assert done.returncode == 2
    assert done.stderr.startswith(f"sluice: --port {port}: cannot be listened on (")
    done = sluice("serve", "ffff", env=environment, cwd=home)
    assert done.returncode == 2
    assert "is the beginning of 0 digests" in done.stderr
