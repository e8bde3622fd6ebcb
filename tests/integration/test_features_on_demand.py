"""A transform that goes wrong: whose fault it is, whom it takes with it, and who is told."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sluice.child_process import ChildServer
from sluice.documents.event_time import iso
from sluice.errors import BadInput
from sluice.features.parity import FeatureHistory, offline_cells
from sluice.features.store import historical
from sluice.predictions.log import read_lines
from sluice.workspace import bundle_directory
from tests.support.odd_visits import FAULTS, FINE, NAN, NOW, NUMPY, SENSELESS, TASK, write_odd_store
from tests.support.patience import url_of

V1, V2 = "/v1/models/tiny:predict", "/v2/models/tiny/infer"
Instance = Mapping[str, Any]


@dataclass(frozen=True)
class Served:
    """A server on the odd store, on one connection that no failure may close."""

    connection: http.client.HTTPConnection
    home: Path

    def ask(self, path: str, document: Any, name: str) -> tuple[int, Any]:
        """Status and body."""
        headers = {"content-type": "application/json", "x-sluice-time": iso(NOW), "x-request-id": name}
        self.connection.request("POST", path, json.dumps(document), headers)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())

    def first(self, *instances: Instance, name: str = "any") -> tuple[int, Any]:
        """V1."""
        return self.ask(V1, {"instances": instances}, name)

    def second(self, *instances: Instance, name: str = "any") -> tuple[int, Any]:
        """V2."""
        shape = [len(instances)]
        columns = {key: [instance[key] for instance in instances] for key in ("shop", "amount")}
        tensors = [
            {"name": key, "shape": shape, "datatype": kind, "data": columns[key]}
            for key, kind in (("shop", "BYTES"), ("amount", "FP64"))
        ]
        return self.ask(V2, {"inputs": tensors}, name)

    def lines(self, name: str) -> dict[str, dict[str, Any]]:
        """Of the log, by request."""
        lines = read_lines(self.home / "log", {})
        return {line["request_id"]: line for line in lines if line["request_id"].partition("#")[0] == name}

    def told(self, name: str) -> list[dict[str, Any]]:
        """Events on standard error."""
        text = (self.home / "server.log").read_text().splitlines()
        events = [json.loads(line) for line in text if line.startswith("{")]
        return [event for event in events if event.get("request_id") == name]

    def counts(self) -> dict[tuple[str, str], float]:
        """Requests by status and cause; cells that are missing."""
        self.connection.request("GET", "/metrics")
        families = text_string_to_metric_families(self.connection.getresponse().read().decode())
        samples = [sample for family in families for sample in family.samples]
        found = {
            (s.labels["status"], s.labels["cause"]): s.value
            for s in samples
            if s.name == "sluice_requests_total" and s.labels["route"] == "stable"
        }
        return found | {
            ("missing", s.labels["feature"]): s.value for s in samples if s.name == "sluice_feature_missing_total"
        }


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all tests."""
    home = tmp_path_factory.mktemp("odd")
    digest = write_odd_store(home / "store", home / "bundles")
    command = [sys.executable, "-m", "sluice_serving.predictor", "--digest", digest, "--model_name", "tiny"]
    command += ["--bundle", str(bundle_directory(home / "bundles", digest)), "--http_port", "0", "--json_log"]
    command += ["--store", str(home / "store"), "--log", str(home / "log/p.jsonl")]
    child = ChildServer(command, home / "server.log")
    try:
        connection = http.client.HTTPConnection(urlsplit(url_of(child)).netloc, timeout=20)
        connection.connect()
        connection.auto_open = 0
        yield Served(connection, home)
    finally:
        assert child.stop() == "SIGTERM"


def _oak(amount: float) -> Instance:
    return {"shop": "oak", "amount": amount}


def _score(served: Served, visits: int | None, colour: str | None, amount: float = FINE) -> float:
    _, answer = served.first({"amount": amount, "visits": visits, "colour": colour})
    return float(answer["predictions"][0]["score"])


def test_what_the_store_lacks_is_missing_and_nobodys_fault(served: Served) -> None:
    before = served.counts()
    status, answer = served.first({"shop": "yew", "amount": FINE}, _oak(NAN), _oak(FINE), name="absent")
    assert (status, len(answer["predictions"])) == (200, 3)
    scores = [one["score"] for one in answer["predictions"]]
    assert scores[0] == _score(served, None, None)
    assert scores[1:] == [_score(served, None, "red", NAN), _score(served, 30, "red")]
    assert served.lines("absent")["absent#0"]["missing"] == ["visits", "colour"]
    assert served.lines("absent")["absent#1"]["missing"] == ["visits"]
    after = served.counts()
    assert after["5xx", "features"] == before["5xx", "features"]
    assert after["missing", "visits"] - before["missing", "visits"] == 2 + 2  # and two in what they are compared with


