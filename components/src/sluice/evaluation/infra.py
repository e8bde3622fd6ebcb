"""Infra validation: does the real server load this bundle and answer as the offline model does?"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import polars as pl

from sluice.arrays import Floats
from sluice.child_process import ChildServer
from sluice.content import write_json
from sluice.documents.model import FrozenDocument
from sluice.errors import BadInput, SluiceError, one_line
from sluice.models.bundle import Bundle, load_bundle
from sluice.models.request import MAX_BODY_BYTES, columns_of
from sluice.targets.kind import AnswerField

TOLERANCE = 1e-6
"""Largest difference of a served number to the offline one, as a part of the column's largest where that is over 1."""
_ROWS = 32
_LATENCY_REQUESTS = 200
_READY_TIMEOUT_S = 300.0
"""One that ends is noticed at once; on a busy machine a start takes a minute."""
_DIFFERENCES = ("difference_v1", "difference_v2", "difference_single")
_JSON = {"content-type": "application/json"}


class InfraTiming(FrozenDocument):
    """What the clock said; differs from run to run."""

    start_s: float
    latency_p50_ms: float
    latency_p99_ms: float
    requests: int
    stop_s: float


class InfraReport(FrozenDocument):
    """
    What the server did. Everything but ``timing`` is the same for the same bundle and frame.

    Written as ``infra.json`` (without ``timing``) and ``infra_timing.json``.
    """

    digest: str
    passed: bool
    reasons: tuple[str, ...]
    """What failed, one sentence each; empty when passed."""
    rows: int
    tolerance: float
    difference_v1: float | None
    difference_v2: float | None
    difference_single: float | None
    """Largest absolute difference to the offline answer: one batch by V1, by V2, and single requests by V1."""
    refused: dict[str, int]
    """HTTP status by bad request; each must be 400, 413 or 415."""
    ended: str
    """How the server ended: SIGTERM, SIGKILL or exited."""
    timing: InfraTiming | None


def infra_validate(
    bundle_dir: Path, digest: str, frame_dir: Path, server_command: Sequence[str], out: Path
) -> InfraReport:
    """
    Start the server on the bundle, ask it, compare, measure, stop it.

    Args:
        bundle_dir: the bundle's directory.
        digest: what it must be.
        frame_dir: holds ``frame.parquet``; 32 rows of its split ``test``, evenly spread, are asked.
        server_command: ``[python, -m, sluice_serving.predictor]``.
        out: receives the report and the server's output.

    Raises:
        BadArtifact: the bundle is not what its digest says.
        BadInput: the frame has no test rows with the model's features.
    """
    bundle = load_bundle(bundle_dir, digest)
    rows = _test_rows(frame_dir, bundle)
    out.mkdir(parents=True, exist_ok=True)
    command = [*server_command, "--bundle", str(bundle_dir), "--digest", digest]
    command += ["--model_name", bundle.manifest.task, "--http_port", "0"]
    start = time.perf_counter()
    server = ChildServer(command, out / "server.log")
    try:
        findings = _examine(server, bundle, rows, start)
    except (SluiceError, OSError, http.client.HTTPException) as error:
        findings = {"reasons": (f"the server did not answer: {error}",)}
    stopping = time.perf_counter()
    findings["ended"] = server.stop()
    report = _report(digest, len(rows), findings, time.perf_counter() - stopping)
    write_json(out / "infra.json", report.model_dump(mode="json", exclude={"timing"}))
    write_json(out / "infra_timing.json", report.timing.model_dump(mode="json") if report.timing else {})
    return report


