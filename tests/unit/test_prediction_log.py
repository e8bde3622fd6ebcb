"""The prediction log survives kills and full disks, and a window is the same however often it was sent."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from sluice.predictions.log import (
    WINDOW_SCHEMA,
    LogWriter,
    PredictionRecord,
    log_sizes,
    read_lines,
    window_frame,
    window_path,
    write_window,
)
from sluice.predictions.windows import list_windows, read_window

NOON = datetime(2013, 8, 1, 12, tzinfo=UTC)
_STATUSES = (400, 413, 503, 200)


def record(number: int, **changed: Any) -> PredictionRecord:
    values: dict[str, Any] = {
        "request_id": f"r{number}",
        "event_time": NOON,
        "route": "stable",
        "rollout": "r1",
        "digest": "sha256:aa",
        "score": number / 10,
        "status": 200,
        "latency_ms": 1.5,
        "features": {"b": 1, "a": None},
        "missing": ["a"],
        "stale": [],
        "keys": {"shop": "oak"},
        "as_of": {"shops": datetime(2024, 4, 10, 0, 0, 0, 7, tzinfo=UTC)},
    }
    return PredictionRecord(**values | changed)


def test_an_answer_stays_before_a_failure_and_that_before_a_refusal() -> None:
    lines = [orjson.loads(record(1, status=status, score=None if status > 200 else 0.5).line()) for status in _STATUSES]
    kept = [window_frame(lines[:n])["status"].to_list() for n in (1, 2, 3, 4)]
    assert kept == [[400], [400], [503], [200]]


def test_lines_come_back_as_a_sorted_window(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log" / "a.jsonl")
    writer.write([record(2)])
    before = log_sizes(tmp_path / "log")
    writer.write([record(3), record(1), record(1, route="shadow", digest="sha256:bb")])
    frame = window_frame(read_lines(tmp_path / "log", before))
    assert frame.select("request_id", "route").rows() == [("r1", "shadow"), ("r1", "stable"), ("r3", "stable")]
    assert dict(frame.schema) == dict(WINDOW_SCHEMA)
    first = frame.row(0, named=True)
    assert (first["features"], first["missing"], first["stale"]) == ('{"a":null,"b":1}', 1, 0)
    assert (first["event_time"], first["as_of"]) == (NOON, '{"shops":"2024-04-10T00:00:00.000007Z"}')


def test_a_request_that_was_answered_twice_counts_once_and_an_answer_beats_a_failure(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "a.jsonl")
    writer.write([record(1, score=None, status=500), record(1), record(1, latency_ms=9.0)])
    frame = window_frame(read_lines(tmp_path, {}))
    assert frame.select("status", "latency_ms").rows() == [(200, 1.5)]


def test_half_a_line_of_a_killed_server_spoils_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(record(1).line() + record(2).line()[:40])
    LogWriter(path).write([record(3)])
    assert [line["request_id"] for line in read_lines(tmp_path, {})] == ["r1", "r3"]


def test_what_was_written_survives_sigkill(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from sluice.predictions.log import LogWriter
from tests.unit.test_prediction_log import record
writer = LogWriter(Path({str(tmp_path / "a.jsonl")!r}))
for number in range(100):
    writer.write([record(number)])
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(read_lines(tmp_path, {})) == 100


def test_a_full_disk_loses_only_what_exceeds_the_buffer(tmp_path: Path) -> None:
    line = len(record(1000).line())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    writer = LogWriter(tmp_path / "a.jsonl")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (line + line // 2, hard))
        for number in range(1000, 2500):
            writer.write([record(number)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert 0 < writer.dropped < 600
    writer.write([record(9999)])
    whole = [found["request_id"] for found in read_lines(tmp_path, {})]
    assert whole[0] == "r1000"
    assert whole[-1] == "r9999"
    assert len(whole) >= 1000


def test_the_same_window_is_the_same_bytes(tmp_path: Path) -> None:
    lines = [orjson.loads(record(number).line()) for number in range(50)]
    paths = [window_path(tmp_path / name, NOON, NOON.replace(hour=14)) for name in "ab"]
    write_window(paths[0], window_frame(lines))
    write_window(paths[1], window_frame(reversed(lines)))
    assert paths[0].name == "20130801T120000Z_20130801T140000Z.parquet"
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert os.listdir(paths[0].parent) == [paths[0].name]  # noqa: PTH208  hidden files count too


def test_a_prediction_of_several_numbers_is_kept_beside_the_score_and_old_logs_read_on(tmp_path: Path) -> None:
    lines = [
        orjson.loads(each.line()) for each in (record(1), record(2, score=None, prediction=[0.25, 0.75]), record(3))
    ]
    assert ["prediction" in line for line in lines] == [False, True, False]
    failed = orjson.loads(record(4, score=None, status=500).line())
    frame = window_frame([*lines, failed])
    said = [(0.1, None), (None, [0.25, 0.75]), (0.3, None), (None, None)]
    assert frame.select("score", "prediction").rows() == said
    start = datetime(2024, 4, 10, 12, tzinfo=UTC)
    path = window_path(tmp_path, start, start + timedelta(hours=1))
    write_window(path, frame.drop("prediction", "as_of"))
    (window,) = list_windows(tmp_path)
    of_before = read_window(window)
    assert of_before.select("score", "prediction").rows() == [(score, None) for score, _ in said]
    assert of_before["as_of"].is_null().all()