@pytest.mark.parametrize("amount", FAULTS)
def test_a_transform_that_fails_is_ours_and_told_and_counted(served: Served, amount: float) -> None:
    name, before = f"alone{amount}", served.counts()
    status, answer = served.first(_oak(amount), name=name)
    assert (status, "on-demand view odd cannot be computed (" in answer["error"]) == (500, True), answer
    [line] = served.lines(name).values()
    assert (line["status"], line["score"], line["keys"]) == (500, None, _oak(amount))
    [event] = served.told(name) or [{"event": "failed", "cause": "features"}]  # at most ten a second
    assert (event["event"], event["cause"]) == ("failed", "features")
    after = served.counts()
    assert after["5xx", "features"] - before["5xx", "features"] == 1
    assert after["4xx", "request"] == before["4xx", "request"]


def test_a_null_that_is_known_and_not_computed_with_is_ours_too(served: Served) -> None:
    status, answer = served.first({"shop": "elm", "amount": FINE})
    assert (status, "TypeError" in answer["error"]) == (500, True)


def test_one_bad_row_takes_no_other_with_it_where_the_protocol_has_a_word_for_it(served: Served) -> None:
    before = served.counts()
    rows = [_oak(NUMPY), _oak(14.0), {"shop": "yew", "amount": FINE}, _oak(10.0), _oak(FINE)]
    status, answer = served.first(*rows, name="batch")
    assert status == 200
    good = _score(served, 30, "red")
    numpy = _score(served, 30, "red", NUMPY)
    assert [one.get("score") for one in answer["predictions"]] == [numpy, None, _score(served, None, None), None, good]
    assert "gives inf for visits, no int" in answer["predictions"][1]["error"]
    assert "IndexError" in answer["predictions"][3]["error"]
    assert {name: line["status"] for name, line in served.lines("batch").items()} == {
        "batch#0": 200,
        "batch#1": 500,
        "batch#2": 200,
        "batch#3": 500,
        "batch#4": 200,
    }
    after = served.counts()
    assert after["5xx", "features"] - before["5xx", "features"] == 2
    assert after["2xx", ""] - before["2xx", ""] == 3 + 3
    assert served.second(*rows[:1], *rows[2:3])[0] == 200
    status, answer = served.second(*rows, name="tensors")
    assert (status, "features of instances[1] and 1 more" in answer["error"]) == (500, True)
    assert {line["status"] for line in served.lines("tensors").values()} == {500}
    assert served.counts()["5xx", "features"] - after["5xx", "features"] == 5


def test_a_value_that_the_transform_itself_refuses_is_the_clients_fault(served: Served) -> None:
    before = served.counts()
    status, answer = served.first(_oak(SENSELESS))
    assert (status, answer["error"]) == (400, "amount: is 99.0, which no order has; send the order's amount")
    after = served.counts()
    assert (after["4xx", "request"] - before["4xx", "request"], after["5xx", "features"]) == (
        1,
        before["5xx", "features"],
    )


def test_training_refuses_what_serving_would_fail_on_and_parity_reads_it_as_missing(served: Served) -> None:
    history = FeatureHistory.of_store(TASK, served.home / "store")

    def rows(*pairs: tuple[str, float]) -> pl.DataFrame:
        frame = pl.DataFrame(pairs, schema={"shop": pl.String, "amount": pl.Float64}, orient="row")
        return frame.with_columns(event_time=pl.lit(NOW + timedelta(minutes=1)).dt.cast_time_unit("us"))

    known = rows(("oak", FINE), ("yew", FINE), ("oak", NAN))
    assert historical(history.feast, history.plan, known)["visits"].to_list() == [30, None, None]
    for amount in (10.0, 14.0, 18.0):
        broken = pl.concat([known, rows(("oak", amount), ("oak", amount))])
        with pytest.raises(
            BadInput, match=r"on-demand view odd: cannot be computed in 2 rows \(first: .*; mend its tr"
        ):
            historical(history.feast, history.plan, broken)
        cells = offline_cells(history, broken, ["visits", "colour"]).cells
        assert cells["visits"].to_list() == [30, None, None, None, None]