def _test_rows(frame_dir: Path, bundle: Bundle) -> list[dict[str, Any]]:
    names = bundle.manifest.features.names
    path = frame_dir / "frame.parquet"
    try:
        test = pl.scan_parquet(path).filter(pl.col("split") == "test").select("example_id", *names).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = one_line(error, 200)
        raise BadInput(str(path), f"has no test rows with the model's features ({reason})", "rebuild it") from error
    if test.is_empty():
        raise BadInput(str(path), "has no rows of split test", "build features over the test window")
    test = test.sort("example_id")
    indices = np.linspace(0, len(test) - 1, min(_ROWS, len(test))).astype(int)
    requests = plain_rows(test[indices].select(names))
    return requests[: max(1, MAX_BODY_BYTES // (2 * max(len(json.dumps(row, default=str)) for row in requests)))]


def plain_rows(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: it knows no NaN, and the encoder takes null as missing too."""
    return rows.with_columns(pl.col(pl.Float32, pl.Float64).fill_nan(None)).to_dicts()


def _examine(server: ChildServer, bundle: Bundle, rows: list[dict[str, Any]], start: float) -> dict[str, Any]:
    """All questions to a running server; the fields of the report that they settle."""
    address = urlsplit(server.wait_ready(_READY_TIMEOUT_S)).netloc
    # Not httpx or urllib3, whose own time (0.3 to 0.7 ms more a request) would be in the latency that is measured.
    connection = http.client.HTTPConnection(address, timeout=20)
    path = f"/v1/models/{bundle.manifest.task}:predict"
    _wait_loaded(connection, bundle)
    start_s = time.perf_counter() - start
    expected = _expected(bundle, rows)
    first = _scores_v1(connection, path, rows, bundle)
    second = _scores_v2(connection, f"/v2/models/{bundle.manifest.task}/infer", rows, bundle)
    single, taken_ms = _singles(connection, path, rows, bundle)
    p50, p99 = np.quantile(taken_ms, [0.5, 0.99])
    return {
        "difference_v1": _difference(first, expected),
        "difference_v2": _difference(second, expected),
        "difference_single": _difference(single, expected[np.arange(len(single)) % len(rows)]),
        "refused": _bad_requests(connection, path, rows[0]),
        "start_s": start_s,
        "latency": (float(p50), float(p99)),
    }


def _wait_loaded(connection: http.client.HTTPConnection, bundle: Bundle) -> None:
    _, answer = _exchange(connection, "GET", "/-/sluice", b"")
    digest = json.loads(answer).get("digest")
    if digest != bundle.digest:
        raise BadInput("the server", f"serves {digest}, not {bundle.digest}", "start it on the bundle")


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes, headers: Mapping[str, str] = _JSON
) -> tuple[int, bytes]:
    connection.request(method, path, body, dict(headers))
    response = connection.getresponse()
    return response.status, response.read()


def _answer(connection: http.client.HTTPConnection, path: str, document: dict[str, Any]) -> Any:
    status, answer = _exchange(connection, "POST", path, json.dumps(document).encode())
    if status != 200:
        raise BadInput(f"request to {path}", f"got status {status}", answer.decode("utf-8", "replace")[:200])
    return json.loads(answer)


def _expected(bundle: Bundle, rows: list[dict[str, Any]]) -> Floats:
    """(n, numbers) what the server should say."""
    predictions = bundle.predict(columns_of(rows, bundle.manifest.features.names)).reshape(len(rows), -1)
    return _numbers(bundle, bundle.target.answer(predictions, bundle.manifest.threshold), len(rows))


def _numbers(bundle: Bundle, answer: Mapping[str, list[Any]], n: int) -> Floats:
    """(n, numbers) those of an answer, given by its fields."""
    fields = _fields(bundle)
    return np.hstack([np.asarray(answer[field.name], np.float64).reshape(n, field.size) for field in fields])


def _fields(bundle: Bundle) -> list[AnswerField]:
    """Of an answer, those that are numbers."""
    return [field for field in bundle.target.answers if field.datatype == "FP64"]


def _scores_v1(connection: http.client.HTTPConnection, path: str, rows: list[dict[str, Any]], bundle: Bundle) -> Floats:
    answer = _answer(connection, path, {"instances": rows})["predictions"]
    fields = {field.name: [each[field.name] for each in answer] for field in _fields(bundle)}
    return _numbers(bundle, fields, len(answer))


def _scores_v2(connection: http.client.HTTPConnection, path: str, rows: list[dict[str, Any]], bundle: Bundle) -> Floats:
    tensors = [
        {
            "name": feature.name,
            "shape": [len(rows), *feature.kind.row_shape],
            "datatype": feature.kind.datatype,
            "data": [row[feature.name] for row in rows],
        }
        for feature in bundle.manifest.features.features
    ]
    answer = _answer(connection, path, {"inputs": tensors})
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    return _numbers(bundle, outputs, len(rows))


def _singles(
    connection: http.client.HTTPConnection, path: str, rows: list[dict[str, Any]], bundle: Bundle
) -> tuple[Floats, list[float]]:
    """Answers and milliseconds of single requests, one after the other on one connection."""
    answers: list[Floats] = []
    milliseconds: list[float] = []
    for i in range(_LATENCY_REQUESTS):
        start = time.perf_counter()
        answers.append(_scores_v1(connection, path, [rows[i % len(rows)]], bundle))
        milliseconds.append((time.perf_counter() - start) * 1000)
    return np.vstack(answers), milliseconds


def _bad_requests(connection: http.client.HTTPConnection, path: str, row: dict[str, Any]) -> dict[str, int]:
    """The status of each of a handful of requests that break the contract."""
    name = next(iter(row))
    bodies = {
        "not JSON": b"{",
        "no instances": b'{"instances": []}',
        "an unknown field": json.dumps({"instances": [{**row, "no such field": 1}]}).encode(),
        "a missing field": json.dumps({"instances": [{k: v for k, v in row.items() if k != name}]}).encode(),
        "a wrong type": json.dumps({"instances": [{**row, name: [1]}]}).encode(),
        "NaN": json.dumps({"instances": [{**row, name: float("nan")}]}).encode(),
    }
    statuses = {thing: _exchange(connection, "POST", path, body)[0] for thing, body in bodies.items()}
    text = {"content-type": "text/plain"}
    statuses["not declared as JSON"] = _exchange(connection, "POST", path, b"{}", text)[0]
    return statuses


def _difference(scores: Floats, expected: Floats) -> float:
    if len(scores) != len(expected):
        raise BadInput("the server", f"gave {len(scores)} answers to {len(expected)} rows", "see server.log")
    return float(np.max(np.abs(scores - expected) / np.maximum(1.0, np.abs(expected).max(axis=0))))


def _report(digest: str, rows: int, findings: dict[str, Any], stop_s: float) -> InfraReport:
    reasons = list(findings.get("reasons", ()))
    for kind in _DIFFERENCES:
        difference = findings.get(kind)
        if difference is not None and not difference <= TOLERANCE:
            reasons.append(f"{kind} to the offline answers is {difference:.3g}, over {TOLERANCE:g}")
    for thing, status in findings.get("refused", {}).items():
        if status not in (400, 413, 415):
            reasons.append(f"a request with {thing} got status {status}, expected 400")
    if findings["ended"] != "SIGTERM":
        reasons.append(f"the server ended by {findings['ended']}, expected SIGTERM")
    timing = None
    if "latency" in findings:
        p50, p99 = findings["latency"]
        timing = InfraTiming(
            start_s=round(findings["start_s"], 3),
            latency_p50_ms=round(p50, 4),
            latency_p99_ms=round(p99, 4),
            requests=_LATENCY_REQUESTS,
            stop_s=round(stop_s, 3),
        )
    return InfraReport(
        digest=digest,
        passed=not reasons,
        reasons=tuple(reasons),
        rows=rows,
        tolerance=TOLERANCE,
        **{kind: findings.get(kind) for kind in _DIFFERENCES},
        refused=findings.get("refused", {}),
        ended=findings["ended"],
        timing=timing,
    )
