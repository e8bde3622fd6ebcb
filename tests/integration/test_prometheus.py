"""A real Prometheus says what the prediction log says: to the last count, over restarts, and with the same verdict."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sluice.documents.event_time import iso
from sluice.documents.evidence import Evidence
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Verdict
from sluice.prometheus.source import PrometheusSource
from tests.support.evidence import decided, same_counts, same_moments, same_verdict, source_of
from tests.support.patience import wait_until
from tests.support.prometheus_town import POLICY, Town, applied_of, town_in


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with town_in(tmp_path_factory.mktemp("town")) as found:
        yield found


def both(town: Town, state: ReleaseState) -> tuple[Evidence, Evidence]:
    """The same stage from the log, and from Prometheus once that has seen everything."""
    now = datetime.now(UTC)
    logged = town.log_source().read(state, POLICY, applied_of(state), now)
    town.join(logged)
    town.settle()
    town.wait_for_scrape("exposition")  # in a phase of its own
    return logged, source_of(town).read(state, POLICY, applied_of(state), datetime.now(UTC))


def test_shadow_says_the_same_from_both(town: Town) -> None:
    state = town.state(since := town.settle(), "shadow", 0)
    town.route(state)
    town.send(state, since, 300, cursed=6)
    logged, scraped = both(town, state)
    assert logged.candidate is not None
    assert (logged.candidate.n, logged.candidate.errors, logged.split) == (300, 6, (0, 300))
    same_counts(logged, scraped)
    same_moments(logged.pairs.loss, scraped.pairs.loss)
    same_moments(logged.pairs.shift, scraped.pairs.shift)
    assert same_verdict(state, logged, scraped).verdict is Verdict.PASS


def test_what_the_candidate_refuses_alone_fails_it_from_both(town: Town) -> None:
    state = town.state(since := town.settle(), "shadow", 0)
    town.route(state)
    town.send(state, since, 300, refused=5, odd=100)
    logged, scraped = both(town, state)
    ours, theirs = logged.candidate, logged.stable
    assert ours is not None
    assert theirs is not None
    assert (ours.n, ours.refused, ours.refused_alone, ours.errors, ours.answered) == (300, 105, 100, 100, 195)
    assert (theirs.n, theirs.refused, theirs.refused_alone, theirs.errors) == (300, 5, 0, 0)
    same_counts(logged, scraped)
    advice = same_verdict(state, logged, scraped)
    assert [one.rule for one in advice.reasons if one.verdict is Verdict.FAIL] == ["error_rate"]


def test_a_canary_that_fails_fails_from_both(town: Town) -> None:
    state = town.state(since := town.settle(), "canary", 40)
    town.route(state)
    town.send(state, since, 400, cursed=200, refused=4)
    logged, scraped = both(town, state)
    same_counts(logged, scraped)
    assert logged.slices.keys() == {"colour=blue", "colour=green", "colour=red"}
    advice = same_verdict(state, logged, scraped)
    assert advice.verdict is Verdict.FAIL
    assert any(one.rule.startswith("error_rate") and one.verdict is Verdict.FAIL for one in advice.reasons)


def test_counts_are_exact_over_a_restart_and_it_shows(town: Town) -> None:
    state = town.state(since := town.settle(), "canary", 40)
    town.route(state)
    town.send(state, since, 200, cursed=20)
    town.settle()  # what a server counted after its last scrape is lost with it
    town.servers["candidate"].stop()
    town.start("candidate")
    town.send(state, town.settle(), 300, cursed=15)
    logged, scraped = both(town, state)
    same_counts(logged, scraped)
    assert scraped.candidate is not None
    assert (scraped.candidate.restarts, scraped.stable and scraped.stable.restarts) == (1, 0)
    assert scraped.candidate.hours == pytest.approx((datetime.now(UTC) - since).total_seconds() / 3600, rel=0.2)
    same_verdict(state, logged, scraped)


def test_what_ran_before_the_stage_is_not_counted(town: Town) -> None:
    before = town.state(start := town.settle(), "canary", 40)
    town.route(before)
    town.send(before, start, 50)
    state = town.state(town.settle(), "canary", 40)
    town.settle()
    scraped = source_of(town, joined=False).read(state, POLICY, applied_of(state), datetime.now(UTC))
    assert scraped.problems == ()
    assert scraped.split == (0, 0)
    assert decided(state, scraped).verdict is Verdict.INCONCLUSIVE


def test_an_answer_of_a_digest_that_is_not_released_is_foreign(town: Town) -> None:
    state = town.state(town.settle(), "canary", 40)
    connection = http.client.HTTPConnection(f"127.0.0.1:{town.ports['candidate']}")
    headers = {"content-type": "application/json", "x-sluice-route": "stable"}
    body = b'{"instances": [{"amount": 1, "visits": 2, "colour": "red"}, {"amount": 2, "visits": 2, "colour": "red"}]}'
    connection.request("POST", "/v1/models/tiny:predict", body, headers)
    assert connection.getresponse().status == 200
    town.settle()
    scraped = source_of(town, joined=False).read(state, POLICY, applied_of(state), datetime.now(UTC))
    assert (scraped.problems, scraped.foreign) == ((), 2)


def test_clients_cannot_make_series(town: Town) -> None:
    def series() -> list[bytes]:
        connection = http.client.HTTPConnection(f"127.0.0.1:{town.ports['stable']}")
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().splitlines()
        assert any(line.startswith(b"request_predict_seconds_bucket") for line in lines), "kserve's own stay"
        return sorted(line.rpartition(b" ")[0] for line in lines if line.startswith(b"sluice_"))

    before = series()
    for i in range(20):
        connection = http.client.HTTPConnection(f"127.0.0.1:{town.ports['stable']}")
        headers = {"content-type": "application/json", "x-sluice-route": f'ro"u{i}te', "x-sluice-rollout": f"r{i}"}
        connection.request("POST", "/v1/models/tiny:predict", b"{}", headers | {"x-request-id": f"q{i}"})
        assert connection.getresponse().status == 400
    assert series() == before
    other = [line for line in before if b'route="other"' in line and b"sluice_requests_total" in line]
    assert len(other) == 4


def test_a_label_job_that_stopped_is_seen(town: Town) -> None:
    state = town.state(since := town.settle(), "canary", 40)
    town.route(state)
    town.send(state, since, 60)
    logged = town.log_source().read(state, POLICY, applied_of(state), datetime.now(UTC))
    town.join(logged.model_copy(update={"now": iso(datetime.now(UTC) - timedelta(hours=2))}))
    town.settle()
    town.wait_for_scrape("exposition")
    scraped = source_of(town).read(state, POLICY, applied_of(state), datetime.now(UTC))
    assert len(scraped.problems) == 1
    assert "hours old" in scraped.problems[0]
    town.joined.write_text("{}")
    town.wait_for_scrape("exposition")
    source = PrometheusSource(town.api, settle_seconds=0, fresh_seconds=1)

    def missing() -> bool:
        return bool(source.read(state, POLICY, applied_of(state), datetime.now(UTC)).problems)

    wait_until("a join that is gone for more than a second is a problem", missing)


def test_a_prometheus_that_dies_leaves_a_problem_and_no_verdict(town: Town) -> None:
    state = town.state(since := town.settle(), "canary", 40)
    town.route(state)
    town.send(state, since, 300, cursed=250)
    town.settle()
    source = source_of(town, joined=False)
    assert decided(state, source.read(state, POLICY, applied_of(state), datetime.now(UTC))).verdict is Verdict.FAIL
    town.kill_prometheus()
    try:
        found = source.read(state, POLICY, applied_of(state), datetime.now(UTC))
        advice = decided(state, found)
        assert found.problems == ("prometheus: time(): no answer (ConnectionRefusedError), 4 times in a row",)
        assert (advice.action, advice.verdict) == ("wait", Verdict.INCONCLUSIVE)
        assert Path(town.home / "tsdb").is_dir()
    finally:
        town.start_prometheus()
    town.settle()
    again = source.read(state, POLICY, applied_of(state), datetime.now(UTC))
    assert (again.problems, decided(state, again).verdict) == ((), Verdict.FAIL)


def test_a_server_that_died_is_a_problem_and_not_a_quiet_success(town: Town) -> None:
    state = town.state(since := town.settle(), "canary", 40)
    town.route(state)
    town.send(state, since, 200)
    town.settle()
    town.servers.pop("candidate").stop()
    try:
        town.settle()
        found = source_of(town, joined=False).read(state, POLICY, applied_of(state), datetime.now(UTC))
        assert "no server of sha256:" in found.problems[0]
        assert decided(state, found).verdict is Verdict.INCONCLUSIVE
    finally:
        town.start("candidate")
