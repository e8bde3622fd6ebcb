"""A real Prometheus scrapes the real servers and exporters: every panel of every dashboard has something to show."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from sluice.documents.evidence import Cells
from sluice.documents.state import ReleaseState
from sluice.monitoring.dashboards import DASHBOARDS
from tests.support.prometheus import answer_of, drawn
from tests.support.prometheus_town import POLICY, Town, applied_of
from tests.support.release_repository import write_held_release
from tests.support.seldon_dashboard import COUNTED, VARIABLES, queries

PANELS = [
    pytest.param(query, id=f"{name}: {panel.title} {number}")
    for name, panels in DASHBOARDS.items()
    for panel in panels
    for number, (query, _) in enumerate(panel.queries)
]


def traffic(town: Town, state: ReleaseState, start: datetime) -> None:
    """A window of good, failing and refused requests, and the join of all so far with their labels."""
    town.send(state, start, 240, cursed=6, refused=4)
    evidence = town.log_source().read(state, POLICY, applied_of(state), datetime.now(UTC))
    town.join(evidence.model_copy(update={"cells": Cells(compared=100, different=1)}))  # it has no store to read again


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    home = tmp_path_factory.mktemp("monitored")
    town = Town(home)
    try:
        town.open()
        state = town.state(since := town.settle(), "shadow", 0)
        town.route(state)
        write_held_release(home / "gitops.git", state)
        town.expose_releases(home / "gitops.git")
        traffic(town, state, since)
        town.settle()
        traffic(town, state, town.settle())
        town.settle()
        for part in ("exposition", "releases"):
            town.wait_for_scrape(part, times=2)  # a rate needs two
        yield town
    finally:
        town.close()


@pytest.mark.parametrize("query", PANELS)
def test_every_panel_of_ours_has_data(town: Town, query: str) -> None:
    assert drawn(town.prometheus, query)


@pytest.mark.parametrize(("panel", "query"), [pytest.param(*asked, id=asked[0]) for asked in queries()])
def test_every_panel_of_the_chart_has_data(town: Town, panel: str, query: str) -> None:
    assert drawn(town.prometheus, query), panel


def test_the_charts_variables_have_values(town: Town) -> None:
    values = {name: answer_of(town.prometheus, f"label/{name}/values", **{"match[]": COUNTED}) for name in VARIABLES}
    digests = sorted(town.digests.values())
    assert values["deployment_name"] == values["model_name"] == values["model_image"] == ["tiny"]
    assert values["predictor_name"] == ["candidate", "stable"]
    assert values["model_version"] == digests
    assert values["predictor_version"] == [digest[7:19] for digest in digests]


def test_the_numbers_are_those_of_the_log(town: Town) -> None:
    def now(query: str) -> float:
        (only,) = answer_of(town.prometheus, "query", query=query)["result"]
        return float(only["value"][1])

    assert now('sum(sluice_requests_refused_total{part="values"})') == 16, "4 in each of 2 windows, by both"
    assert now("sum(sluice_requests_refused_total)") == 16
    failed = now('sum(sluice_requests_total{status="5xx",cause="model"})')
    assert failed == now(f'sum({COUNTED}{{status="500"}})') == 12
    answered = now('sum(sluice_requests_total{status="2xx"})')
    assert now("sum(sluice_score_count)") == now('sum(sluice_score_bucket{le="+Inf"})') == answered
    answer = answer_of(town.prometheus, "query", query="sum by (feature) (sluice_feature_missing_total)")
    missing = {row["metric"]["feature"]: float(row["value"][1]) for row in answer["result"]}
    assert missing.keys() == {"amount", "visits", "colour"}
    assert min(missing.values()) > 0
    rewards = drawn(town.prometheus, "seldon_api_model_feedback_reward_total / seldon_api_model_feedback_total")
    assert 0 < min(rewards) <= max(rewards) < 1


def test_what_git_says_is_exposed(town: Town) -> None:
    found = {}
    for row in answer_of(town.prometheus, "query", query='{__name__=~"sluice_release_.+",environment="dev"}')["result"]:
        name, stage, side = (row["metric"].get(label, "") for label in ("__name__", "stage", "side"))
        found[name, stage, side] = float(row["value"][1])
    stages = {stage: value for (name, stage, _), value in found.items() if name == "sluice_release_stage"}
    assert [stage for stage, value in stages.items() if value] == ["shadow"]
    assert len(stages) == 8
    weights = {side: value for (name, _, side), value in found.items() if name == "sluice_release_weight_percent"}
    assert weights == {"stable": 100, "candidate": 0, "mirror": 100}
    assert found["sluice_release_holds", "", ""] == 1
    assert found["sluice_release_deadline_seconds", "", ""] - found["sluice_release_since_seconds", "", ""] == 72 * 3600
    assert ("sluice_release_decided_seconds", "hold", "") in found
    assert found["sluice_release_unreadable", "", ""] == 0
    served = "sluice_release_digest and on (environment, task, digest) sluice_server_start_time_seconds"
    assert len(answer_of(town.prometheus, "query", query=served)["result"]) == 2, (
        "what alerts compare has the labels to be compared by"
    )


HOSTILE = [
    ("/v1/models/tiny:predict", b"{}", {"x-sluice-route": 'ro"u\\te', "x-sluice-rollout": "r%d"}),
    ("/v1/models/tiny:predict", b'{"instances": [{"f%d": 1}]}', {"x-request-id": "q%d", "user-agent": "u%d"}),
    ("/v1/models/m%d:predict", b"{}", {}),
    ("/v2/models/tiny/infer", b'{"inputs": [{"name": "n%d"}]}', {"traceparent": "00-%d"}),
    ("/metrics/m%d", b"", {"host": "h%d"}),
]


def test_clients_cannot_make_series_and_there_are_as_many_as_the_bundle_has_features(town: Town) -> None:
    def ask(method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
        connection = http.client.HTTPConnection(f"127.0.0.1:{town.ports['stable']}", timeout=20)
        connection.request(method, path, body, {"content-type": "application/json"} | (headers or {}))
        answer: bytes = connection.getresponse().read()
        return answer

    def series() -> list[bytes]:
        lines = ask("GET", "/metrics").splitlines()
        return sorted(line.rpartition(b" ")[0] for line in lines if not line.startswith(b"#"))

    before = series()
    for i in range(10):
        for path, body, headers in HOSTILE:
            number = str(i)
            told = {key: value.replace("%d", number) for key, value in headers.items()}
            ask("POST", path.replace("%d", number), body.replace(b"%d", number.encode()), told)
    assert series() == before
    ours = [line for line in before if line.startswith(b"sluice_")]
    assert sum(line.startswith(b"sluice_feature_") for line in ours) == 2 * 3
    assert len(ours) == 3 * (53 + 2 + 3) + 16 + 1 + 3 * (21 + 2) + 6 + 2 * 3
    assert sum(line.startswith(b"seldon_") for line in before) == 2 * 3 * (19 + 2)
